//! Why the archive does not take what it is given, in the few words that people are told, and what of it this process
//! remembers. Never a path or a bucket: those are for the server's log.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use qwex_api::log::ArchiveTrouble;

use super::StoreError;

/// A refusal is told for so long unless it comes again: longer than the longest pause between two tries with all
/// that each may take.
pub(super) const RECENT: Duration = Duration::from_secs(180);

pub(super) fn trouble_of(error: &StoreError) -> ArchiveTrouble {
    match error {
        StoreError::Refused(refusal) => of_refusal(refusal),
        StoreError::Directory(error) | StoreError::Removal(error) => {
            of_io(error).unwrap_or(ArchiveTrouble::Refused)
        }
        StoreError::Slow => ArchiveTrouble::NoAnswer,
        StoreError::Missing { .. } | StoreError::Broken { .. } => ArchiveTrouble::Damaged,
        StoreError::UnknownKind(_) | StoreError::Malformed(_) => ArchiveTrouble::Refused,
    }
}

fn of_refusal(refusal: &object_store::Error) -> ArchiveTrouble {
    if let object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } =
        refusal
    {
        return ArchiveTrouble::Denied;
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(refusal);
    while let Some(error) = cause {
        if let Some(trouble) = error.downcast_ref::<io::Error>().and_then(of_io) {
            return trouble;
        }
        cause = error.source();
    }
    ArchiveTrouble::Refused
}

fn of_io(error: &io::Error) -> Option<ArchiveTrouble> {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(ArchiveTrouble::NoSpace),
        ErrorKind::PermissionDenied => Some(ArchiveTrouble::Denied),
        ErrorKind::ReadOnlyFilesystem => Some(ArchiveTrouble::ReadOnly),
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::TimedOut
        | ErrorKind::StaleNetworkFileHandle => Some(ArchiveTrouble::NoAnswer),
        _ => None,
    }
}

/// The archive refused, first at `since` and last at `seen_at`, and took nothing in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub trouble: ArchiveTrouble,
    pub since: Timestamp,
    pub seen_at: Timestamp,
}

impl Refusal {
    fn is_recent(&self, now: Timestamp) -> bool {
        now.duration_since(self.seen_at).unsigned_abs() < RECENT
    }
}

/// What this process met. Rows tell of logs that wait; this tells of what has no row, as an import that was refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<Option<Refusal>>>);

impl Refusals {
    /// After each write.
    pub fn note(&self, put: &Result<(), StoreError>) {
        self.note_at(put.as_ref().err().map(trouble_of), Timestamp::now());
    }

    fn note_at(&self, trouble: Option<ArchiveTrouble>, now: Timestamp) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = trouble.map(|trouble| {
            metrics::counter!("qwex_archive_refusals_total", "trouble" => trouble.as_str()).increment(1);
            Refusal {
                trouble,
                since: last
                    .filter(|last| last.is_recent(now))
                    .map_or(now, |last| last.since),
                seen_at: now,
            }
        });
    }

    pub fn recent(&self) -> Option<Refusal> {
        self.recent_at(Timestamp::now())
    }

    fn recent_at(&self, now: Timestamp) -> Option<Refusal> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|last| last.is_recent(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::Refused(object_store::Error::Generic {
            store: "test",
            source: cause.into(),
        })
    }

    #[test]
    fn what_the_disk_says_is_found_below_what_the_archive_says() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let errno = |number| generic(Outer(io::Error::from_raw_os_error(number)));
        for (error, trouble) in [
            (errno(28), ArchiveTrouble::NoSpace),
            (errno(122), ArchiveTrouble::NoSpace),
            (errno(30), ArchiveTrouble::ReadOnly),
            (errno(13), ArchiveTrouble::Denied),
            (errno(111), ArchiveTrouble::NoAnswer),
            (errno(5), ArchiveTrouble::Refused),
            (generic("words"), ArchiveTrouble::Refused),
            (StoreError::Slow, ArchiveTrouble::NoAnswer),
        ] {
            assert_eq!(trouble_of(&error), trouble, "{error:?}");
        }
    }

    #[test]
    fn a_refusal_lasts_until_something_is_taken_or_nothing_was_tried_for_long() {
        let refusals = Refusals::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        refusals.note_at(Some(ArchiveTrouble::NoSpace), at(1_000));
        refusals.note_at(Some(ArchiveTrouble::Denied), at(1_060));
        let told = refusals.recent_at(at(1_200)).unwrap();
        assert_eq!((told.trouble, told.since), (ArchiveTrouble::Denied, at(1_000)));
        assert_eq!(refusals.recent_at(at(1_240)), None);
        refusals.note_at(Some(ArchiveTrouble::Denied), at(2_000));
        assert_eq!(refusals.recent_at(at(2_001)).unwrap().since, at(2_000));
        refusals.note_at(None, at(2_002));
        assert_eq!(refusals.recent_at(at(2_002)), None);
    }
}
