//! The words qwex writes on Kubernetes objects and looks for on them. Used by everything here that
//! makes, selects or recognises an object.

use std::collections::BTreeMap;

use qwex_runner::Work;

/// Label: id of the run.
pub const RUN_ID: &str = "qwex.dev/run-id";
/// Label: number of the attempt.
pub const ATTEMPT: &str = "qwex.dev/attempt";
/// Label: project of the run.
pub const PROJECT: &str = "qwex.dev/project";
/// Label that selects everything of ours.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const QWEX: &str = "qwex";
/// Annotation: hash of the spec that the object was made from.
pub const SPEC_HASH: &str = "qwex.dev/spec-hash";
/// Annotation: the name people gave the run.
pub const RUN_NAME: &str = "qwex.dev/run-name";
/// Annotation: the user's labels as one JSON object. User strings never become Kubernetes labels.
pub const USER_LABELS: &str = "qwex.dev/labels";
/// Kueue's label: the LocalQueue a Job waits in.
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Kueue's label that names a WorkloadPriorityClass.
pub const PRIORITY: &str = "kueue.x-k8s.io/priority-class";
/// The container of our pods that runs the command: it alone decides how a run ended.
pub const CONTAINER: &str = "main";
/// The helper that takes in the files of the workspace, before the command starts.
pub const FILES_IN: &str = "qwex-files-in";
/// The helper that keeps the outputs until they are fetched.
pub const FILES_OUT: &str = "qwex-files-out";
/// Where the helpers leave word for each other; the command does not see it.
pub const CONTROL: &str = "/qwex";
/// Annotation: the timeout in seconds of a run whose pod outlives its command.
pub const TIMEOUT: &str = "qwex.dev/timeout-seconds";
/// Where the workspace lies in the pod, and in which the command starts.
pub const WORKSPACE: &str = "/workspace";

/// Selects every object of ours.
pub(crate) fn ours() -> String {
    format!("{MANAGED_BY}={QWEX}")
}

/// Selects the objects of one attempt.
pub(crate) fn of_attempt(run_id: qwex_core::RunId, attempt: qwex_core::Attempt) -> String {
    format!("{MANAGED_BY}={QWEX},{RUN_ID}={run_id},{ATTEMPT}={attempt}")
}

/// The labels of every object that is made for an attempt.
pub(crate) fn own_labels(work: &Work) -> BTreeMap<String, String> {
    [
        (RUN_ID, work.run_id.to_string()),
        (ATTEMPT, work.attempt.to_string()),
        (PROJECT, work.project.to_string()),
        (MANAGED_BY, QWEX.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
