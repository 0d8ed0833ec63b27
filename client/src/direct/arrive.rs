//! The last step of outputs that come from elsewhere: they arrive beside the record of their run, and go from there into
//! the workspace. A file that somebody changed there after the run was submitted is left as it is, and what came stays
//! beside the record until its owner decides. Called by `outputs` and `ask_outputs`; talks to no backend.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fsync, syncfs};
use qwex_runner::durable::Durability;
use qwex_runner::workspace::{check_path, is_never_sent};
use qwex_runner::{Journal, StoreError};

use super::placed;

/// Directory beside the record in which outputs arrive.
pub const ARRIVED: &str = "outputs";
/// Beside it once all of them are there: their paths, each with a NUL.
const LIST: &str = "outputs.arrived";
const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// Bytes that are compared at a time.
const PIECE: usize = 64 * 1024;

/// What became of files that were put into the workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Put {
    pub here: Vec<PathBuf>,
    /// Left beside the record, since somebody changed what is in their places.
    pub held: Vec<PathBuf>,
}

/// The directory in which they arrive, made if it is not there.
///
/// # Errors
/// It cannot be made.
pub fn ready(journal: &Journal) -> io::Result<PathBuf> {
    let dir = journal.path_of(ARRIVED);
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(dir),
    }
}

/// Notes that all of them arrived, to stay: who brought them may forget them. Blocks until the disk has them.
///
/// # Errors
/// It cannot be written.
pub fn note(journal: &Journal, paths: &[PathBuf]) -> Result<(), StoreError> {
    let arrived = journal.path_of(ARRIVED);
    let kept = File::open(&arrived).and_then(|dir| Ok(syncfs(dir)?));
    kept.map_err(|source| StoreError::io("sync", &arrived, source))?;
    let names = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"]);
    journal.write_file(LIST, &names.collect::<Vec<_>>().concat(), Durability::Machine)
}

/// Those that arrived; `None`: not all of them did yet.
///
/// # Errors
/// It cannot be read.
pub fn noted(journal: &Journal) -> Result<Option<Vec<PathBuf>>, StoreError> {
    let names = journal.read_file(LIST)?;
    Ok(names.map(|names| {
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        names
            .map(|name| PathBuf::from(OsString::from_vec(name.to_owned())))
            .collect()
    }))
}

/// How much has arrived and is not in its place yet: files and bytes. It changes for as long as somebody brings more.
#[must_use]
pub fn amount(journal: &Journal) -> (u64, u64) {
    fn add(dir: &Path, sum: &mut (u64, u64)) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => add(&entry.path(), sum),
                Ok(meta) => *sum = (sum.0 + 1, sum.1 + meta.len()),
                Err(_) => {}
            }
        }
    }
    let mut sum = (0, 0);
    add(&journal.path_of(ARRIVED), &mut sum);
    sum
}

/// Puts what arrived into a workspace, by paths below it; what is there already, or was, counts as put. `force`: whatever
/// was changed there meanwhile.
///
/// # Errors
/// `NotADirectory`, `IsADirectory`: a file or a directory of the user lies in the way. `InvalidData`: a link does, which
/// is never followed. Others are the disk's; what was put stays, and the rest can be put later.
pub fn put(journal: &Journal, workspace: &Path, paths: &[PathBuf], force: bool) -> io::Result<Put> {
    let arrived = ready(journal)?;
    if paths.is_empty() {
        fs::remove_dir_all(&arrived)?;
        return Ok(Put::default());
    }
    let since = if force { None } else { Some(submitted(journal)?) };
    let from = Tree::open(&arrived)?;
    let to = Tree::open(workspace)?;
    let mut put = Put::default();
    for path in paths {
        let path = check_path(path)?;
        if is_never_sent(&path) {
            let why = format!("{path:?}: what git and qwex keep is no output");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let is_put = move_one(&from, &to, &path, since);
        let is_put = is_put.map_err(|error| io::Error::new(error.kind(), format!("{path:?}: {error}")))?;
        let among = if is_put { &mut put.here } else { &mut put.held };
        among.push(path);
    }
    if put.held.is_empty() {
        // Nothing but empty directories.
        fs::remove_dir_all(&arrived)?;
    }
    Ok(put)
}

/// When the run was submitted, by the clock of the files.
fn submitted(journal: &Journal) -> io::Result<SystemTime> {
    fs::metadata(journal.path_of(placed::FILE))?.modified()
}

/// Whether it is in its place now; not, if somebody changed what is there.
fn move_one(from: &Tree, to: &Tree, path: &Path, since: Option<SystemTime>) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default();
    let above = path.parent().unwrap_or(Path::new(""));
    let Some(source) = from.below(above, false)? else {
        return Ok(true);
    };
    let source = source.at(name);
    let coming = match fs::symlink_metadata(&source) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let Some(target_dir) = to.below(above, true)? else {
        return Ok(false);
    };
    let target = target_dir.at(name);
    match fs::symlink_metadata(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(there) if there.is_dir() => {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "a directory of that name is in the workspace",
            ));
        }
        Ok(there) if is_same(&source, &coming, &target, &there)? => {
            fs::remove_file(&source)?;
            return Ok(true);
        }
        Ok(there) if since.is_some_and(|since| changed(&there) > since) => return Ok(false),
        Ok(_) => {}
    }
    match fs::rename(&source, &target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(&source, &coming, &target_dir, name)?;
            fs::remove_file(&source)?;
        }
        moved => moved?,
    }
    Ok(true)
}

