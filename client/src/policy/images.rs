//! Whether an image is one of those allowed: as it is written, or by the whole name that engines make of it.

use globset::{GlobBuilder, GlobMatcher};

/// A pattern over image references: `*` stays inside of a part between slashes, `**` does not.
///
/// # Errors
/// It is no pattern.
pub fn glob(text: &str) -> Result<GlobMatcher, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let built = GlobBuilder::new(text).literal_separator(true).build();
    Ok(built.map_err(|error| error.kind().to_string())?.compile_matcher())
}

/// Whether one of the patterns means the image.
#[must_use]
pub fn is_among(image: &str, globs: &[GlobMatcher]) -> bool {
    let whole = whole(image);
    globs
        .iter()
        .any(|glob| glob.is_match(image) || glob.is_match(&whole))
}

/// `python` is `docker.io/library/python:latest`.
fn whole(image: &str) -> String {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        Some(_) | None => ("docker.io", name),
    };
    let is_hub = ["docker.io", "index.docker.io"].contains(&registry);
    let (registry, library) = match (is_hub, rest.contains('/')) {
        (true, false) => ("docker.io", "library/"),
        (true, true) => ("docker.io", ""),
        (false, _) => (registry, ""),
    };
    let is_tagged = rest.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let end = match digest {
        Some(digest) => format!("@{digest}"),
        None if is_tagged => String::new(),
        None => ":latest".to_owned(),
    };
    format!("{registry}/{library}{rest}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_whole_as_engines_do() {
        for (image, full) in [
            ("python", "docker.io/library/python:latest"),
            ("python:3.12", "docker.io/library/python:3.12"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/python", "docker.io/library/python:latest"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00"),
            ("ghcr.io/a/b:1@sha256:00", "ghcr.io/a/b:1@sha256:00"),
        ] {
            assert_eq!(whole(image), full);
        }
    }

    #[test]
    fn a_pattern_means_what_is_written_or_the_whole_name() {
        let among = |image: &str, pattern: &str| is_among(image, &[glob(pattern).unwrap()]);
        assert!(among("python:3.12", "python:*"));
        assert!(among("python:3.12", "docker.io/library/python:*"));
        assert!(among("docker.io/library/python:3", "docker.io/library/*"));
        assert!(among("ghcr.io/team/a/b:1", "ghcr.io/team/**"));
        // A star does not reach into another repository.
        assert!(!among("ghcr.io/team/a/b:1", "ghcr.io/team/*"));
        assert!(!among("evil.example/python:3", "python:*"));
        assert!(!among("python-evil:3", "python:*"));
        assert!(glob("a[").is_err() && glob("").is_err());
    }
}
