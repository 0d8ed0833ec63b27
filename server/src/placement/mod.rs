//! Chooses a cluster for a run: filters, then scores, with the whole reasoning kept. Pure.
//!
//! Called by `dispatch`. A later issue deepens the filters and scores; the report's shape stays.

use jiff::Timestamp;
use qwex_api::cluster::{ClusterInfo, ClusterStatus};
use qwex_api::run::{Candidate, PlacementReport};
use qwex_core::JobSpec;

/// Considers every cluster for a spec. `clusters` is as recent as the caller can have it.
#[must_use]
pub fn choose(spec: &JobSpec, clusters: &[ClusterInfo], at: Timestamp) -> PlacementReport {
    let mut candidates: Vec<Candidate> = clusters.iter().map(|cluster| consider(spec, cluster)).collect();
    candidates.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal));
    let chosen = candidates
        .iter()
        .find(|one| one.fits)
        .map(|one| one.cluster.clone());
    PlacementReport {
        at,
        chosen,
        candidates,
    }
}

/// Why no cluster of a report can take the run, as one sentence.
#[must_use]
pub fn no_cluster_sentence(report: &PlacementReport) -> String {
    if report.candidates.is_empty() {
        return "no cluster is registered; add one with `qwexctl cluster add`".to_owned();
    }
    let reasons: Vec<String> = report
        .candidates
        .iter()
        .map(|one| format!("{}: {}", one.cluster, one.reason))
        .collect();
    format!("no cluster can take it now ({})", reasons.join("; "))
}

type Filter = (&'static str, fn(&JobSpec, &ClusterInfo) -> Option<String>);

/// In this order; the first that refuses is the reason.
const FILTERS: &[Filter] = &[
    ("pinned", pinned),
    ("draining", draining),
    ("health", health),
    ("labels", labels),
    ("image", image),
    ("queue", queue),
    ("resources", resources),
];

fn consider(spec: &JobSpec, cluster: &ClusterInfo) -> Candidate {
    let refusal = FILTERS
        .iter()
        .find_map(|(name, refuses)| Some((*name, refuses(spec, cluster)?)));
    match refusal {
        Some((filter, reason)) => Candidate {
            cluster: cluster.name.clone(),
            fits: false,
            failed_filter: Some(filter.to_owned()),
            reason,
            score: None,
        },
        None => Candidate {
            cluster: cluster.name.clone(),
            fits: true,
            failed_filter: None,
            reason: format!("fits; {} open runs", cluster.open_runs),
            score: Some(score(cluster)),
        },
    }
}

/// Between 0 and 1: the fewer open runs, the better.
fn score(cluster: &ClusterInfo) -> f64 {
    1.0 / (1.0 + cluster.open_runs.max(0) as f64)
}

fn pinned(spec: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    let wanted = spec.cluster.as_ref()?;
    (*wanted != cluster.name).then(|| format!("the run asks for cluster {wanted}"))
}

fn draining(_: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    match cluster.status {
        ClusterStatus::Active => None,
        ClusterStatus::Draining => Some("is being drained and takes no new runs".to_owned()),
        ClusterStatus::Removed | ClusterStatus::Unknown => Some("takes no runs".to_owned()),
    }
}

fn health(_: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    let message = cluster.message.as_deref().unwrap_or("no answer yet");
    (!cluster.reachable).then(|| format!("cannot be reached: {message}"))
}

fn labels(spec: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    spec.placement
        .require
        .iter()
        .find_map(|(key, wanted)| match cluster.labels.get(key) {
            Some(value) if value == wanted => None,
            Some(value) => Some(format!(
                "has the label {key}={value}, the run requires {key}={wanted}"
            )),
            None => Some(format!("has no label {key}, the run requires {key}={wanted}")),
        })
}

fn image(spec: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    let needs = cluster.kind != "local" && spec.image.is_none();
    needs.then(|| "the run names no image, which a Kubernetes cluster needs".to_owned())
}

fn queue(spec: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    let queue = spec.queue.as_ref()?;
    if cluster.queues.iter().any(|known| known == queue.as_str()) {
        return None;
    }
    Some(match cluster.queues.len() {
        0 => format!("has no queues, the run asks for queue {queue}"),
        _ => format!("has no queue {queue}; it has {}", cluster.queues.join(", ")),
    })
}

fn resources(spec: &JobSpec, cluster: &ClusterInfo) -> Option<String> {
    let gpus = spec.resources.gpu.unwrap_or(0);
    (cluster.kind == "local" && gpus > 0).then(|| "the embedded cluster gives no GPUs".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, open_runs: i64) -> ClusterInfo {
        ClusterInfo {
            name: name.parse().unwrap(),
            kind: "k8s".to_owned(),
            status: ClusterStatus::Active,
            reachable: true,
            message: None,
            version: None,
            namespace: None,
            labels: [("gpu".to_owned(), "a100".to_owned())].into(),
            default_queue: None,
            queues: vec!["team".to_owned()],
            open_runs,
            last_seen_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "token:x".to_owned(),
        }
    }

    fn spec() -> JobSpec {
        JobSpec {
            image: Some("busybox".to_owned()),
            ..JobSpec::for_command(["true"])
        }
    }

    fn refusal(spec: &JobSpec, cluster: ClusterInfo) -> (String, String) {
        let report = choose(spec, &[cluster], Timestamp::UNIX_EPOCH);
        assert_eq!(report.chosen, None);
        let candidate = report.candidates.into_iter().next().unwrap();
        (candidate.failed_filter.unwrap(), candidate.reason)
    }

    #[test]
    fn the_emptier_cluster_is_chosen() {
        let report = choose(
            &spec(),
            &[cluster("alpha", 5), cluster("beta", 2)],
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(report.chosen.unwrap().as_str(), "beta");
        assert_eq!(report.candidates.len(), 2);
    }

    #[test]
    fn every_filter_tells_its_reason() {
        let mut pinned = spec();
        pinned.cluster = Some("beta".parse().unwrap());
        assert_eq!(refusal(&pinned, cluster("alpha", 0)).0, "pinned");
        let sick = ClusterInfo {
            reachable: false,
            message: Some("connection refused".to_owned()),
            ..cluster("alpha", 0)
        };
        assert!(refusal(&spec(), sick).1.contains("connection refused"));
        let drained = ClusterInfo {
            status: ClusterStatus::Draining,
            ..cluster("alpha", 0)
        };
        assert_eq!(refusal(&spec(), drained).0, "draining");
        let mut labelled = spec();
        labelled
            .placement
            .require
            .insert("gpu".to_owned(), "h100".to_owned());
        assert!(refusal(&labelled, cluster("alpha", 0)).1.contains("gpu=a100"));
        let mut queued = spec();
        queued.queue = Some("other".parse().unwrap());
        assert!(refusal(&queued, cluster("alpha", 0)).1.contains("it has team"));
        let imageless = JobSpec::for_command(["true"]);
        assert_eq!(refusal(&imageless, cluster("alpha", 0)).0, "image");
        let local = ClusterInfo {
            kind: "local".to_owned(),
            ..cluster("local", 0)
        };
        let mut hungry = spec();
        hungry.resources.gpu = Some(1);
        assert_eq!(refusal(&hungry, local).0, "resources");
    }
}
