//! The spec's mounts as an engine's. Paths are checked here once more, whoever checked them before: an engine run by
//! root mounts whatever it is told.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use bollard::models::{Mount as EngineMount, MountTmpfsOptions, MountType};
use qwex_core::resources::memory_bytes;
use qwex_core::{Mount, MountKind};

use crate::engine::Flavor;

/// Where the workspace is in every container.
pub const WORKSPACE: &str = "/workspace";
/// Directories whose cover would break the container or open the machine.
const FORBIDDEN: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

/// Why a mount cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    #[error("the mount target {0:?} must be an absolute path without `.` and `..`, and not {list}", list = FORBIDDEN.join(", "))]
    Target(String),
    #[error("two mounts have the target {0:?}; give each its own")]
    Twice(String),
    #[error("the mount of {target} needs a source: {what}")]
    NoSource { target: String, what: &'static str },
    #[error("the mount source {0:?} must be an absolute path without `.` and `..`")]
    Source(String),
    #[error("{0:?} is no name of a volume; use letters, digits, `_`, `.` and `-`")]
    Volume(String),
    #[error("the mount of {target}: {why}")]
    Size { target: String, why: String },
    #[error("an engine has no {0} to mount; choose bind, volume or empty_dir, or a Kubernetes backend")]
    Kind(&'static str),
    #[error("podman cannot mount {0:?}: its API has no way to say a comma in a path; rename the directory")]
    Comma(String),
}

/// The workspace first, then the spec's mounts.
pub fn mounts(
    workspace: Option<&Path>,
    asked: &[Mount],
    flavor: Flavor,
) -> Result<Vec<EngineMount>, MountError> {
    let own = workspace.map(|dir| EngineMount {
        target: Some(WORKSPACE.to_owned()),
        source: Some(dir.display().to_string()),
        typ: Some(MountType::BIND),
        ..EngineMount::default()
    });
    let mut all: Vec<EngineMount> = own.into_iter().collect();
    for mount in asked {
        all.push(one(mount)?);
    }
    let mut targets = BTreeSet::new();
    for mount in &all {
        let target = mount.target.clone().unwrap_or_default();
        let source = mount.source.clone().unwrap_or_default();
        if flavor == Flavor::Podman
            && let Some(path) = [&target, &source].into_iter().find(|path| path.contains(','))
        {
            return Err(MountError::Comma(path.clone()));
        }
        if !targets.insert(target.trim_end_matches('/').to_owned()) {
            return Err(MountError::Twice(target));
        }
    }
    Ok(all)
}

fn one(mount: &Mount) -> Result<EngineMount, MountError> {
    let target = mount.place();
    if !is_plain(target) || FORBIDDEN.contains(&target) {
        return Err(MountError::Target(mount.target.clone()));
    }
    let typ = match mount.kind {
        MountKind::Bind => MountType::BIND,
        MountKind::Volume => MountType::VOLUME,
        MountKind::EmptyDir => MountType::TMPFS,
        MountKind::Pvc => return Err(MountError::Kind("persistent volume claim")),
        MountKind::ConfigMap => return Err(MountError::Kind("config map")),
        MountKind::Secret => return Err(MountError::Kind("secret")),
        MountKind::Unknown => return Err(MountError::Kind("such thing")),
    };
    Ok(EngineMount {
        target: Some(target.to_owned()),
        source: source(mount)?,
        typ: Some(typ),
        // Left out when unset: podman 4.3 takes any value for a yes.
        read_only: mount.read_only.then_some(true),
        tmpfs_options: tmpfs(mount)?,
        ..EngineMount::default()
    })
}

fn source(mount: &Mount) -> Result<Option<String>, MountError> {
    let missing = |what| MountError::NoSource {
        target: mount.target.clone(),
        what,
    };
    let given = mount.source.as_ref().filter(|source| !source.is_empty());
    match mount.kind {
        MountKind::Bind => {
            let path = given.ok_or_else(|| missing("a path of the machine"))?;
            if is_plain(path) {
                Ok(Some(path.clone()))
            } else {
                Err(MountError::Source(path.clone()))
            }
        }
        MountKind::Volume => {
            let name = given.ok_or_else(|| missing("the name of a volume"))?;
            if is_volume_name(name) {
                Ok(Some(name.clone()))
            } else {
                Err(MountError::Volume(name.clone()))
            }
        }
        MountKind::EmptyDir
        | MountKind::Pvc
        | MountKind::ConfigMap
        | MountKind::Secret
        | MountKind::Unknown => Ok(None),
    }
}

fn tmpfs(mount: &Mount) -> Result<Option<MountTmpfsOptions>, MountError> {
    if mount.kind != MountKind::EmptyDir {
        return Ok(None);
    }
    let Some(size) = &mount.size else { return Ok(None) };
    let bytes = memory_bytes(size).map_err(|error| MountError::Size {
        target: mount.target.clone(),
        why: error.to_string(),
    })?;
    Ok(Some(MountTmpfsOptions {
        size_bytes: i64::try_from(bytes).ok(),
        ..MountTmpfsOptions::default()
    }))
}

/// Absolute, and leads where it says.
fn is_plain(path: &str) -> bool {
    let text = path.trim_end_matches('/');
    let mut parts = Path::new(path).components();
    let root = parts.next() == Some(Component::RootDir);
    root && !path.contains('\0')
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !text.split('/').any(|part| part == ".")
}

fn is_volume_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    first
        && name.len() <= 255
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: MountKind, source: Option<&str>, target: &str) -> Mount {
        Mount {
            kind,
            source: source.map(str::to_owned),
            target: target.to_owned(),
            read_only: false,
            size: None,
        }
    }

    fn refused(mounts_asked: &[Mount]) -> String {
        match mounts(Some(Path::new("/srv/me")), mounts_asked, Flavor::Docker) {
            Ok(made) => panic!("made {made:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn h06_paths_that_lead_elsewhere_are_refused() {
        for target in ["/", "//", "relative", "/a/../etc", "/a/./b", "/proc", "/dev/", ""] {
            assert!(
                refused(&[mount(MountKind::EmptyDir, None, target)]).contains("target"),
                "{target}"
            );
        }
        for source in ["relative", "/a/../etc", "~/x"] {
            let asked = mount(MountKind::Bind, Some(source), "/data");
            assert!(refused(&[asked]).contains("absolute"), "{source}");
        }
        assert!(refused(&[mount(MountKind::Bind, None, "/data")]).contains("needs a source"));
        for name in ["../x", "/etc", "", "a b"] {
            refused(&[mount(MountKind::Volume, Some(name), "/data")]);
        }
        let twice = mount(MountKind::EmptyDir, None, "/workspace/");
        assert!(refused(&[twice]).contains("two mounts"));
        assert!(refused(&[mount(MountKind::Pvc, Some("x"), "/data")]).contains("Kubernetes"));
    }

    #[test]
    fn the_three_kinds_of_engines_are_made() {
        let mut scratch = mount(MountKind::EmptyDir, None, "/scratch");
        scratch.size = Some("1Mi".to_owned());
        let mut data = mount(MountKind::Bind, Some("/srv/data"), "/data");
        data.read_only = true;
        let asked = [data, mount(MountKind::Volume, Some("cache"), "/cache"), scratch];
        let made = mounts(Some(Path::new("/srv/me")), &asked, Flavor::Docker).unwrap();
        assert_eq!(made.len(), 4);
        assert_eq!(made[0].source.as_deref(), Some("/srv/me"));
        assert_eq!(made[1].read_only, Some(true));
        assert_eq!(made[2].typ, Some(MountType::VOLUME));
        assert_eq!(made[3].tmpfs_options.as_ref().unwrap().size_bytes, Some(1 << 20));
    }
}
