//! Files by the hash of their bytes: `.qwex/store/objects/ab/cdef…`. Written whole or not at all, and read only
//! as long as the bytes are those of the name. Never a hard link to a file of the workspace: whoever wrote into that
//! file would change the store. The copy is a reflink where the filesystem has them.
//!
//! Drivers of pipelines hold the store beside each other; whoever removes what nobody needs (`sweep`) holds it alone.

mod sweep;

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, renameat};
use qwex_runner::durable::{Dir, Durability};
use sha2::{Digest, Sha256};

use super::artifacts::{Moment, TEMP_HEAD, TEMP_TAIL};
use super::error::PipelineError;

type Result<T> = std::result::Result<T, PipelineError>;

pub use sweep::{Marks, Stored, Unneeded};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Held by whoever works with the store.
const LOCK: &str = "lock";
/// Held by the pipeline whose stages work in the project's directory now.
const WORK: &str = "work";
/// How the clock of the files is waited for: it goes on every few milliseconds.
const TICK: Duration = Duration::from_millis(1);
const TICKS: u32 = 50;

/// The right to run stages in the project's directory.
#[derive(Debug)]
pub enum Work {
    Taken(File),
    /// Another pipeline has it.
    Held {
        holder: String,
    },
}

/// The store of a project.
#[derive(Debug)]
pub struct Objects {
    store: Dir,
    objects: Dir,
    temp: Dir,
    keys: Dir,
}

