//! "Did you mean": reads serde's messages about unknown names and finds the nearest known one.

/// A name that is not known, with those that are.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    pub name: String,
    known: Vec<String>,
}

/// Reads ``unknown field `x`, expected one of `a`, `b` ``.
pub fn unknown_field(message: &str) -> Option<Unknown> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    let name = quoted.next()?.to_owned();
    Some(Unknown {
        name,
        known: quoted.map(str::to_owned).collect(),
    })
}

/// Reads ``missing field `x` ``.
pub fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

impl Unknown {
    /// What to say about it.
    pub fn hint(&self) -> String {
        if let Some(near) = nearest(&self.name, &self.known) {
            return format!("did you mean `{near}`?");
        }
        if self.known.is_empty() {
            "nothing is expected here".to_owned()
        } else {
            format!("known are: {}", self.known.join(", "))
        }
    }
}

fn nearest<'n>(name: &str, known: &'n [String]) -> Option<&'n str> {
    let most = 1 + name.chars().count() / 4;
    let scored = known.iter().map(|word| (distance(name, word), word.as_str()));
    scored
        .filter(|(far, _)| *far <= most)
        .min_by_key(|(far, _)| *far)
        .map(|(_, word)| word)
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(64).collect();
    let to: Vec<char> = to.chars().take(64).collect();
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let changed = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_messages_of_serde() {
        let one = unknown_field("unknown field `imgae`, expected one of `id`, `image`, `env`").unwrap();
        assert_eq!(one.hint(), "did you mean `image`?");
        let far = unknown_field("unknown field `zzz`, expected `id` or `env`").unwrap();
        assert_eq!(far.hint(), "known are: id, env");
        assert_eq!(unknown_field("invalid type: x"), None);
        assert_eq!(missing_field("missing field `command`"), Some("command"));
    }

    #[test]
    fn distances() {
        for (from, to, far) in [
            ("a", "a", 0),
            ("imgae", "image", 1),
            ("", "abc", 3),
            ("queue", "queues", 1),
        ] {
            assert_eq!(distance(from, to), far, "{from} {to}");
        }
    }
}
