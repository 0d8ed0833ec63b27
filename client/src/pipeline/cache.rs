//! What ran before, by all that it depended on. An entry whose files are gone is none.

use jiff::Timestamp;
use qwex_core::RunId;
use serde::{Deserialize, Serialize};

use super::artifacts::{Artifact, can_restore};
use super::error::PipelineError;
use super::objects::Objects;

/// A success that may be used again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub run_id: RunId,
    #[serde(default)]
    pub image_digest: Option<String>,
    pub finished_at: Option<Timestamp>,
    pub outputs: Vec<Artifact>,
}

/// The success under a key, if all its files can be had. What cannot be read is none.
#[must_use]
pub fn find(objects: &Objects, key: &str) -> Option<Entry> {
    let bytes = objects.read_key(key)?;
    let entry: Entry = serde_json::from_slice(&bytes).ok()?;
    can_restore(&entry.outputs, objects).then_some(entry)
}

/// Remembers a success.
///
/// # Errors
/// It cannot be written.
pub fn put(objects: &Objects, key: &str, entry: &Entry) -> Result<(), PipelineError> {
    let json = serde_json::to_vec_pretty(entry).expect("words and times serialise");
    objects.write_key(key, &json)
}
