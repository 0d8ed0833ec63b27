//! The labels qwex writes on containers and looks for on them: the words of `runner-k8s`, so that one filter finds
//! everything of qwex on any engine.

use std::collections::HashMap;

use qwex_core::{Attempt, RunId};
use qwex_runner::Key;

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

/// The attempt that a container's labels name; `None` if it is not ours.
pub fn of_labels(labels: &HashMap<String, String>) -> Option<Key> {
    let label = |name| labels.get(name).map(String::as_str);
    if label(MANAGED_BY) != Some(QWEX) {
        return None;
    }
    Some(Key::new(
        label(RUN_ID)?.parse().ok()?,
        Attempt(label(ATTEMPT)?.parse().ok()?),
    ))
}

/// The filter for everything of ours, or of one run.
pub fn filter(run: Option<RunId>) -> HashMap<String, Vec<String>> {
    let mut labels = vec![format!("{MANAGED_BY}={QWEX}")];
    labels.extend(run.map(|run| format!("{RUN_ID}={run}")));
    HashMap::from([("label".to_owned(), labels)])
}
