//! Entries of a workspace as a tar.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use tar::{Builder, EntryType, Header};

use super::list::{Entry, Kind};

/// Writes `entries` of the workspace `dir` as a tar, whole with its end mark; names in it are relative, owners
/// are 0. Tells the bytes of all files.
///
/// # Errors
/// A file cannot be read or shrinks while it is (the tar is then cut short), or `out` fails.
pub fn pack(dir: &Path, entries: &[Entry], out: impl Write) -> io::Result<u64> {
    let mut packer = Packer::new(out);
    let mut bytes = 0;
    for entry in entries {
        bytes += packer.entry(dir, entry, Path::new(""))?;
    }
    packer.finish()?.flush()?;
    Ok(bytes)
}

/// A tar in the making, for callers that add members of their own.
pub struct Packer<W: Write> {
    tar: Builder<W>,
}

impl<W: Write> Packer<W> {
    pub fn new(out: W) -> Self {
        Self {
            tar: Builder::new(out),
        }
    }

    /// Adds a file that is nowhere on disk.
    ///
    /// # Errors
    /// The output fails.
    pub fn bytes(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes)
    }

    /// Adds what `entry` of the workspace `dir` names, in the tar below `below`; tells the bytes of its file.
    ///
    /// # Errors
    /// As [`pack`].
    pub fn entry(&mut self, dir: &Path, entry: &Entry, below: &Path) -> io::Result<u64> {
        let added = self.append(dir, entry, &below.join(&entry.path));
        added.map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", entry.path)))
    }

    /// Writes the end mark and gives the output back.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(self) -> io::Result<W> {
        let mut out = self.tar.into_inner()?;
        out.flush()?;
        Ok(out)
    }

    fn append(&mut self, dir: &Path, entry: &Entry, name: &Path) -> io::Result<u64> {
        match &entry.kind {
            Kind::Dir => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                self.tar.append_data(&mut header, name, io::empty())?;
                Ok(0)
            }
            Kind::Symlink { target } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                self.tar.append_link(&mut header, name, target)?;
                Ok(0)
            }
            Kind::File { .. } => {
                // What it is now counts, not what it was when it was listed.
                let file = open(&dir.join(&entry.path))?;
                let meta = file.metadata()?;
                let executable = meta.permissions().mode() & 0o100 != 0;
                let mode = if executable { 0o755 } else { 0o644 };
                let mut header = header(EntryType::Regular, mode, meta.len());
                header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
                let left = meta.len();
                self.tar
                    .append_data(&mut header, name, &mut Exactly { file, left })?;
                Ok(meta.len())
            }
        }
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    Ok(file)
}

/// As many bytes as the header promises, also of a file that grows.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let read = self.file.read(&mut into[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
