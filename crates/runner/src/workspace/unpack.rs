//! A tar from a machine that may lie, written into a workspace: nothing outside of it is touched, no link
//! leads out, only what was asked for is taken.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use tar::{Archive, EntryType};

use super::globs::Globs;
use super::is_never_sent;
use super::place::{check_link, check_path, outside};

/// Most that is taken from one tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and directories, also those that are passed over.
    pub entries: u64,
    /// Of all files together, as long as they become.
    pub bytes: u64,
}

/// A file with holes may become this many times as long as what the archive holds of it, and as many bytes longer:
/// a kilobyte must not fill a disk.
const RATIO: u64 = 100;
const HOLES: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 64 << 30,
        }
    }
}

/// Writes what `wanted` means of the tar `from` below `dir`, but nothing that has one of [`super::NEVER_SENT`] in its path; tells the files and links written, in order.
/// Each file appears whole or not at all; one that is there is replaced, a link that is there is
/// replaced and never followed.
///
/// # Errors
/// `InvalidData` for a tar that is too much or tries to get out, `UnexpectedEof` for one that is cut short, `NotADirectory`
/// where something of the workspace is in its way, which is left as it is; what came before it stays. Other errors are those
/// of the disk and of `from`.
pub fn unpack(dir: &Path, from: impl Read, wanted: &Globs, limits: Limits) -> io::Result<Vec<PathBuf>> {
    let root = open(dir, DIRECTORY, Mode::empty())?;
    let mut unpacking = Unpacking {
        root,
        written: BTreeSet::new(),
        files: BTreeSet::new(),
        order: Vec::new(),
        left: limits,
        temp: 0,
    };
    let mut source = Counted {
        from,
        total: 0,
        is_over: false,
    };
    match unpacking.take_all(&mut source, wanted) {
        // The reader of a tar has no kind of its own for one that breaks off.
        Err(error) if source.is_over && error.kind() == io::ErrorKind::Other => Err(cut_short()),
        Err(error) => Err(error),
        Ok(()) => Ok(unpacking.order),
    }
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// What a tar is made of. It ends with two of zeros; its reader stops behind the first.
const BLOCK: u64 = 512;

struct Unpacking {
    root: OwnedFd,
    written: BTreeSet<PathBuf>,
    /// Those of them that are files.
    files: BTreeSet<PathBuf>,
    order: Vec<PathBuf>,
    left: Limits,
    temp: u32,
}

impl Unpacking {
    fn take_all<R: Read>(&mut self, source: &mut Counted<R>, wanted: &Globs) -> io::Result<()> {
        let mut end = 0;
        let mut archive = Archive::new(&mut *source);
        for entry in archive.entries()? {
            let mut entry = entry?;
            end = entry.raw_file_position() + entry.header().entry_size()?.next_multiple_of(BLOCK);
            self.take(&mut entry, wanted)?;
        }
        if source.total < end + BLOCK {
            return Err(cut_short());
        }
        io::copy(&mut source.from, &mut io::sink())?;
        Ok(())
    }

    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, wanted: &Globs) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        self.left.entries = self
            .left
            .entries
            .checked_sub(1)
            .ok_or_else(|| invalid("the archive holds too many files"))?;
        let named = entry.path()?.into_owned();
        if named
            .components()
            .all(|part| part == std::path::Component::CurDir)
        {
            return Ok(());
        }
        let path = check_path(&named)?;
        // What git and qwex keep of the workspace is nobody's output: a file in there may be a program that is run later.
        if is_never_sent(&path) || !wanted.matches(&path) {
            return Ok(());
        }
        match kind {
            EntryType::Directory => drop(self.open_dir(&path)?),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &path)?,
            EntryType::Symlink => self.symlink(entry, &path)?,
            EntryType::Link => self.hard_link(entry, &path)?,
            _ => return Err(outside(&path, "is neither file, directory nor link")),
        }
        if kind != EntryType::Directory && self.written.insert(path.clone()) {
            self.order.push(path);
        }
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        self.left.bytes = self
            .left
            .bytes
            .checked_sub(entry.size())
            .ok_or_else(|| invalid("the archive holds too many bytes"))?;
        let brought = entry.header().entry_size()?;
        if entry.size() > brought.saturating_mul(RATIO).saturating_add(HOLES) {
            return Err(outside(path, "has far more holes than bytes"));
        }
        let executable = entry.header().mode()? & 0o100 != 0;
        let mode = if executable { 0o777 } else { 0o666 };
        let modified = i64::try_from(entry.header().mtime()?).unwrap_or(0);
        let size = entry.size();
        self.put(path, |parent, temp| {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(mode);
            let mut file = File::from(openat(parent.as_fd(), temp, flags, mode)?);
            if io::copy(entry, &mut file)? != size {
                return Err(cut_short());
            }
            file.flush()?;
            let time = TimeSpec::new(modified, 0);
            futimens(&file, &time, &time)?;
            Ok(())
        })?;
        self.files.insert(path.to_owned());
        Ok(())
    }

    fn symlink<R: Read>(&mut self, entry: &tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        let target = link_name(entry, path)?;
        check_link(path, &target)?;
        self.files.remove(path);
        self.put(path, |parent, temp| {
            symlinkat(target.as_path(), parent.as_fd(), temp)?;
            Ok(())
        })
    }

    /// Only to a file of this very archive: what else is in the workspace is none of its business, and a link at
    /// another depth would lead elsewhere.
    fn hard_link<R: Read>(&mut self, entry: &tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        let target = check_path(&link_name(entry, path)?)?;
        if !self.files.contains(&target) {
            return Err(outside(
                path,
                "is a hard link to no file that the archive brought",
            ));
        }
        let (above, name) = split(&target)?;
        let source = self.open_dir(above)?;
        self.put(path, |parent, temp| {
            linkat(source.as_fd(), name, parent.as_fd(), temp, AtFlags::empty())?;
            Ok(())
        })?;
        self.files.insert(path.to_owned());
        Ok(())
    }

    /// Makes something under a temporary name beside its place and moves it there.
    fn put(&mut self, path: &Path, make: impl FnOnce(&OwnedFd, &str) -> io::Result<()>) -> io::Result<()> {
        let (above, name) = split(path)?;
        let parent = self.open_dir(above)?;
        self.temp += 1;
        let temp = format!(".qwex-{}-{}.tmp", std::process::id(), self.temp);
        let put = make(&parent, &temp).and_then(|()| {
            renameat(parent.as_fd(), temp.as_str(), parent.as_fd(), name).map_err(io::Error::from)
        });
        if put.is_err() {
            unlinkat(parent.as_fd(), temp.as_str(), UnlinkatFlags::NoRemoveDir).ok();
        }
        put.map_err(|error| io::Error::new(error.kind(), format!("{path:?}: {error}")))
    }

    /// Opens a directory of the workspace, made with those above it where they are missing. No link on the way is
    /// followed.
    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut dir = self.root.try_clone()?;
        let mut above = PathBuf::new();
        for name in path.iter() {
            above.push(name);
            match mkdirat(dir.as_fd(), name, Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(nix::Error::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            dir = openat(dir.as_fd(), name, DIRECTORY, Mode::empty()).map_err(|error| match error {
                nix::Error::ELOOP | nix::Error::ENOTDIR if self.written.contains(&above) => {
                    outside(path, "lies below what came as a file or a link with it")
                }
                // The user's own, which the user may move.
                nix::Error::ELOOP | nix::Error::ENOTDIR => io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!(
                        "{above:?} is {} in the workspace, where a directory of the outputs has to be, and was left as it \
                         is; move it away",
                        kind_of(dir.as_fd(), name)
                    ),
                ),
                other => other.into(),
            })?;
        }
        Ok(dir)
    }
}

/// What is there instead of a directory, for people.
fn kind_of(dir: BorrowedFd<'_>, name: &OsStr) -> &'static str {
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    match stat.map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT) {
        Ok(SFlag::S_IFREG) => "a file",
        Ok(SFlag::S_IFLNK) => "a link",
        Ok(_) | Err(_) => "no directory",
    }
}

fn link_name<R: Read>(entry: &tar::Entry<'_, R>, path: &Path) -> io::Result<PathBuf> {
    let name = entry
        .link_name()?
        .ok_or_else(|| outside(path, "is a link to nothing"))?;
    Ok(name.into_owned())
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => Ok((above, name)),
        _ => Err(outside(path, "names no file")),
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short")
}

/// Counts what was read: the reader of a tar takes its end and that of the stream for the same.
struct Counted<R> {
    from: R,
    total: u64,
    /// Whether there is no more.
    is_over: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.total += read as u64;
        self.is_over |= read == 0 && !into.is_empty();
        Ok(read)
    }
}
