//! The file of a run: the API object plus `version`, and whatever a newer version of qwex put beside.

use std::path::Path;

use qwex_core::{Run, RunState};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::StoreError;

/// Version of the record that this qwex writes.
pub const VERSION: u64 = 1;

/// A run as it is on disk.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub run: Run,
    /// See [`RunState::round`]; no part of the API object.
    pub round: u64,
    /// The object as it was read, with the fields that we do not know.
    raw: Map<String, Value>,
}

impl Record {
    pub fn new(run: Run) -> Self {
        Self {
            run,
            round: 0,
            raw: Map::new(),
        }
    }

    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |message: String| StoreError::Damaged {
            path: path.to_owned(),
            message,
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let run: Run = Run::deserialize(&value).map_err(|error| damaged(error.to_string()))?;
        let Value::Object(raw) = value else {
            return Err(damaged("it is no JSON object".to_owned()));
        };
        let round = raw.get("round").and_then(Value::as_u64).unwrap_or(0);
        Ok(Self { run, round, raw })
    }

    /// The bytes of the file; fields that we do not know stay.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let version = self.raw.get("version").and_then(Value::as_u64).unwrap_or(VERSION);
        if version > VERSION {
            return Err(StoreError::Newer {
                path: path.to_owned(),
                version,
            });
        }
        let damaged = |error: serde_json::Error| StoreError::Damaged {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let mut object = self.raw.clone();
        let ours = serde_json::to_value(&self.run).map_err(damaged)?;
        overlay(&mut object, ours);
        object.insert("version".to_owned(), VERSION.into());
        if self.round > 0 {
            object.insert("round".to_owned(), self.round.into());
        }
        let mut bytes = serde_json::to_vec_pretty(&object).map_err(damaged)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub fn state(&self) -> RunState {
        RunState {
            round: self.round,
            ..state_of(&self.run)
        }
    }

    pub fn put(&mut self, state: RunState) {
        self.round = state.round;
        self.run.status = state.status;
        self.run.pending = state.pending;
        self.run.failure = state.failure;
        self.run.exit_code = state.exit_code;
        self.run.attempt = state.attempt;
        self.run.backend = state.backend;
        self.run.flags = state.flags;
        self.run.dispatched_at = state.dispatched_at;
        self.run.started_at = state.started_at;
        self.run.finished_at = state.finished_at;
    }
}

/// The part of a run that observations move. The round is not in a run: 0.
#[must_use]
pub fn state_of(run: &Run) -> RunState {
    RunState {
        status: run.status,
        pending: run.pending.clone(),
        failure: run.failure.clone(),
        exit_code: run.exit_code,
        attempt: run.attempt,
        round: 0,
        backend: run.backend.clone(),
        flags: run.flags.clone(),
        dispatched_at: run.dispatched_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        retry: run.spec.retry.clone(),
    }
}

/// Puts `ours` over what was read, object by object, so that unknown fields survive at every depth.
fn overlay(onto: &mut Map<String, Value>, ours: Value) {
    let Value::Object(ours) = ours else {
        return;
    };
    for (name, value) in ours {
        match (onto.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => overlay(inner, Value::Object(value)),
            (_, value) => {
                onto.insert(name, value);
            }
        }
    }
}