impl Objects {
    /// Opens the store of a project's directory, made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(project: &Path) -> Result<Self> {
        let broken = |source| PipelineError::io("open", &project.join(".qwex/store"), source);
        let store = Dir::open(project)
            .and_then(|project| project.ensure_dir(".qwex"))
            .and_then(|qwex| qwex.ensure_dir("store"))
            .map_err(broken)?;
        Ok(Self {
            objects: store.ensure_dir("objects").map_err(broken)?,
            temp: store.ensure_dir("temp").map_err(broken)?,
            keys: store.ensure_dir("keys").map_err(broken)?,
            store,
        })
    }

    /// Opens it if it is there.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn find(project: &Path) -> Result<Option<Self>> {
        let is_there = project.join(".qwex/store").is_dir();
        is_there.then(|| Self::open(project)).transpose()
    }

    /// The right to rely on what is stored, held until dropped. Waits while somebody sweeps.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn hold(&self) -> Result<File> {
        let file = self.lock_file()?;
        file.lock_shared().map_err(|source| self.broken_lock(source))?;
        Ok(file)
    }

    /// The right to remove what nobody needs, held until dropped; `None`: somebody relies on what is stored.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn hold_alone(&self) -> Result<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(self.broken_lock(source)),
        }
    }

    fn lock_file(&self) -> Result<File> {
        let file = self.store.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT);
        file.map_err(|source| self.broken_lock(source))
    }

    fn broken_lock(&self, source: io::Error) -> PipelineError {
        PipelineError::io("lock", &self.store.path().join(LOCK), source)
    }

    /// The right to run stages in the project's directory itself, held until dropped. Who it is says so to others.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn work_in_place(&self, who: &str) -> Result<Work> {
        let broken = |source| PipelineError::io("lock", &self.store.path().join(WORK), source);
        let mut file = self
            .store
            .open_file(WORK, OFlag::O_RDWR | OFlag::O_CREAT)
            .map_err(broken)?;
        match file.try_lock() {
            Ok(()) => {
                let written = file.set_len(0).and_then(|()| file.write_all(who.as_bytes()));
                written.map_err(broken)?;
                Ok(Work::Taken(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(broken)?;
                Ok(Work::Held { holder })
            }
            Err(TryLockError::Error(source)) => Err(broken(source)),
        }
    }

    /// Now, by the clock of the files, and later than any change of a file before this call, as far as that clock is fine
    /// enough for it.
    ///
    /// # Errors
    /// No file can be made.
    pub fn moment(&self) -> Result<Moment> {
        let first = self.touched()?;
        let mut now = first;
        for _ in 0..TICKS {
            if now > first {
                break;
            }
            std::thread::sleep(TICK);
            now = self.touched()?;
        }
        Ok(now)
    }

    fn touched(&self) -> Result<Moment> {
        let broken = |source| PipelineError::io("make a file in", self.temp.path(), source);
        let (name, file) = self.temporary().map_err(broken)?;
        let meta = file.metadata().map_err(broken);
        self.temp.remove_file(&name).map_err(broken)?;
        Ok(Moment::from(&meta?))
    }

    /// Takes a file in and gives the hash and the size of what was taken.
    ///
    /// # Errors
    /// It cannot be read or stored.
    pub fn take(&self, path: &Path) -> Result<(String, u64)> {
        let broken = |source| PipelineError::io("store", path, source);
        let mut from = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)
            .map_err(broken)?;
        let (name, mut copy) = self.temporary().map_err(broken)?;
        let taken = io::copy(&mut from, &mut copy).and_then(|size| {
            copy.rewind()?;
            let hash = sha256(&mut copy)?;
            self.settle(&name, &copy, &hash)?;
            Ok((hash, size))
        });
        if taken.is_err() {
            self.temp.remove_file(&name).ok();
        }
        taken.map_err(broken)
    }

    fn temporary(&self) -> io::Result<(String, File)> {
        let name = format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.temp.remove_file(&name)?;
        let file = self
            .temp
            .open_file(&name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)?;
        Ok((name, file))
    }

    /// Gives a copy its name. Bytes that are there already are not written once more, and are as young as new ones: a
    /// sweep that looks at them from now on leaves them, and one that was faster has taken their name away.
    fn settle(&self, name: &str, copy: &File, hash: &str) -> io::Result<()> {
        let (head, tail) = hash.split_at(2);
        let dir = self.objects.ensure_dir(head)?;
        let is_there = touch(&dir, tail).is_ok() && self.is_whole(&dir, tail, hash);
        if is_there && dir.has(tail)? {
            return self.temp.remove_file(name);
        }
        copy.sync_all()?;
        renameat(self.temp.as_fd(), name, dir.as_fd(), tail).map_err(io::Error::from)?;
        dir.sync()?;
        self.objects.sync()
    }

    fn is_whole(&self, dir: &Dir, tail: &str, hash: &str) -> bool {
        let open = dir.open_file(tail, OFlag::O_RDONLY);
        open.and_then(|mut file| sha256(&mut file))
            .is_ok_and(|found| found == hash)
    }

    /// Whether the bytes are there and are those of the hash.
    #[must_use]
    pub fn has(&self, hash: &str) -> bool {
        let Some((head, tail)) = hash.split_at_checked(2) else {
            return false;
        };
        self.objects
            .open_dir(head)
            .is_ok_and(|dir| self.is_whole(&dir, tail, hash))
    }

    /// Makes stored bytes as young as those that are taken now; what is not there stays away.
    pub fn renew(&self, hash: &str) {
        let Some((head, tail)) = hash.split_at_checked(2) else {
            return;
        };
        self.objects.open_dir(head).and_then(|dir| touch(&dir, tail)).ok();
    }

    /// The same for what is written under a key.
    pub fn renew_key(&self, key: &str) {
        touch(&self.keys, key).ok();
    }

    /// Writes the bytes of a hash to a path, whole or not at all. The path's directory must be there.
    ///
    /// # Errors
    /// [`PipelineError::Spoilt`] if they are not those of the hash any more; the path cannot be written.
    pub fn give(&self, hash: &str, path: &Path, executable: bool) -> Result<()> {
        let broken = |source| PipelineError::io("restore", path, source);
        let spoilt = || PipelineError::Spoilt {
            hash: hash.to_owned(),
        };
        let (head, tail) = hash.split_at_checked(2).ok_or_else(spoilt)?;
        let dir = self.objects.open_dir(head).map_err(|_| spoilt())?;
        let mut stored = dir.open_file(tail, OFlag::O_RDONLY).map_err(|_| spoilt())?;
        let (name, mut copy) = self.temporary().map_err(broken)?;
        let given = self.copied(&mut stored, &mut copy, hash).and_then(|whole| {
            if !whole {
                dir.remove_file(tail)?;
                return Ok(false);
            }
            copy.set_permissions(Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
            place(&self.temp, &name, path)?;
            Ok(true)
        });
        if !matches!(given, Ok(true)) {
            self.temp.remove_file(&name).ok();
        }
        match given {
            Ok(true) => Ok(()),
            Ok(false) => Err(spoilt()),
            Err(source) => Err(broken(source)),
        }
    }

    /// Copies, and tells whether what was copied has the hash.
    fn copied(&self, stored: &mut File, copy: &mut File, hash: &str) -> io::Result<bool> {
        io::copy(stored, copy)?;
        copy.rewind()?;
        Ok(sha256(copy)? == hash)
    }

    /// What is written under a key, if anything.
    #[must_use]
    pub fn read_key(&self, key: &str) -> Option<Vec<u8>> {
        self.keys.read(key).ok().flatten()
    }

    /// Writes something under a key.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_key(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let written = self.keys.write(key, bytes, Durability::Machine);
        written.map_err(|source| PipelineError::io("write", &self.keys.path().join(key), source))
    }
}

