//! Rules of mounts that hold on every backend. Whether a backend has the kind, and whether a policy
//! allows the path, is decided elsewhere, before anything starts.

use std::collections::BTreeSet;

use crate::mount::{Mount, MountKind};
use crate::resources::memory_bytes;

use super::{
    DUPLICATE, INVALID, MAX_MOUNTS, MAX_WORKING_DIR_BYTES, Problems, REQUIRED, TOO_LARGE, TOO_LONG, quoted,
};

pub(super) fn check(mounts: &[Mount], problems: &mut Problems) {
    if mounts.len() > MAX_MOUNTS {
        problems.add(
            TOO_LARGE,
            "/mounts",
            format!("{} mounts are more than the most, {MAX_MOUNTS}", mounts.len()),
        );
    }
    let mut targets = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("/mounts/{index}");
        check_source(mount, &at, problems);
        check_path(&mount.target, &format!("{at}/target"), problems);
        check_size(mount, &at, problems);
        if !targets.insert(mount.place()) {
            problems.add(
                DUPLICATE,
                format!("{at}/target"),
                format!("two mounts appear at {}; remove one", quoted(&mount.target)),
            );
        }
    }
}

fn check_source(mount: &Mount, at: &str, problems: &mut Problems) {
    let pointer = format!("{at}/source");
    match (mount.kind, mount.source.as_deref()) {
        (MountKind::Unknown, _) => {
            let known: Vec<&str> = MountKind::ALL.iter().map(|kind| kind.as_str()).collect();
            problems.add(
                INVALID,
                format!("{at}/kind"),
                format!("this is no kind of mount; choose from {}", known.join(", ")),
            );
        }
        (MountKind::EmptyDir, Some(_)) => problems.add(
            INVALID,
            pointer,
            "an empty_dir is made empty for the run and has no source; leave it out",
        ),
        (kind, None | Some("")) if kind.needs_source() => problems.add(
            REQUIRED,
            pointer,
            format!("a mount of kind {kind} needs a source: what is to be mounted"),
        ),
        (MountKind::Bind, Some(path)) => check_path(path, &pointer, problems),
        (MountKind::Volume | MountKind::Pvc | MountKind::ConfigMap | MountKind::Secret, Some(name)) => {
            check_name(mount.kind, name, &pointer, problems);
        }
        (
            MountKind::Bind
            | MountKind::Volume
            | MountKind::EmptyDir
            | MountKind::Pvc
            | MountKind::ConfigMap
            | MountKind::Secret,
            None,
        ) => {}
    }
}

fn check_name(kind: MountKind, name: &str, pointer: &str, problems: &mut Problems) {
    let is_name = name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_name {
        problems.add(
            INVALID,
            pointer,
            format!(
                "{} cannot be the name of a {kind}; use letters, digits, `-`, `_` and `.`, a path needs the kind bind",
                quoted(name)
            ),
        );
    }
}

fn check_path(path: &str, pointer: &str, problems: &mut Problems) {
    let wrong = if path.len() > MAX_WORKING_DIR_BYTES {
        return problems.add(TOO_LONG, pointer, "this path is longer than any system takes");
    } else if !path.starts_with('/') {
        "it is not absolute; begin it with /"
    } else if path.split('/').any(|part| part == "..") {
        "it goes upwards with `..`; write where it leads"
    } else if path.chars().any(char::is_control) {
        "it has a control character; remove it"
    } else if path.trim_end_matches('/').is_empty() {
        "it is the root of everything; name a directory below"
    } else {
        return;
    };
    problems.add(
        INVALID,
        pointer,
        format!("the path {} cannot be mounted: {wrong}", quoted(path)),
    );
}

fn check_size(mount: &Mount, at: &str, problems: &mut Problems) {
    let Some(size) = &mount.size else { return };
    let pointer = format!("{at}/size");
    if mount.kind != MountKind::EmptyDir {
        problems.add(
            INVALID,
            pointer,
            format!("a mount of kind {} has the size it has; leave it out", mount.kind),
        );
    } else if size.len() > 32 || memory_bytes(size).is_err() {
        problems.add(
            INVALID,
            pointer,
            format!("{} is not an amount of bytes; write it like 512Mi", quoted(size)),
        );
    }
}
