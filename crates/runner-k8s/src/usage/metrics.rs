//! The samples of `metrics.k8s.io`: what a metrics server last heard of pods, up to a minute old. Their processor time is a
//! mean over a window, so only what was used within the windows is known.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use qwex_core::Quantity;
use serde::Deserialize;

use super::span::go_nanos;
use super::{Sample, Target};
use crate::decode::Meta;
use crate::names;
use crate::paths;
use crate::rest::{CallError, Rest, target};

#[derive(Deserialize)]
struct Listed {
    #[serde(default = "Vec::new")]
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    #[serde(default)]
    metadata: Meta,
    timestamp: Timestamp,
    window: String,
    #[serde(default = "Vec::new")]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: HashMap<String, String>,
}

/// Asks once for all of them, wherever they are; `namespace`: where all of them are.
pub(super) async fn ask(
    rest: &Rest,
    namespace: Option<&str>,
    targets: &[Target],
) -> Result<Vec<(Target, Sample)>, CallError> {
    let found = match targets {
        [only] => match rest.get(&paths::pod_metrics(&only.namespace, &only.pod)).await {
            Ok(found) => vec![found],
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        },
        _ => {
            let query = [("labelSelector", names::ours())];
            let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
            let path = target(&paths::all_pod_metrics(namespace), &query);
            rest.get::<Listed>(&path).await?.items
        }
    };
    Ok(matched(&found, targets))
}

/// Names of a Job's pods are made up once, so a name is as good as a UID.
fn matched(found: &[PodMetrics], targets: &[Target]) -> Vec<(Target, Sample)> {
    let by_name: HashMap<(&str, &str), &PodMetrics> = found
        .iter()
        .map(|pod| ((pod.metadata.namespace.as_str(), pod.metadata.name.as_str()), pod))
        .collect();
    let sample = |target: &Target| {
        let pod = by_name.get(&(target.namespace.as_str(), target.pod.as_str()))?;
        Some((target.clone(), pod.sample()?))
    };
    targets.iter().filter_map(sample).collect()
}

impl PodMetrics {
    fn sample(&self) -> Option<Sample> {
        let main = self
            .containers
            .iter()
            .find(|container| container.name == names::CONTAINER)?;
        let window = go_nanos(&self.window)?;
        let rate = Quantity::parse(main.usage.get("cpu")?)?.in_parts(1e9)?;
        let memory_bytes = Quantity::parse(main.usage.get("memory")?)?.in_parts(1.0)?;
        let used = rate as f64 * (window as f64 / 1e9);
        let since = self
            .timestamp
            .checked_sub(SignedDuration::from_nanos(i64::try_from(window).ok()?))
            .ok()?;
        (memory_bytes > 0).then_some(Sample::Within {
            cpu_nanos: used as u64,
            since,
            until: self.timestamp,
            memory_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_used_within_its_window() {
        let listed: Listed = serde_json::from_value(serde_json::json!({
            "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {},
            "items": [
                { "metadata": { "name": "a", "namespace": "n", "creationTimestamp": "2027-01-15T08:00:11Z" },
                  "timestamp": "2027-01-15T08:00:10Z", "window": "20s",
                  "containers": [
                      { "name": "helper", "usage": { "cpu": "7", "memory": "7Gi" } },
                      { "name": "main", "usage": { "cpu": "250m", "memory": "2Mi" } },
                  ] },
                { "metadata": { "name": "a", "namespace": "other" },
                  "timestamp": "2027-01-15T08:00:10Z", "window": "20s", "containers": [] },
            ],
        }))
        .unwrap();
        let target = |namespace: &str| Target {
            namespace: namespace.to_owned(),
            pod: "a".to_owned(),
            ..super::super::target("u")
        };
        let targets = [target("n"), target("other"), target("absent")];
        let found = matched(&listed.items, &targets);
        assert_eq!(found.len(), 1);
        let wanted = Sample::Within {
            cpu_nanos: 5_000_000_000,
            since: "2027-01-15T07:59:50Z".parse().unwrap(),
            until: "2027-01-15T08:00:10Z".parse().unwrap(),
            memory_bytes: 2 * 1024 * 1024,
        };
        assert_eq!(found[0], (targets[0].clone(), wanted));
    }
}
