//! As whom the embedded Postgres runs: as ourselves, or as another user when we are root, whom it refuses.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, chown};

use super::postgres::DevError;

/// Users that root drops to, the best first.
const INSTEAD_OF_ROOT: &[&str] = &["postgres", "nobody"];

/// The user that owns and runs the embedded Postgres.
#[derive(Debug, Clone)]
pub enum Owner {
    Ourselves,
    Other {
        user: User,
        /// It cannot reach the data directory by itself and needs the right to pass every directory.
        needs_passage: bool,
    },
}

impl Owner {
    /// Chooses the owner of what is below `dir`, which exists.
    ///
    /// # Errors
    /// We are root and there is nobody to drop to.
    pub fn of(dir: &Path) -> Result<Self, DevError> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ourselves);
        }
        let named = INSTEAD_OF_ROOT
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        let user = named.ok_or(DevError::NoUser)?;
        let needs_passage = !can_pass(&user, dir);
        if needs_passage && super::spawn::setpriv().is_none() {
            return Err(DevError::Unreachable {
                dir: dir.to_owned(),
                user: user.name,
            });
        }
        Ok(Self::Other { user, needs_passage })
    }

    /// Makes a directory that only the owner may enter.
    ///
    /// # Errors
    /// It cannot be made or given away.
    pub fn make_dir(&self, dir: &Path) -> Result<(), DevError> {
        let made = std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)))
            .and_then(|()| match self {
                Self::Ourselves => Ok(()),
                Self::Other { user, .. } => chown(dir, Some(user.uid), Some(user.gid)).map_err(Into::into),
            });
        made.map_err(|cause| DevError::Dir {
            dir: dir.to_owned(),
            cause,
        })
    }
}

/// Whether `user` may pass through every directory above `dir`.
fn can_pass(user: &User, dir: &Path) -> bool {
    let above: Vec<PathBuf> = dir.ancestors().skip(1).map(Path::to_owned).collect();
    above.iter().all(|dir| {
        std::fs::metadata(dir).is_ok_and(|about| {
            let bit = if about.uid() == user.uid.as_raw() {
                0o100
            } else if about.gid() == user.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            about.mode() & bit != 0
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_cannot_be_passed_by_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mine = User::from_uid(Uid::current()).unwrap().unwrap();
        assert!(can_pass(&mine, &dir.path().join("below")));
        let other = User {
            uid: Uid::from_raw(65_533),
            gid: nix::unistd::Gid::from_raw(65_533),
            ..mine
        };
        assert!(!can_pass(&other, &dir.path().join("below")));
        assert!(can_pass(&other, Path::new("/usr")));
    }
}
