//! Marks that only this user can make on this machine: an HMAC under a key that nobody else may read. A checkout, an
//! archive or a directory that others may write can carry records; what bears no mark of this user is never acted upon.
//! Asked by `direct` for runs and by `pipeline` for pipelines; each says what its marks are of.
//!
//! Root with the home of another user (`sudo -E`, `su`) uses root's own: a key that root made there would lock that user
//! out, and one that it gave to that user would let them mark what root then executes.

pub mod pipeline;

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use sha2::Sha256;

/// In the user's state directory.
const FILE: &str = "key";
const KEY_BYTES: usize = 32;

/// The user's key.
pub struct Key(Vec<u8>);

impl Key {
    /// The mark of what the parts hold, one behind the other, in hexadecimal digits. The first says what it is of.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> String {
        hex::encode(self.mac(parts).finalize().into_bytes())
    }

    fn is_of(&self, told: &[u8], parts: &[&[u8]]) -> bool {
        let told = hex::decode(told).unwrap_or_default();
        self.mac(parts).verify_slice(&told).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

/// This user's key, made if there is none.
///
/// # Errors
/// There is no place for it, or it cannot be read or made; the message names the file.
pub fn own_key() -> io::Result<Key> {
    let path = path()?;
    let key = read(&path).and_then(|known| known.map_or_else(|| make(&path), Ok));
    key.map(Key)
        .map_err(|source| io::Error::new(source.kind(), format!("{}: {source}", path.display())))
}

/// This user's key, if there is one.
///
/// # Errors
/// As of [`own_key`].
pub fn known_key() -> io::Result<Option<Key>> {
    let path = path()?;
    let key = read(&path).map(|known| known.map(Key));
    key.map_err(|source| io::Error::new(source.kind(), format!("{}: {source}", path.display())))
}

/// Why nobody can say that this user made a mark of those parts; `None`: that is certain.
#[must_use]
pub fn doubt(told: Option<&[u8]>, parts: &[&[u8]]) -> Option<String> {
    let Some(told) = told else {
        return Some("it carries no mark of you".to_owned());
    };
    let path = match path() {
        Ok(path) => path,
        Err(error) => return Some(format!("your key cannot be found: {error}")),
    };
    let key = match read(&path) {
        Ok(Some(key)) => Key(key),
        Ok(None) => return Some(format!("{} is not there", path.display())),
        Err(error) => return Some(format!("{}: {error}", path.display())),
    };
    (!key.is_of(told, parts)).then(|| format!("its mark is not of the key {}", path.display()))
}

/// `$QWEX_STATE_DIR`, else `$XDG_STATE_HOME/qwex`, else `~/.local/state/qwex`.
fn path() -> io::Result<PathBuf> {
    let uid = Uid::effective();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    place(
        &|name| std::env::var_os(name).map(PathBuf::from),
        user.map(|user| user.dir),
        |dir| fs::metadata(dir).is_ok_and(|meta| is_anothers(&meta, uid)),
    )
}

/// The same for these variables and the home that the password database names. Of what belongs to another user nothing
/// counts but what was named for qwex.
fn place(
    env: &dyn Fn(&str) -> Option<PathBuf>,
    registered: Option<PathBuf>,
    is_anothers: impl Fn(&Path) -> bool,
) -> io::Result<PathBuf> {
    let named = env("QWEX_STATE_DIR").filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = named {
        return if dir.is_absolute() {
            Ok(dir.join(FILE))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("QWEX_STATE_DIR is no absolute path: {dir:?}"),
            ))
        };
    }
    // Relative ones count for nothing: so says the specification of XDG_STATE_HOME.
    let own = |name: &str| env(name).filter(|dir| dir.is_absolute() && !is_anothers(dir));
    let dir = own("XDG_STATE_HOME").map(|dir| dir.join("qwex")).or_else(|| {
        let home = own("HOME").or(registered)?;
        Some(home.join(".local/state/qwex"))
    });
    let unset = || io::Error::other("HOME is not set to a directory of yours");
    Ok(dir.ok_or_else(unset)?.join(FILE))
}

/// Whether a directory is that of a user who would be locked out of a key in it. Root is not: nor is a directory that root
/// gave to a group, as volumes of containers are, anybody's home.
fn is_anothers(meta: &Metadata, uid: Uid) -> bool {
    meta.uid() != uid.as_raw() && meta.uid() != 0
}

