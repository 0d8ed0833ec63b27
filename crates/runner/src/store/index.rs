//! The ids of all runs in one file, newest last, so that a list need not read a directory of a million. Never the
//! truth: whenever the directory changed without it, it is made again from the directory.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::SystemTime;

use nix::fcntl::OFlag;
use qwex_core::RunId;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::durable::Durability;

const FILE: &str = "index";
const LOCK: &str = ".index.lock";
/// Bytes of an id.
const ENTRY: usize = 16;
/// Runs that are made at the same time are not recorded in the order of their ids; none is further off than this.
const DISORDER: usize = 1024;
/// An id that is this much older than the last one does not belong at the end.
const OLD_MS: u64 = 60_000;

impl Store {
    /// Ids of the newest runs, newest first: at least `most` of them, or all there are. A run that was just removed
    /// may be among them.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn newest_ids(&self, most: usize) -> Result<Vec<RunId>, StoreError> {
        let broken = |source| StoreError::io("read the index of", self.path(), source);
        if self.is_stale().map_err(broken)? {
            let _lock = self.lock_index().map_err(broken)?;
            if self.is_stale().map_err(broken)? {
                let ids = self.list_ids()?;
                self.write_index(&ids).map_err(broken)?;
                return Ok(ids);
            }
        }
        self.read_index(most).map_err(broken)
    }

    /// Does something that changes which runs there are. `added` is appended; without it one was removed.
    pub(super) fn change<T>(
        &self,
        added: Option<RunId>,
        change: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let _lock = self.lock_index()?;
        let was_stale = self.is_stale()?;
        let done = change()?;
        // An index that was stale before stays so, and is made again by the next reader.
        if !was_stale {
            self.note(added)?;
        }
        Ok(done)
    }

    fn note(&self, added: Option<RunId>) -> io::Result<()> {
        let mut index = self.qwex.open_file(FILE, OFlag::O_RDWR | OFlag::O_APPEND)?;
        if let Some(id) = added {
            if is_far_older(id, last(&index)?) {
                return self.qwex.remove_file(FILE);
            }
            index.write_all(id.as_uuid().as_bytes())?;
        }
        // The directory's own time comes from a coarser clock, so it is not later than this one.
        index.set_modified(SystemTime::now())
    }

    fn lock_index(&self) -> io::Result<File> {
        let lock = self.qwex.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)?;
        lock.lock()?;
        Ok(lock)
    }

    /// Whether the directory changed after the index did.
    fn is_stale(&self) -> io::Result<bool> {
        let index = match self.qwex.open_file(FILE, OFlag::O_RDONLY) {
            Ok(index) => index.metadata()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let runs = std::fs::metadata(self.runs.path())?;
        let time = |metadata: &std::fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
        Ok(time(&runs) > time(&index) || !index.len().is_multiple_of(ENTRY as u64))
    }

    fn write_index(&self, newest_first: &[RunId]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(newest_first.len() * ENTRY);
        for id in newest_first.iter().rev() {
            bytes.extend_from_slice(id.as_uuid().as_bytes());
        }
        // Its time is taken before the directory is looked at again: what comes in between makes it stale.
        self.qwex.write(FILE, &bytes, Durability::Process)
    }

    fn read_index(&self, most: usize) -> io::Result<Vec<RunId>> {
        let index = self.qwex.open_file(FILE, OFlag::O_RDONLY)?;
        let entries = usize::try_from(index.metadata()?.len()).unwrap_or(usize::MAX) / ENTRY;
        let wanted = entries.min(most.saturating_add(DISORDER));
        let mut bytes = vec![0; wanted * ENTRY];
        index.read_exact_at(&mut bytes, ((entries - wanted) * ENTRY) as u64)?;
        let mut ids: Vec<RunId> = bytes.chunks_exact(ENTRY).filter_map(read_id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        if wanted < entries {
            // What is at the edge of the window may have its place outside of it.
            ids.truncate(most);
        }
        Ok(ids)
    }
}

fn read_id(bytes: &[u8]) -> Option<RunId> {
    RunId::try_from(Uuid::from_slice(bytes).ok()?).ok()
}

fn last(index: &File) -> io::Result<Option<RunId>> {
    let length = index.metadata()?.len();
    if length < ENTRY as u64 {
        return Ok(None);
    }
    let mut bytes = [0; ENTRY];
    index.read_exact_at(&mut bytes, length - ENTRY as u64)?;
    Ok(read_id(&bytes))
}

/// The first 48 bits of an id are its Unix milliseconds.
fn is_far_older(id: RunId, last: Option<RunId>) -> bool {
    let millis = |id: RunId| {
        let (high, _) = id.as_uuid().as_u64_pair();
        high >> 16
    };
    last.is_some_and(|last| millis(id) + OLD_MS < millis(last))
}
