//! What is known of an attempt beside how it ended. Pure.

use qwex_runner::backend::Details;

use super::has_run;
use crate::decode::PodView;

/// Of the last pod whose command ran.
pub(crate) fn details<'a>(pods: impl IntoIterator<Item = &'a PodView>) -> Details {
    let last = pods
        .into_iter()
        .filter(|pod| has_run(pod))
        .max_by_key(|pod| (pod.metadata.creation_timestamp, &pod.metadata.name));
    let Some(pod) = last else {
        return Details::default();
    };
    Details {
        image_digest: pod.main().and_then(|main| digest(&main.image_id)),
        host: pod.spec.node_name.clone(),
        usage: None,
    }
}

/// `docker-pullable://repo@sha256:…`, `repo@sha256:…` and `sha256:…` are all seen.
fn digest(image_id: &str) -> Option<String> {
    let plain = image_id.split_once("://").map_or(image_id, |(_, rest)| rest);
    plain.contains("sha256:").then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_as_runtimes_write_them() {
        let wanted = Some("docker.io/library/busybox@sha256:ab".to_owned());
        assert_eq!(
            digest("docker-pullable://docker.io/library/busybox@sha256:ab"),
            wanted
        );
        assert_eq!(digest("docker.io/library/busybox@sha256:ab"), wanted);
        assert_eq!(digest("sha256:ab").as_deref(), Some("sha256:ab"));
        assert_eq!(digest(""), None);
    }

    #[test]
    fn details_are_those_of_the_last_pod_that_ran() {
        let pod = |name: &str, created: &str, state: serde_json::Value| -> PodView {
            serde_json::from_value(serde_json::json!({
                "metadata": { "name": name, "creationTimestamp": created },
                "spec": { "nodeName": format!("node-of-{name}") },
                "status": { "containerStatuses": [{ "name": "main", "imageID": format!("{name}@sha256:1"), "state": state }] },
            }))
            .unwrap()
        };
        let pods = [
            pod("a", "2027-01-01T00:00:00Z", serde_json::json!({ "running": {} })),
            pod("b", "2027-01-01T00:00:01Z", serde_json::json!({ "running": {} })),
            pod("c", "2027-01-01T00:00:02Z", serde_json::json!({ "waiting": {} })),
        ];
        let found = details(&pods);
        assert_eq!(found.host.as_deref(), Some("node-of-b"));
        assert_eq!(found.image_digest.as_deref(), Some("b@sha256:1"));
    }
}
