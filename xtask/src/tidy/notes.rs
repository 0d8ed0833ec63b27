//! Notes left behind: open ends without an issue, and paths of the machine they were written on.

use std::path::Path;

use crate::report::Breach;
use crate::tree::Source;

// Put together here, so that this file does not name what it refuses.
const OPEN_ENDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const HOMES: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

pub fn check(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        if let Some(mark) = open_end(line) {
            let sentence = format!("{mark} needs the number of its issue, as in `{mark}(#12)`");
            breaches.push(Breach::new(&source.path, at + 1, sentence));
        }
        if let Some(home) = HOMES.iter().find(|home| starts_a_path(line, home)) {
            breaches.push(Breach::new(
                &source.path,
                at + 1,
                format!("`{home}…` is a path of somebody's machine"),
            ));
        }
    }
    breaches
}

/// Lines that name the directory this repository happens to lie in.
pub fn root_named(source: &Source, root: &Path) -> Vec<Breach> {
    let place = format!("{}/", root.display());
    // A root like `/src` or `/app` is a word that others may use.
    if root.components().count() < 3 {
        return Vec::new();
    }
    let named = source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains(&place));
    named
        .map(|(at, _)| Breach::new(&source.path, at + 1, "names the path of this checkout"))
        .collect()
}

fn open_end(line: &str) -> Option<&'static str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let found = OPEN_ENDS.iter().copied().find(|mark| {
        line.match_indices(mark).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + mark.len()..].chars().next();
            // A dot before it is somebody's API: Go has `context.` with this name.
            !before.is_some_and(|c| word(c) || c == '.') && !after.is_some_and(word)
        })
    })?;
    let numbered = line
        .match_indices('#')
        .any(|(at, _)| line[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    (!numbered).then_some(found)
}

fn starts_a_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}:".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> usize {
        check(&Source::new("a.rs", line)).len()
    }

    #[test]
    fn an_open_end_without_an_issue_is_refused() {
        for mark in OPEN_ENDS {
            assert_eq!(found(&format!("// {mark}: later")), 1);
            assert_eq!(found(&format!("// {mark}(#7): later")), 0);
            assert_eq!(found(&format!("let {mark}_LIST = context.{mark}();")), 0);
        }
    }

    #[test]
    fn the_path_of_a_machine_is_refused() {
        for home in HOMES {
            assert_eq!(found(&format!("let p = \"{home}me/x\";")), 1, "{home}");
            assert_eq!(found(&format!("let p = \"/var{home}x\";")), 0, "{home}");
        }
    }

    #[test]
    fn the_path_of_the_checkout_is_refused() {
        let source = Source::new("a.sh", "cd /some/where/qwex/server");
        assert_eq!(root_named(&source, Path::new("/some/where/qwex")).len(), 1);
        assert_eq!(root_named(&source, Path::new("/other/qwex")).len(), 0);
        assert_eq!(
            root_named(&Source::new("Dockerfile", "COPY . /src/"), Path::new("/src")).len(),
            0
        );
    }
}