/// Its last change of whatever kind: its time of writing can be set, and comes along with a copy.
fn changed(meta: &Metadata) -> SystemTime {
    let nanos = u32::try_from(meta.ctime_nsec()).unwrap_or(0);
    let since_epoch = std::time::Duration::new(u64::try_from(meta.ctime()).unwrap_or(0), nanos);
    SystemTime::UNIX_EPOCH + since_epoch
}

fn is_same(one: &Path, one_meta: &Metadata, other: &Path, other_meta: &Metadata) -> io::Result<bool> {
    if one_meta.is_symlink() && other_meta.is_symlink() {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    let is_executable = |meta: &Metadata| meta.permissions().mode() & 0o100 != 0;
    let may_be = one_meta.is_file()
        && other_meta.is_file()
        && one_meta.len() == other_meta.len()
        && is_executable(one_meta) == is_executable(other_meta);
    Ok(may_be && same_bytes(File::open(one)?, File::open(other)?)?)
}

fn same_bytes(one: File, other: File) -> io::Result<bool> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (mut one, mut other) = (io::BufReader::new(one), io::BufReader::new(other));
    loop {
        for (file, piece) in [(&mut one, &mut left), (&mut other, &mut right)] {
            piece.clear();
            file.take(PIECE as u64).read_to_end(piece)?;
        }
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// To another file system, whole or not at all.
fn copy(source: &Path, meta: &Metadata, dir: &Below, name: &OsStr) -> io::Result<()> {
    let temp = dir.at(OsStr::new(&format!(".qwex-{}-0.tmp", std::process::id())));
    let copied = if meta.is_symlink() {
        symlink(fs::read_link(source)?, &temp)
    } else {
        copy_file(source, meta, &temp)
    };
    let copied = copied.and_then(|()| fs::rename(&temp, dir.at(name)));
    let copied = copied.and_then(|()| Ok(fsync(&dir.0)?));
    if copied.is_err() {
        fs::remove_file(&temp).ok();
    }
    copied
}

fn copy_file(source: &Path, meta: &Metadata, temp: &Path) -> io::Result<()> {
    let mut from = File::open(source)?;
    let mut into = fs::OpenOptions::new().write(true).create_new(true).open(temp)?;
    io::copy(&mut from, &mut into)?;
    into.set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
    into.set_modified(meta.modified()?)?;
    into.sync_all()
}

/// An open directory, below which no link is followed.
struct Tree(OwnedFd);

/// A directory of one.
struct Below(OwnedFd);

impl Tree {
    fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self(open(dir, DIRECTORY, Mode::empty())?))
    }

    /// A directory below it, made with those above it if `make`; `None`: it is not there.
    fn below(&self, path: &Path, make: bool) -> io::Result<Option<Below>> {
        let mut dir = self.0.try_clone()?;
        for name in path {
            if make {
                match mkdirat(dir.as_fd(), name, Mode::from_bits_truncate(0o777)) {
                    Ok(()) | Err(nix::Error::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let through = Below(dir);
            dir = match openat(through.0.as_fd(), name, DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                Err(nix::Error::ENOENT) if !make => return Ok(None),
                Err(error) => return Err(blocked(error, &through.at(name))),
            };
        }
        Ok(Some(Below(dir)))
    }
}

impl Below {
    /// A path that leads into this very directory, also after somebody put a link in its place.
    fn at(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.0.as_raw_fd().to_string())
            .join(name)
    }
}

/// What lies where a directory has to be.
fn blocked(error: nix::Error, at: &Path) -> io::Error {
    let is_file = fs::symlink_metadata(at).is_ok_and(|meta| meta.is_file());
    match error {
        // The user's own, which the user may move.
        nix::Error::ENOTDIR if is_file => io::Error::new(
            io::ErrorKind::NotADirectory,
            "it lies below what is a file in the workspace",
        ),
        nix::Error::ENOTDIR | nix::Error::ELOOP => io::Error::new(
            io::ErrorKind::InvalidData,
            "it lies below what is a link in the workspace",
        ),
        other => other.into(),
    }
}

#[cfg(test)]
#[path = "arrive_tests.rs"]
mod tests;
