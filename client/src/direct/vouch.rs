//! Whether a run was submitted by this very user on this machine. A checkout, an archive or a directory that others may
//! write can carry the record of a run; without this, looking at it would start its command. Beside what a kept run was
//! asked to run on lies an HMAC over that and its spec, under a key that only this user has. `runs` writes it, `keeper`
//! starts nothing without it. It names no path: a directory may be moved.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use qwex_core::Run;
use qwex_runner::durable::Durability;
use qwex_runner::{Journal, StoreError};
use sha2::Sha256;

use super::error::DirectError;
use super::placed::Placed;

/// Beside the record.
const FILE: &str = "placed.mac";
/// In the user's state directory.
const KEY: &str = "key";
const KEY_BYTES: usize = 32;
/// What else is ever made with this key begins with other words.
const ABOUT: &str = "qwex placed run 1";

/// The user's key, made if there is none.
pub struct Key(Vec<u8>);

/// This user's own, asked for before a run is recorded.
///
/// # Errors
/// There is no place for it, or it cannot be read or made.
pub fn own_key() -> Result<Key, DirectError> {
    let path = key_path().ok_or_else(|| no_key(io::Error::other("HOME is not set")))?;
    let key = read_key(&path)
        .and_then(|known| known.map_or_else(|| make_key(&path), Ok))
        .map_err(|source| {
            no_key(io::Error::new(
                source.kind(),
                format!("{}: {source}", path.display()),
            ))
        })?;
    Ok(Key(key))
}

/// Vouches for a run that this user submits here.
///
/// # Errors
/// The file cannot be written.
pub fn vouch(key: &Key, journal: &Journal, run: &Run, placed: &Placed) -> Result<(), StoreError> {
    let mac = mac(&key.0, run, &placed.bytes()).finalize().into_bytes();
    journal.write_file(FILE, hex::encode(mac).as_bytes(), Durability::Machine)
}

fn no_key(source: io::Error) -> DirectError {
    DirectError::Surroundings {
        what: "a place for the key that marks runs as yours; name one: QWEX_STATE_DIR",
        source,
    }
}

/// Why nobody can say that this user submitted the run here; `None`: that is certain.
///
/// # Errors
/// A file beside the record cannot be read.
pub fn doubt(journal: &Journal, run: &Run) -> Result<Option<String>, StoreError> {
    let Some(told) = journal.read_file(FILE)? else {
        return Ok(Some("it carries no mark of you".to_owned()));
    };
    let Some(path) = key_path() else {
        return Ok(Some("your key cannot be found: HOME is not set".to_owned()));
    };
    let key = match read_key(&path) {
        Ok(Some(key)) => key,
        Ok(None) => return Ok(Some(format!("{} is not there", path.display()))),
        Err(error) => return Ok(Some(format!("{}: {error}", path.display()))),
    };
    let placed = journal.read_file(super::placed::FILE)?.unwrap_or_default();
    let told = hex::decode(told).unwrap_or_default();
    let is_right = mac(&key, run, &placed).verify_slice(&told).is_ok();
    Ok((!is_right).then(|| format!("its mark is not of the key {}", path.display())))
}

fn mac(key: &[u8], run: &Run, placed: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(format!("{ABOUT}\n{}\n{}\n", run.id, run.spec.hash()).as_bytes());
    mac.update(placed);
    mac
}

/// `$QWEX_STATE_DIR`, else `$XDG_STATE_HOME/qwex`, else `~/.local/state/qwex`.
fn key_path() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || {
        let user = nix::unistd::User::from_uid(Uid::effective()).ok().flatten();
        set("HOME").or_else(|| user.map(|user| user.dir))
    };
    let dir = set("QWEX_STATE_DIR")
        .or_else(|| set("XDG_STATE_HOME").map(|dir| dir.join("qwex")))
        .or_else(|| home().map(|dir| dir.join(".local/state/qwex")))?;
    Some(dir.join(KEY))
}

/// The key, if there is one and nobody else may know it.
fn read_key(path: &Path) -> io::Result<Option<Vec<u8>>> {
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
fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temp = dir.join(format!(".{KEY}.{}.tmp", uuid::Uuid::now_v7()));
    let key: [u8; KEY_BYTES] = rand::random();
    let made = write_new(&temp, &key).and_then(|()| std::fs::hard_link(&temp, path));
    std::fs::remove_file(&temp).ok();
    match made {
        Ok(()) => {
            File::open(dir)?.sync_all()?;
            Ok(key.to_vec())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_key(path)?.ok_or_else(|| io::Error::other("it went away"))
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

    use qwex_core::{JobSpec, RunId};
    use serde_json::json;

    use super::*;

    fn run() -> Run {
        serde_json::from_value(json!({
            "id": RunId::mint(), "project": "default", "spec": {"command": ["true"]}, "status": "pending",
            "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
        }))
        .unwrap()
    }

    #[test]
    fn the_mark_is_of_this_key_this_run_its_spec_and_its_place() {
        let (run, key) = (run(), [7; KEY_BYTES]);
        let told = mac(&key, &run, b"place").finalize().into_bytes();
        let is_right =
            |key: &[u8], run: &Run, placed: &[u8]| mac(key, run, placed).verify_slice(&told).is_ok();
        assert!(is_right(&key, &run, b"place"));
        assert!(!is_right(&[8; KEY_BYTES], &run, b"place"));
        assert!(!is_right(&key, &run, b"elsewhere"));
        let other = Run {
            spec: JobSpec::for_command(["false"]),
            ..run.clone()
        };
        assert!(!is_right(&key, &other, b"place"));
        let other = Run {
            id: RunId::mint(),
            ..run
        };
        assert!(!is_right(&key, &other, b"place"));
    }

    #[test]
    fn the_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        assert_eq!(read_key(&path).unwrap(), None);
        let key = make_key(&path).unwrap();
        assert_eq!(make_key(&path).unwrap(), key, "the first one stays");
        assert_eq!(read_key(&path).unwrap(), Some(key));
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        mode(0o644);
        assert!(read_key(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
