//! Files that survive a crash. Every write is temp + fsync + rename + fsync of the directory, every
//! name is one component below an open directory, and no symlink is ever followed.
//!
//! Used by the run store and by runners that keep a directory per run. Knows no format.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How much a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Whole or absent after a crash of the process.
    Process,
    /// After a crash of the machine whole too, but perhaps as it was before: there for good once the directory is
    /// synced, by [`Dir::sync`] or by a later write.
    Whole,
    /// Whole or absent after a crash of the machine too, and there once the write returned.
    Machine,
}

/// An open directory. What is done through it stays in it, wherever its path leads by now.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

static NEXT_TEMP: AtomicU32 = AtomicU32::new(0);

impl Dir {
    /// Opens a directory by its path; a symlink in the last place is refused.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let fd = open(&path, DIRECTORY, Mode::empty()).map_err(no_symlink)?;
        Ok(Self { fd, path })
    }

    /// Opens the directory `name` in this one.
    pub fn open_dir(&self, name: &str) -> io::Result<Self> {
        let fd =
            openat(self.fd.as_fd(), one_component(name)?, DIRECTORY, Mode::empty()).map_err(no_symlink)?;
        let path = self.path.join(name);
        Ok(Self { fd, path })
    }

    /// The same directory once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            path: self.path.clone(),
        })
    }

    /// Makes the directory `name`, readable by its owner only; `AlreadyExists` if anything has the name.
    pub fn create_dir(&self, name: &str) -> io::Result<Self> {
        mkdirat(self.fd.as_fd(), one_component(name)?, Mode::S_IRWXU)?;
        self.open_dir(name)
    }

    /// Opens the directory `name`, made if it is not there.
    pub fn ensure_dir(&self, name: &str) -> io::Result<Self> {
        match self.create_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open_dir(name),
            made => made,
        }
    }

    /// Where it was opened; for messages and for programs that need a path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file, or `None` if there is none.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut file = match self.open_file(name, OFlag::O_RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Replaces a file: a reader sees the old bytes or the new ones, never a part.
    pub fn write(&self, name: &str, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let number = NEXT_TEMP.fetch_add(1, Ordering::Relaxed);
        let temp = format!(".{}.{}.{number}.tmp", one_component(name)?, std::process::id());
        let written = self.write_temp(&temp, bytes, durability).and_then(|()| {
            renameat(self.fd.as_fd(), temp.as_str(), self.fd.as_fd(), name).map_err(io::Error::from)
        });
        if written.is_err() {
            self.remove_file(&temp).ok();
            return written;
        }
        match durability {
            Durability::Process | Durability::Whole => Ok(()),
            Durability::Machine => self.sync(),
        }
    }

    fn write_temp(&self, temp: &str, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let mut file = self.open_file(temp, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        file.write_all(bytes)?;
        match durability {
            Durability::Process => Ok(()),
            Durability::Whole | Durability::Machine => file.sync_all(),
        }
    }

    /// Opens a file; one that is made is readable by its owner only.
    pub fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let fd = openat(self.fd.as_fd(), one_component(name)?, flags, mode).map_err(no_symlink)?;
        Ok(File::from(fd))
    }

    /// Whether anything has this name.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        match fstatat(
            self.fd.as_fd(),
            one_component(name)?,
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(_) => Ok(true),
            Err(nix::Error::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file or a symlink; one that is not there is no error.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        match unlinkat(self.fd.as_fd(), one_component(name)?, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a directory and all in it; symlinks in it are removed, not followed.
    pub fn remove_tree(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_dir_all(self.through_fd().join(one_component(name)?)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Moves the directory `name` of this one into `to`, where nothing has that name.
    pub fn move_to(&self, name: &str, to: &Self, new_name: &str) -> io::Result<()> {
        let (name, new_name) = (one_component(name)?, one_component(new_name)?);
        renameat(self.fd.as_fd(), name, to.fd.as_fd(), new_name).map_err(io::Error::from)
    }

    /// The names of all entries, in no order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(self.through_fd())?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect()
    }

    /// Makes the names in this directory survive a crash of the machine.
    pub fn sync(&self) -> io::Result<()> {
        nix::unistd::fsync(self.fd.as_fd()).map_err(io::Error::from)
    }

    /// A path that leads to this very directory, also after somebody renamed it.
    fn through_fd(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Refuses separators, `.` and `..`.
fn one_component(name: &str) -> io::Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part.len() == name.len() => Ok(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not the name of a file"),
        )),
    }
}

/// The kernel's words for a refused symlink tell nobody what is wrong.
fn no_symlink(error: nix::Error) -> io::Error {
    match error {
        nix::Error::ELOOP => io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a symbolic link, which is not followed here",
        ),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn g07_a_write_replaces_the_whole_file_and_leaves_no_temp() {
        let (_temp, dir) = scratch();
        dir.write("a", b"long first text", Durability::Machine).unwrap();
        dir.write("a", b"second", Durability::Process).unwrap();
        assert_eq!(dir.read("a").unwrap().unwrap(), b"second");
        assert_eq!(dir.names().unwrap(), ["a"]);
    }

    #[test]
    fn g10_names_with_more_than_one_component_are_refused() {
        let (_temp, dir) = scratch();
        for bad in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a/", "a/."] {
            assert!(dir.write(bad, b"x", Durability::Process).is_err(), "{bad:?}");
            assert!(dir.read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn g10_symlinks_are_not_followed() {
        let (temp, dir) = scratch();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        std::fs::write(&target, "theirs").unwrap();
        std::os::unix::fs::symlink(&target, temp.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("dir")).unwrap();
        assert!(dir.read("link").is_err());
        assert!(dir.open_dir("dir").is_err());
        dir.write("link", b"ours", Durability::Process).unwrap();
        dir.remove_tree("dir").unwrap_or_default();
        assert_eq!(std::fs::read(&target).unwrap(), b"theirs");
        assert_eq!(dir.read("link").unwrap().unwrap(), b"ours");
    }
}
