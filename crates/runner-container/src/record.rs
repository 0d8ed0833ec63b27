//! What is known of an attempt beyond what its container says: one JSON file per attempt in the state directory,
//! changed only under the attempt's lock, which excludes other processes too. So submit, cancel and the end of a pull
//! happen one after another, whoever does them; a process that is killed leaves a record that the next submit of the
//! same attempt continues from.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use nix::fcntl::OFlag;
use qwex_core::ObjectUid;
use qwex_runner::durable::{Dir, Durability};
use qwex_runner::{Key, RunnerError};
use serde::{Deserialize, Serialize};

use crate::connect::Home;

/// An attempt that was submitted, or cancelled before it could be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub uid: ObjectUid,
    /// Empty where it was cancelled before anybody submitted it.
    pub spec_hash: String,
    pub image: String,
    pub created_at: Timestamp,
    /// The engine that was given the attempt.
    #[serde(default)]
    pub home: Option<Home>,
    /// The container's id, once it was made. From then on none is made again.
    #[serde(default)]
    pub container: Option<String>,
    #[serde(default)]
    pub stop: Option<Stop>,
    #[serde(default)]
    pub end: Option<End>,
}

/// Somebody asked to stop a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub cause: StopCause,
    pub asked_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    Cancelled,
    Timeout,
}

/// An end that no container tells of: its command never began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub cause: EndCause,
    pub message: String,
    pub ended_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The image cannot be had.
    Image,
    /// The engine made the container and could not start its command.
    StartError,
    /// The engine refuses the container for ever.
    Rejected,
    Cancelled,
}

impl Record {
    pub fn new(spec_hash: String, image: String) -> Self {
        Self {
            uid: ObjectUid(uuid::Uuid::now_v7().to_string()),
            spec_hash,
            image,
            created_at: Timestamp::now(),
            home: None,
            container: None,
            stop: None,
            end: None,
        }
    }

    #[must_use]
    pub fn at(mut self, home: Home) -> Self {
        self.home = Some(home);
        self
    }

    pub fn end(&mut self, cause: EndCause, message: impl Into<String>) {
        self.end = Some(End {
            cause,
            message: message.into(),
            ended_at: Timestamp::now(),
        });
    }
}

/// All records of one state directory.
#[derive(Debug, Clone)]
pub struct Records {
    dir: Arc<Dir>,
}

/// The right to change one record; lasts until it is dropped.
#[derive(Debug)]
pub struct Locked {
    _file: File,
}

impl Records {
    pub fn open(path: &Path) -> Result<Self, RunnerError> {
        let open = || {
            std::fs::create_dir_all(path)?;
            Dir::open(std::path::absolute(path)?)
        };
        let dir = open().map_err(|error| failed("use", path, &error))?;
        Ok(Self { dir: Arc::new(dir) })
    }

