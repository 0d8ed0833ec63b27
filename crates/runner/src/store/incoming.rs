//! A run that is brought here from elsewhere: written apart, and there at once when it is whole.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::OFlag;
use qwex_core::{Run, RunId};

use super::{Journal, Store, StoreError};
use crate::durable::Dir;

/// Beside `runs`, on the same file system.
const PLACE: &str = "incoming";
/// Held by whoever writes; one that nobody holds was left by a process that was killed.
const LOCK: &str = ".incoming";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The directory of a run that nobody sees yet. Dropped before [`Incoming::finish`], nothing of it is left.
#[derive(Debug)]
pub struct Incoming<'s> {
    store: &'s Store,
    place: Dir,
    name: String,
    journal: Journal,
    /// Held until dropped.
    _lock: File,
}

impl Store {
    /// Begins to write a run that ended elsewhere. What earlier tries left when they were killed is removed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn receive(&self, id: RunId) -> Result<Incoming<'_>, StoreError> {
        let broken = |source| StoreError::io("prepare", &self.run_path(id), source);
        let place = self.qwex.ensure_dir(PLACE).map_err(broken)?;
        sweep(&place).map_err(broken)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{id}.{}.{number}", std::process::id());
        let dir = place.create_dir(&name).map_err(broken)?;
        let lock = dir
            .open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(broken)?;
        Ok(Incoming {
            store: self,
            place,
            name,
            journal: Journal::new(id, dir),
            _lock: lock,
        })
    }
}

impl Incoming<'_> {
    /// Writes the files beside the record.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Writes the record, `json` being the run as its keeper told it, and makes the run be there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a run of that id came meanwhile, [`StoreError::Damaged`] if `json` is no run of this
    /// id, [`StoreError::Io`].
    pub fn finish(self, json: &[u8]) -> Result<Run, StoreError> {
        let id = self.journal.id();
        let run = self.journal.adopt(json)?;
        let broken = |source| StoreError::io("record", &self.store.run_path(id), source);
        let dir = self.place.open_dir(&self.name).map_err(broken)?;
        dir.remove_file(LOCK).and_then(|()| dir.sync()).map_err(broken)?;
        let moved = self.store.change(Some(id), || {
            if self.store.runs.has(&id.to_string())? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.place.move_to(&self.name, &self.store.runs, &id.to_string())
        });
        match moved.and_then(|()| self.store.runs.sync()) {
            Ok(()) => self.store.get(id).map(|_| run),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(StoreError::Conflict { id }),
            Err(error) => Err(broken(error)),
        }
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // After a finish nothing has this name any more. What cannot be removed is swept by the next one.
        self.place.remove_tree(&self.name).ok();
    }
}

/// Removes what nobody writes any more.
fn sweep(place: &Dir) -> io::Result<()> {
    for name in place.names()? {
        let Some(name) = name.to_str() else { continue };
        let Ok(lock) = place
            .open_dir(name)
            .and_then(|dir| dir.open_file(LOCK, OFlag::O_RDWR))
        else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => place.remove_tree(name)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwex_core::RunStatus;
    use serde_json::{Value, json};

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        (temp, store)
    }

    fn told(id: RunId) -> Value {
        let at = "2026-01-01T00:00:00Z";
        json!({
            "id": id, "project": "team", "status": "succeeded", "spec": {"command": ["true"]}, "attempt": 1, "exit_code": 0,
            "created_at": at, "finished_at": at, "created_by": "token:ci", "weather": "rain",
        })
    }

    fn left(temp: &tempfile::TempDir) -> usize {
        std::fs::read_dir(temp.path().join(".qwex/incoming"))
            .unwrap()
            .count()
    }

    #[test]
    fn a_run_is_there_when_it_is_whole_and_not_before() {
        let (temp, store) = store();
        let id = RunId::mint();
        assert_eq!(store.newest_ids(9).unwrap(), []);
        let incoming = store.receive(id).unwrap();
        let file = OFlag::O_WRONLY | OFlag::O_CREAT;
        incoming.journal().open_file("stdout.log", file).unwrap();
        assert!(matches!(store.get(id), Err(StoreError::NotFound { .. })));
        let run = incoming.finish(told(id).to_string().as_bytes()).unwrap();
        assert_eq!((run.id, run.status), (id, RunStatus::Succeeded));
        assert_eq!(store.newest_ids(9).unwrap(), [id]);
        assert!(store.run_path(id).join("stdout.log").is_file());
        let json = std::fs::read_to_string(store.run_path(id).join("run.json")).unwrap();
        assert!(
            json.contains("\"weather\"") && json.contains("\"version\""),
            "{json}"
        );
        assert_eq!(left(&temp), 0);
    }

    #[test]
    fn g07_an_interrupted_one_leaves_nothing() {
        let (temp, store) = store();
        let id = RunId::mint();
        let begun = store.receive(id).unwrap();
        assert_eq!(left(&temp), 1);
        let name = begun.name.clone();
        let lock = begun._lock.try_clone().unwrap();
        // As a process that is killed: nobody drops it, and the kernel lets go of its lock.
        std::mem::forget(begun);
        store.receive(id).unwrap();
        assert!(
            temp.path().join(".qwex/incoming").join(&name).exists(),
            "it was still held"
        );
        lock.unlock().unwrap();
        drop(store.receive(id).unwrap());
        assert_eq!(left(&temp), 0);
        assert_eq!(store.list_ids().unwrap(), []);
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let (_temp, store) = store();
        let id = RunId::mint();
        let (one, two) = (store.receive(id).unwrap(), store.receive(id).unwrap());
        one.finish(told(id).to_string().as_bytes()).unwrap();
        let refused = two.finish(told(id).to_string().as_bytes()).unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
        let other = store.receive(RunId::mint()).unwrap();
        let refused = other.finish(told(id).to_string().as_bytes()).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    }
}
