//! The labels qwex writes on containers and looks for on them: the words of `runner-k8s`, so that one filter finds
//! everything of qwex on any engine.

use std::collections::HashMap;

use qwex_core::{Attempt, RunId};
use qwex_runner::{Handle, Work};

pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const QWEX: &str = "qwex";
pub const RUN_ID: &str = "qwex.dev/run-id";
pub const ATTEMPT: &str = "qwex.dev/attempt";
pub const PROJECT: &str = "qwex.dev/project";
pub const SPEC_HASH: &str = "qwex.dev/spec-hash";
/// Identity of the attempt, minted before its container exists: a pull may come first.
pub const UID: &str = "qwex.dev/uid";
/// The run's timeout in milliseconds, for whoever looks at the container later.
pub const TIMEOUT: &str = "qwex.dev/timeout-ms";

/// An attempt of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub run_id: RunId,
    pub attempt: Attempt,
}

impl Key {
    pub fn of_work(work: &Work) -> Self {
        Self {
            run_id: work.run_id,
            attempt: work.attempt,
        }
    }

    pub fn of(handle: &Handle) -> Self {
        Self {
            run_id: handle.run_id,
            attempt: handle.attempt,
        }
    }

    /// Of the attempt a container's labels name; `None` if it is not ours.
    pub fn of_labels(labels: &HashMap<String, String>) -> Option<Self> {
        let label = |name| labels.get(name).map(String::as_str);
        if label(MANAGED_BY) != Some(QWEX) {
            return None;
        }
        Some(Self {
            run_id: label(RUN_ID)?.parse().ok()?,
            attempt: Attempt(label(ATTEMPT)?.parse().ok()?),
        })
    }

    /// Of the attempt an object's name belongs to.
    pub fn of_object(name: &str) -> Option<Self> {
        let (run_id, attempt) = name.strip_prefix("qwex-")?.rsplit_once("-a")?;
        Some(Self {
            run_id: run_id.parse().ok()?,
            attempt: Attempt(attempt.parse().ok()?),
        })
    }

    /// Name of the container and stem of the record.
    pub fn object(self) -> String {
        self.run_id.object_name(self.attempt)
    }
}

/// The filter for everything of ours, or of one run.
pub fn filter(run: Option<RunId>) -> HashMap<String, Vec<String>> {
    let mut labels = vec![format!("{MANAGED_BY}={QWEX}")];
    labels.extend(run.map(|run| format!("{RUN_ID}={run}")));
    HashMap::from([("label".to_owned(), labels)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_lead_back() {
        let key = Key {
            run_id: RunId::mint(),
            attempt: Attempt(12),
        };
        assert_eq!(Key::of_object(&key.object()), Some(key));
        assert_eq!(Key::of_object("qwex-x-a1"), None);
        assert_eq!(Key::of_object("other"), None);
    }
}
