//! How long a file may be.

use crate::report::Breach;
use crate::tree::Source;

const MOST_LINES: usize = 600;
const KINDS: &[&str] = &["rs", "go", "sql", "sh", "py"];

pub fn check(source: &Source) -> Option<Breach> {
    let lines = source.text.lines().count();
    let long = KINDS.contains(&source.kind()) && lines > MOST_LINES;
    long.then(|| {
        let sentence =
            format!("a file has at most {MOST_LINES} lines, this one {lines}: split it by what it knows");
        Breach::new(&source.path, 0, sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_too_many_is_refused() {
        for kind in KINDS {
            let path = format!("a.{kind}");
            assert!(check(&Source::new(&path, &"\n".repeat(MOST_LINES))).is_none());
            assert!(check(&Source::new(&path, &"\n".repeat(MOST_LINES + 1))).is_some());
        }
    }

    #[test]
    fn prose_may_be_long() {
        assert!(check(&Source::new("README.md", &"\n".repeat(5000))).is_none());
    }
}
