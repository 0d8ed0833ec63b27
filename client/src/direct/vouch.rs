//! Whether a run was submitted by this very user on this machine. A checkout, an archive or a directory that others may
//! write can carry the record of a run; without this, looking at it would start its command. Beside what a kept run was
//! asked to run on lies a mark of this user over that and its spec. `runs` writes it, `keeper` starts nothing without it.
//! It names no path: a directory may be moved.

use qwex_core::Run;
use qwex_runner::durable::Durability;
use qwex_runner::{Journal, StoreError};

use super::error::DirectError;
use super::placed::{self, Placed};
use crate::mark::{self, Key};

/// Beside the record.
const FILE: &str = "placed.mac";
/// What else is ever marked begins with other words.
const ABOUT: &str = "qwex placed run 1";

/// This user's key, asked for before a run is recorded.
///
/// # Errors
/// There is no place for it, or it cannot be read or made.
pub fn own_key() -> Result<Key, DirectError> {
    mark::own_key().map_err(|source| DirectError::Key { source })
}

/// Vouches for a run that this user submits here.
///
/// # Errors
/// The file cannot be written.
pub fn vouch(key: &Key, journal: &Journal, run: &Run, placed: &Placed) -> Result<(), StoreError> {
    let mark = key.sign(&[about(run).as_bytes(), &placed.bytes()]);
    journal.write_file(FILE, mark.as_bytes(), Durability::Machine)
}

/// Why nobody can say that this user submitted the run here; `None`: that is certain.
///
/// # Errors
/// A file beside the record cannot be read.
pub fn doubt(journal: &Journal, run: &Run) -> Result<Option<String>, StoreError> {
    let told = journal.read_file(FILE)?;
    let placed = journal.read_file(placed::FILE)?.unwrap_or_default();
    Ok(mark::doubt(told.as_deref(), &[about(run).as_bytes(), &placed]))
}

fn about(run: &Run) -> String {
    format!("{ABOUT}\n{}\n{}\n", run.id, run.spec.hash())
}

#[cfg(test)]
mod tests {
    use qwex_core::{JobSpec, RunId};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mark_is_of_this_run_and_its_spec() {
        let run: Run = serde_json::from_value(json!({
            "id": RunId::mint(), "project": "default", "spec": {"command": ["true"]}, "status": "pending",
            "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
        }))
        .unwrap();
        let other_spec = Run {
            spec: JobSpec::for_command(["false"]),
            ..run.clone()
        };
        let other_id = Run {
            id: RunId::mint(),
            ..run.clone()
        };
        assert_eq!(about(&run), about(&run.clone()));
        assert_ne!(about(&run), about(&other_spec));
        assert_ne!(about(&run), about(&other_id));
    }
}
