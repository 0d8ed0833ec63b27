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
    let mut tar = Builder::new(out);
    let mut bytes = 0;
    for entry in entries {
        bytes += append(&mut tar, dir, entry)
            .map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", entry.path)))?;
    }
    tar.into_inner()?.flush()?;
    Ok(bytes)
}

fn append(tar: &mut Builder<impl Write>, dir: &Path, entry: &Entry) -> io::Result<u64> {
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    match &entry.kind {
        Kind::Dir => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            tar.append_data(&mut header, &entry.path, io::empty())?;
            Ok(0)
        }
        Kind::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, &entry.path, target)?;
            Ok(0)
        }
        Kind::File { .. } => {
            // What it is now counts, not what it was when it was listed.
            let file = open(&dir.join(&entry.path))?;
            let meta = file.metadata()?;
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if meta.permissions().mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            });
            header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
            header.set_size(meta.len());
            let mut exactly = Exactly {
                file,
                left: meta.len(),
            };
            tar.append_data(&mut header, &entry.path, &mut exactly)?;
            Ok(meta.len())
        }
    }
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
