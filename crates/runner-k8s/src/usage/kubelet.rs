//! The counters of a node, from its kubelet through the API server: what it last read itself, up to some fifteen seconds
//! old. Its processor time counts from the start of the container.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Sample, Target};
use crate::names;
use crate::paths;
use crate::rest::{CallError, Rest, target};

#[derive(Deserialize)]
struct Summary {
    #[serde(default = "Vec::new")]
    pods: Vec<PodStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStats {
    pod_ref: PodRef,
    #[serde(default = "Vec::new")]
    containers: Vec<ContainerStats>,
}

#[derive(Deserialize)]
struct PodRef {
    uid: String,
}

#[derive(Deserialize)]
struct ContainerStats {
    name: String,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    /// In use, without files that may be forgotten at any time.
    working_set_bytes: Option<u64>,
}

/// Asks one node for those of its pods.
pub(super) async fn ask(
    rest: &Rest,
    node: &str,
    targets: &[Target],
) -> Result<Vec<(Target, Sample)>, CallError> {
    let path = target(&paths::node_stats(node), &[("only_cpu_and_memory", "true")]);
    let summary: Summary = rest.get(&path).await?;
    Ok(matched(&summary, targets))
}

fn matched(summary: &Summary, targets: &[Target]) -> Vec<(Target, Sample)> {
    let by_uid: HashMap<&str, &PodStats> = summary
        .pods
        .iter()
        .map(|pod| (pod.pod_ref.uid.as_str(), pod))
        .collect();
    let sample = |target: &Target| Some((target.clone(), by_uid.get(target.uid.as_str())?.sample()?));
    targets.iter().filter_map(sample).collect()
}

impl PodStats {
    /// Zeros stand for what the kubelet has not read yet.
    fn sample(&self) -> Option<Sample> {
        let main = self
            .containers
            .iter()
            .find(|container| container.name == names::CONTAINER)?;
        let cpu_nanos = main.cpu.as_ref()?.usage_core_nano_seconds?;
        let memory_bytes = main.memory.as_ref()?.working_set_bytes?;
        (cpu_nanos > 0 && memory_bytes > 0).then_some(Sample::Counted {
            cpu_nanos,
            memory_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::target;
    use super::*;

    #[test]
    fn counters_of_the_command_are_read_and_zeros_are_none() {
        let summary: Summary = serde_json::from_value(serde_json::json!({
            "node": { "nodeName": "localhost" },
            "pods": [
                { "podRef": { "name": "a", "namespace": "n", "uid": "u1" },
                  "containers": [{ "name": "main", "startTime": "2027-01-15T08:00:00Z",
                      "cpu": { "time": "2027-01-15T08:00:09Z", "usageNanoCores": 5, "usageCoreNanoSeconds": 4_000_000 },
                      "memory": { "workingSetBytes": 300_000, "rssBytes": 9 } }] },
                { "podRef": { "name": "b", "namespace": "n", "uid": "u2" },
                  "containers": [{ "name": "main", "cpu": { "usageCoreNanoSeconds": 0 }, "memory": { "workingSetBytes": 0 } }] },
                { "podRef": { "name": "c", "namespace": "n", "uid": "u3" }, "containers": [{ "name": "main" }] },
            ],
        }))
        .unwrap();
        let targets = ["u1", "u2", "u3", "u4"].map(target);
        let wanted = Sample::Counted {
            cpu_nanos: 4_000_000,
            memory_bytes: 300_000,
        };
        assert_eq!(matched(&summary, &targets), [(targets[0].clone(), wanted)]);
    }
}