/// The key, if there is one and nobody else may know it.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if meta.uid() != Uid::effective().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "others may read it; make it yours alone: chmod 600",
        ));
    }
    let mut key = Vec::new();
    file.read_to_end(&mut key)?;
    if key.len() == KEY_BYTES {
        Ok(Some(key))
    } else {
        Err(io::Error::other("it holds no key; remove it"))
    }
}

/// Makes the key; of two who make it at once, both have that of the first.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    // Also that in which it is made.
    let there = dir.ancestors().find_map(|dir| fs::metadata(dir).ok());
    if let Some(meta) = there.filter(|meta| is_anothers(meta, Uid::effective())) {
        return Err(io::Error::other(format!(
            "its directory belongs to another user (uid {}), whom a key of yours would lock out",
            meta.uid()
        )));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temp = dir.join(format!(".{FILE}.{}.tmp", uuid::Uuid::now_v7()));
    let key: [u8; KEY_BYTES] = rand::random();
    let made = write_new(&temp, &key).and_then(|()| fs::hard_link(&temp, path));
    fs::remove_file(&temp).ok();
    match made {
        Ok(()) => {
            File::open(dir)?.sync_all()?;
            Ok(key.to_vec())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| io::Error::other("it went away"))
        }
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path, key: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mark_is_of_this_key_and_these_parts() {
        let parts: &[&[u8]] = &[b"a pipeline\n", b"its record"];
        let key = Key(vec![7; KEY_BYTES]);
        let mark = key.sign(parts);
        assert!(key.is_of(mark.as_bytes(), parts));
        assert!(!Key(vec![8; KEY_BYTES]).is_of(mark.as_bytes(), parts));
        assert!(!key.is_of(mark.as_bytes(), &[b"a run\n", b"its record"]));
        for other in [&mark[1..], "", "no digits"] {
            assert!(!key.is_of(other.as_bytes(), parts), "{other:?}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        assert_eq!(read(&path).unwrap(), None);
        let key = make(&path).unwrap();
        assert_eq!(make(&path).unwrap(), key, "the first one stays");
        assert_eq!(read(&path).unwrap(), Some(key));
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        mode(0o644);
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn the_place_is_named_or_ones_own() {
        let found = |env: &'static [(&str, &str)]| {
            let env = move |name: &str| {
                let pair = env.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| PathBuf::from(value))
            };
            let place = place(&env, Some("/own".into()), |dir| dir.starts_with("/h/other"));
            place.map(|path| path.display().to_string())
        };
        assert_eq!(found(&[("HOME", "/h")]).unwrap(), "/h/.local/state/qwex/key");
        assert_eq!(
            found(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]).unwrap(),
            "/x/qwex/key"
        );
        assert_eq!(
            found(&[("HOME", "/h"), ("XDG_STATE_HOME", "x")]).unwrap(),
            "/h/.local/state/qwex/key"
        );
        for anothers in [
            &[("HOME", "/h/other")][..],
            &[("HOME", "/h/other"), ("XDG_STATE_HOME", "/h/other/s")],
            &[("HOME", "h")],
            &[],
        ] {
            assert_eq!(found(anothers).unwrap(), "/own/.local/state/qwex/key");
        }
        assert_eq!(
            found(&[("QWEX_STATE_DIR", "/q"), ("HOME", "/h")]).unwrap(),
            "/q/key"
        );
        assert_eq!(
            found(&[("QWEX_STATE_DIR", ""), ("HOME", "/h")]).unwrap(),
            "/h/.local/state/qwex/key"
        );
        let relative = found(&[("QWEX_STATE_DIR", "state"), ("HOME", "/h")]).unwrap_err();
        assert_eq!(
            relative.to_string(),
            "QWEX_STATE_DIR is no absolute path: \"state\""
        );
        let none = place(&|_| None, None, |_| false).unwrap_err();
        assert!(none.to_string().contains("HOME is not set"), "{none}");
    }

    #[test]
    fn no_key_is_made_where_it_would_lock_another_user_out() {
        assert!(
            Uid::effective().is_root(),
            "this test gives a directory to another user, which only root can: run it as root"
        );
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::chown(dir.path(), Some(54_321.into()), None).unwrap();
        for place in ["key", "deep/below/key"] {
            let refused = make(&dir.path().join(place)).unwrap_err().to_string();
            assert!(refused.contains("another user (uid 54321)"), "{refused}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
