//! Why no pod is made, or no container in a pod: said nowhere but in events.
//!
//! Called by `watch` for what has stood still for a while, and by `K8sBackend::observe`. Events only explain, so whatever
//! goes wrong with them must not fail anything: then nothing is told.

use jiff::Timestamp;
use serde::Deserialize;

use crate::list::list_all_where;
use crate::paths;
use crate::rest::Rest;

/// What the events are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Still {
    /// A Job without a pod, by its UID.
    Job(String),
    /// A pod on a node whose kubelet makes the container, by its UID.
    Pod(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EventView {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
}

/// The kubelet's summary of what it could not mount in time: later than the reasons, and without them.
const SUMMARY: &str = "Unable to attach or mount volumes";

/// The newest word of trouble. `None` where there is none, or where we may not look.
pub(crate) async fn trouble(rest: &Rest, namespace: &str, still: &Still) -> Option<String> {
    let fields = match still {
        Still::Job(uid) => format!("involvedObject.uid={uid},reason=FailedCreate"),
        Still::Pod(uid) => format!("involvedObject.uid={uid}"),
    };
    let path = paths::events(namespace);
    let found = list_all_where::<EventView>(rest, &path, &[("fieldSelector", &fields)], 100).await;
    match found {
        Ok(found) => newest(found.items, still),
        Err(error) => {
            tracing::debug!(%error, "events cannot be read");
            None
        }
    }
}

/// Of a pod any later event says that the trouble is over: the pull of the image, for one.
fn newest(events: Vec<EventView>, still: &Still) -> Option<String> {
    let told = events
        .into_iter()
        .filter(|event| !event.message.starts_with(SUMMARY));
    let newest = told.max_by_key(|event| event.last_timestamp.or(event.event_time))?;
    match still {
        Still::Job(_) => Some(newest.message),
        Still::Pod(_) => (newest.kind == "Warning").then(|| format!("{}: {}", newest.reason, newest.message)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_pod(events: serde_json::Value) -> Option<String> {
        newest(
            serde_json::from_value(events).unwrap(),
            &Still::Pod("u".to_owned()),
        )
    }

    #[test]
    fn the_newest_warning_counts_until_something_else_happens() {
        let scheduled = json!({
            "type": "Normal", "reason": "Scheduled", "message": "to n", "eventTime": "2027-01-15T08:00:00.000001Z",
            "lastTimestamp": null,
        });
        let mount = json!({
            "type": "Warning", "reason": "FailedMount", "message": "configmap \"no\" not found",
            "lastTimestamp": "2027-01-15T08:00:02Z",
        });
        let summary = json!({
            "type": "Warning", "reason": "FailedMount", "message": "Unable to attach or mount volumes: unmounted volumes=[a]",
            "lastTimestamp": "2027-01-15T08:02:03Z",
        });
        let pulling = json!({
            "type": "Normal", "reason": "Pulling", "message": "the image", "lastTimestamp": "2027-01-15T08:03:00Z",
        });
        assert_eq!(of_pod(json!([])), None);
        assert_eq!(of_pod(json!([scheduled])), None);
        let wanted = Some("FailedMount: configmap \"no\" not found".to_owned());
        assert_eq!(of_pod(json!([mount, scheduled])), wanted);
        assert_eq!(of_pod(json!([scheduled, mount, summary])), wanted);
        assert_eq!(of_pod(json!([mount, summary, pulling])), None);
    }
}