    pub fn read(&self, key: Key) -> Result<Option<Record>, RunnerError> {
        let name = file_name(key);
        let bytes = self
            .dir
            .read(&name)
            .map_err(|error| self.failed("read", &name, &error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            // One of many runs must not blind us for the others; its container, if there is one, is found by its name.
            Err(error) => {
                let path = self.dir.path().join(&name);
                tracing::warn!(path = %path.display(), %error, "a record that cannot be read counts for none");
                Ok(None)
            }
        }
    }

    /// That an attempt was begun, and its end, nobody else says again, so they must survive the machine. What is written
    /// between them must not leave half a record.
    pub fn write(&self, key: Key, record: &Record, _lock: &Locked) -> Result<(), RunnerError> {
        let durability = match (&record.end, &record.container) {
            (Some(_), _) | (None, None) => Durability::Machine,
            (None, Some(_)) => Durability::Whole,
        };
        let name = file_name(key);
        let bytes = serde_json::to_vec(record).expect("a record of strings serialises");
        self.dir
            .write(&name, &bytes, durability)
            .map_err(|error| self.failed("write", &name, &error))
    }

    pub fn remove(&self, key: Key, _lock: &Locked) -> Result<(), RunnerError> {
        for name in [file_name(key), pull_name(key), lock_name(key)] {
            self.dir
                .remove_file(&name)
                .map_err(|error| self.failed("remove", &name, &error))?;
        }
        Ok(())
    }

    /// Every attempt with a record.
    pub fn keys(&self) -> Result<Vec<Key>, RunnerError> {
        let names = self
            .dir
            .names()
            .map_err(|error| failed("list", self.dir.path(), &error))?;
        let keys = names
            .iter()
            .filter_map(|name| Key::of_object(name.to_str()?.strip_suffix(".json")?));
        Ok(keys.collect())
    }

    /// Waits for the attempt's lock.
    pub async fn lock(&self, key: Key) -> Result<Locked, RunnerError> {
        let this = self.clone();
        let name = lock_name(key);
        let locked = tokio::task::spawn_blocking(move || {
            loop {
                let file = this.open_file(&name)?;
                file.lock()?;
                // The record may have been removed, lock and all, while we waited.
                if file.metadata()?.nlink() > 0 {
                    return Ok(file);
                }
            }
        });
        let locked = locked.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let file = locked.map_err(|error| self.failed("lock", &lock_name(key), &error))?;
        Ok(Locked { _file: file })
    }

    /// The right to pull the attempt's image; `None` while another task or process has it.
    pub fn try_lock_pull(&self, key: Key) -> Result<Option<Locked>, RunnerError> {
        let name = pull_name(key);
        let file = self
            .open_file(&name)
            .map_err(|error| self.failed("open", &name, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.failed("lock", &name, &error)),
        }
    }

    /// Whether somebody pulls the attempt's image now.
    pub fn is_pulling(&self, key: Key) -> Result<bool, RunnerError> {
        Ok(self.try_lock_pull(key)?.is_none())
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        self.dir.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT)
    }

    fn failed(&self, what: &str, name: &str, error: &io::Error) -> RunnerError {
        failed(what, &self.dir.path().join(name), error)
    }
}

fn file_name(key: Key) -> String {
    format!("{}.json", key.object())
}

fn lock_name(key: Key) -> String {
    format!("{}.lock", key.object())
}

fn pull_name(key: Key) -> String {
    format!("{}.pull", key.object())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> RunnerError {
    RunnerError::Failed {
        message: format!("cannot {what} {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwex_core::{Attempt, RunId};

    #[tokio::test]
    async fn a_removed_lock_excludes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let key = Key {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
        };
        let lock = records.lock(key).await.unwrap();
        let record = Record::new("hash".to_owned(), "busybox".to_owned());
        records.write(key, &record, &lock).unwrap();
        assert_eq!(records.read(key).unwrap(), Some(record));
        assert_eq!(records.keys().unwrap(), [key]);

        let other = records.clone();
        let waiting = tokio::spawn(async move { other.lock(key).await });
        records.remove(key, &lock).unwrap();
        drop(lock);
        let again = waiting.await.unwrap().unwrap();
        let third = tokio::time::timeout(std::time::Duration::from_millis(100), records.lock(key)).await;
        assert!(
            third.is_err(),
            "the lock that was waited for is the one in the directory"
        );
        drop(again);
        assert_eq!(records.read(key).unwrap(), None);
    }

    #[tokio::test]
    async fn a_torn_record_counts_for_none_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let key = || Key {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
        };
        let (torn, whole) = (key(), key());
        let record = Record::new("hash".to_owned(), "busybox".to_owned());
        for key in [torn, whole] {
            let lock = records.lock(key).await.unwrap();
            records.write(key, &record, &lock).unwrap();
        }
        let path = dir.path().join(file_name(torn));
        for left in [&b""[..], b"{\"uid\":\"1\",\"spec_h", b"\0\0\0\0"] {
            std::fs::write(&path, left).unwrap();
            assert_eq!(records.read(torn).unwrap(), None);
        }
        assert_eq!(records.read(whole).unwrap(), Some(record));
    }

    #[test]
    fn one_pulls_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let key = Key {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
        };
        let pulls = records.try_lock_pull(key).unwrap();
        assert!(pulls.is_some() && records.is_pulling(key).unwrap());
        drop(pulls);
        assert!(!records.is_pulling(key).unwrap());
    }
}
