//! The list of what a run made, beside its record: `.qwex/runs/<id>/artifacts.json`. Written by the driver of its
//! pipeline; read by whoever asks which stored files a run still names.

use std::io;
use std::path::Path;

use qwex_core::RunId;
use qwex_runner::durable::{Dir, Durability};

use super::artifacts::Artifact;
use super::error::PipelineError;

const FILE: &str = "artifacts.json";

/// Writes the list. The pipeline has it too.
///
/// # Errors
/// The run has no directory here, or it cannot be written.
pub fn write(project: &Path, id: RunId, outputs: &[Artifact]) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(outputs).expect("words and numbers serialise");
    directory(project, id)?.write(FILE, &json, Durability::Machine)
}

/// What a run made; of one without a list, nothing.
///
/// # Errors
/// The list cannot be read or understood.
pub fn read(project: &Path, id: RunId) -> Result<Vec<Artifact>, PipelineError> {
    let path = || project.join(".qwex/runs").join(id.to_string()).join(FILE);
    let bytes = match directory(project, id).and_then(|dir| dir.read(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(PipelineError::io("read", &path(), source)),
    };
    let Some(bytes) = bytes else {
        return Ok(Vec::new());
    };
    serde_json::from_slice(&bytes).map_err(|error| PipelineError::Damaged {
        path: path(),
        message: error.to_string(),
    })
}

fn directory(project: &Path, id: RunId) -> io::Result<Dir> {
    Dir::open(project.join(".qwex/runs").join(id.to_string()))
}
