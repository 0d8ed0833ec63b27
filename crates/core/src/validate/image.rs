//! The grammar of image references: `[registry[:port]/]path[:tag][@digest]`, as the container engines and
//! the kubelet read it (distribution/reference). Whether the image exists is for the backend to find.

use super::{INVALID, MAX_IMAGE_CHARS, Problems, TOO_LONG, quoted};

pub(super) fn check(image: Option<&str>, problems: &mut Problems) {
    let pointer = "/image";
    let Some(image) = image else { return };
    let length = image.chars().count();
    if length > MAX_IMAGE_CHARS {
        problems.add(
            TOO_LONG,
            pointer,
            format!(
                "the image reference has {length} characters, the most is {MAX_IMAGE_CHARS}; use a shorter one"
            ),
        );
    } else if let Err(why) = parse(image) {
        problems.add(
            INVALID,
            pointer,
            format!(
                "{} is not an image reference: {why}; write it like python:3.12-slim or registry.example.com:5000/team/app:1.2",
                quoted(image)
            ),
        );
    }
}

/// Reads a reference; the error is a clause that says what is wrong with it.
fn parse(image: &str) -> Result<(), &'static str> {
    if image.is_empty() {
        return Err("it is empty");
    }
    if image.chars().any(char::is_whitespace) {
        return Err("it has a space");
    }
    if image.contains("://") {
        return Err("it begins with a scheme, which must be left out");
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("what follows the `@` is not a digest like sha256:… with 64 hex digits");
    }
    let (name, tag) = split_tag(rest);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "the tag must be 1 to 128 letters, digits, `_`, `.` and `-`, and not begin with `.` or `-`",
        );
    }
    check_name(name)
}

/// A colon after the last slash begins a tag; one before it belongs to the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let path = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[path..].find(':') {
        Some(colon) => (&text[..path + colon], Some(&text[path + colon + 1..])),
        None => (text, None),
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        Some(_) | None => (None, name),
    };
    if registry.is_some_and(|registry| !is_host_and_port(registry)) {
        return Err("the registry must be a host name with an optional port");
    }
    if path.is_empty() || name.len() > 255 {
        return Err("the name must have 1 to 255 characters");
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err("the name must be lower-case");
    }
    if !path.split('/').all(is_path_component) {
        return Err(
            "each part of the name must be lower-case letters and digits, joined by one `.`, one or two `_`, or `-`",
        );
    }
    if registry.is_none() && path.len() == 64 && path.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err("it is an image id, which only one machine knows");
    }
    Ok(())
}

/// How the engines tell a registry from the first part of a path.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_host_and_port(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    host.split('.').all(is_host_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_label(label: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    label.chars().all(|c| edge(c) || c == '-') && label.starts_with(edge) && label.ends_with(edge)
}

fn is_path_component(part: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(edge).filter(|between| !between.is_empty());
    let separator_ok =
        |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-');
    part.starts_with(edge) && part.ends_with(edge) && separators.into_iter().all(separator_ok)
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=128).contains(&tag.len())
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// `algorithm:hex`, at least 32 digits; exactly 64 for SHA-256, 128 for SHA-512.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let part_ok = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let length_ok = match algorithm {
        "sha256" => hex.len() == 64,
        "sha512" => hex.len() == 128,
        _ => hex.len() >= 32,
    };
    let hex_ok = hex
        .chars()
        .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    algorithm.split(['-', '_', '+', '.']).all(part_ok) && length_ok && hex_ok
}
