//! Small JSON files beside the record of a run, each written by one of this room.

use qwex_runner::{Journal, StoreError};
use serde::de::DeserializeOwned;

/// What such a file holds; `None`: it is not there.
///
/// # Errors
/// It cannot be read, or holds something else.
pub fn read<T: DeserializeOwned>(journal: &Journal, name: &str) -> Result<Option<T>, StoreError> {
    let Some(bytes) = journal.read_file(name)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StoreError::Damaged {
            path: journal.path_of(name),
            message: error.to_string(),
        })
}
