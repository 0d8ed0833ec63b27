//! Why the Job controller makes no pod: said nowhere but in the Job's events.
//!
//! Called by `watch` for a Job that has had no pod for a while, and by `K8sBackend::observe`.

use jiff::Timestamp;
use qwex_runner::Handle;
use serde::Deserialize;

use crate::list::list_all_where;
use crate::paths;
use crate::rest::Rest;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EventView {
    message: String,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
}

/// The newest `FailedCreate` message. `None` where there is none, or where we may not look: it only
/// explains, so it must not fail anything.
pub(crate) async fn create_trouble(rest: &Rest, handle: &Handle) -> Option<String> {
    let namespace = handle.backend.namespace.as_deref()?;
    let uid = handle.backend.uid.as_ref()?;
    let fields = format!("involvedObject.uid={uid},reason=FailedCreate");
    let path = paths::events(namespace);
    match list_all_where::<EventView>(rest, &path, &[("fieldSelector", &fields)], 100).await {
        Ok(found) => found
            .items
            .into_iter()
            .max_by_key(|event| event.last_timestamp.or(event.event_time))
            .map(|event| event.message),
        Err(error) => {
            tracing::debug!(%error, "events cannot be read");
            None
        }
    }
}