/// Makes a file as young as if it were written now.
fn touch(dir: &Dir, name: &str) -> io::Result<()> {
    let file = dir.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    file.set_modified(SystemTime::now())
}

/// Renames into place; on another filesystem it is copied beside the place first.
fn place(temp: &Dir, name: &str, path: &Path) -> io::Result<()> {
    match renameat(temp.as_fd(), name, nix::fcntl::AT_FDCWD, path) {
        Ok(()) => Ok(()),
        Err(nix::Error::EXDEV) => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let beside =
                path.with_file_name(format!("{TEMP_HEAD}{}-{number}{TEMP_TAIL}", std::process::id()));
            std::fs::copy(temp.path().join(name), &beside)?;
            std::fs::rename(&beside, path)?;
            temp.remove_file(name)
        }
        Err(error) => Err(error.into()),
    }
}

/// SHA-256 of what is left to read, lower-case hex.
pub fn sha256(from: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_took_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&from, b"bytes").unwrap();
        let (hash, size) = objects.take(&from).unwrap();
        assert_eq!(size, 5);
        assert_eq!(
            objects.take(&from).unwrap().0,
            hash,
            "the same bytes are one object"
        );
        std::fs::write(&from, b"other").unwrap();
        objects.give(&hash, &to, true).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"bytes");
        assert_eq!(
            std::fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(objects.temp.names().unwrap().len(), 0);
    }

    #[test]
    fn spoilt_bytes_are_never_given() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        let from = dir.path().join("a");
        std::fs::write(&from, b"bytes").unwrap();
        let (hash, _) = objects.take(&from).unwrap();
        let stored = dir
            .path()
            .join(".qwex/store/objects")
            .join(&hash[..2])
            .join(&hash[2..]);
        std::fs::write(&stored, b"bytez").unwrap();
        assert!(!objects.has(&hash));
        let to = dir.path().join("b");
        assert!(matches!(
            objects.give(&hash, &to, false),
            Err(PipelineError::Spoilt { .. })
        ));
        assert!(!to.exists());
        objects.take(&from).unwrap();
        assert!(objects.has(&hash), "taken in again it is whole");
        for bad in ["", "a", "../../x", "aé"] {
            assert!(!objects.has(bad));
            assert!(objects.give(bad, &to, false).is_err());
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(objects.take(&dir.path().join("link")).is_err());
    }
}
