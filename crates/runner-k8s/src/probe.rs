//! Looks at a cluster before it is registered, and again when something is wrong: can it be reached,
//! which is it, what may we do there, does it queue. Each finding is a sentence for people.
//!
//! Called by `K8sBackend::probe`. Changes nothing on the cluster (access reviews are questions).

use qwex_runner::RunnerError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::decode::Meta;
use crate::list::list_all;
use crate::paths;
use crate::rest::{CallError, Rest};

/// Kueue's API versions that we can read, best first.
const KUEUE_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

/// A verb we use: group, resource, subresource, verb, what for.
type Use = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Without one of these runs cannot be handed over, watched or stopped.
const NEEDED: [Use; 10] = [
    ("batch", "jobs", "", "create", "start runs"),
    ("batch", "jobs", "", "get", "recognise its own Jobs"),
    ("batch", "jobs", "", "list", "see runs after a restart"),
    ("batch", "jobs", "", "watch", "follow runs"),
    ("batch", "jobs", "", "delete", "cancel runs"),
    ("batch", "jobs", "", "patch", "let finished Jobs be cleaned up"),
    ("", "pods", "", "get", "check pods before reading logs"),
    ("", "pods", "", "list", "see why runs end"),
    ("", "pods", "", "watch", "follow pods"),
    ("", "pods", "log", "get", "read logs"),
];
/// Without these only explanations are missing.
const USEFUL: [Use; 1] = [("", "events", "", "list", "explain why a pod cannot be made")];
/// Asked only where Kueue is served.
const KUEUE_USES: [Use; 3] = [
    (
        "kueue.x-k8s.io",
        "workloads",
        "",
        "list",
        "explain why runs wait in a queue",
    ),
    ("kueue.x-k8s.io", "workloads", "", "watch", "follow queues"),
    ("kueue.x-k8s.io", "localqueues", "", "list", "know the queues"),
];

const METRICS: &str = "metrics.k8s.io";
/// Asked only where a metrics server is: of many runs at once, and of a single one.
const METRICS_USES: [Use; 2] = [
    (METRICS, "pods", "", "list", "tell what runs use"),
    (METRICS, "pods", "", "get", "tell what a run uses"),
];

/// Every right that the backend uses in a namespace: API group, resource with its subresource, verb.
pub fn rights() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let needed = NEEDED.into_iter().chain(USEFUL);
    let all = needed.chain(KUEUE_USES).chain(METRICS_USES);
    all.map(|(group, resource, subresource, verb, _)| (group, full_name(resource, subresource), verb))
}

fn full_name(resource: &str, subresource: &str) -> String {
    match subresource {
        "" => resource.to_owned(),
        _ => format!("{resource}/{subresource}"),
    }
}

/// What a look at a cluster found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// `v1.34.4`.
    pub version: String,
    /// UID of `kube-system`; `None` if we may not read it.
    pub identity: Option<String>,
    pub kueue: Option<KueueInfo>,
    pub checks: Vec<Check>,
}

/// One right, asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `list pods in every namespace`.
    pub name: String,
    pub ok: bool,
    /// Whether runs are impossible without it.
    pub required: bool,
    /// What it means, and how to mend it where it failed.
    pub sentence: String,
}

/// Kueue on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KueueInfo {
    /// The API version we read.
    pub version: String,
    pub queues: Vec<QueueInfo>,
}

/// A LocalQueue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct QueueInfo {
    pub namespace: String,
    pub name: String,
}

impl ProbeReport {
    /// Whether runs can be sent there.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.checks.iter().all(|check| check.ok || !check.required)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AnyObject {
    metadata: Meta,
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
struct ReviewStatus {
    allowed: bool,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

/// Looks at the cluster with the eyes of the backend. `namespace`: `None` for every namespace.
pub(crate) async fn probe(rest: &Rest, namespace: Option<&str>) -> Result<ProbeReport, RunnerError> {
    let version: Version = rest.get("/version").await?;
    let identity = identity(rest).await?;
    let kueue = kueue_version(rest).await?;
    let mut checks = Vec::new();
    for uses in NEEDED {
        checks.push(check(rest, namespace, uses, true).await?);
    }
    for uses in USEFUL {
        checks.push(check(rest, namespace, uses, false).await?);
    }
    let mut info = None;
    if let Some(version) = kueue {
        for uses in KUEUE_USES {
            checks.push(check(rest, namespace, uses, false).await?);
        }
        let queues = queues(rest, &version, namespace).await.unwrap_or_default();
        info = Some(KueueInfo { version, queues });
    }
    if group(rest, METRICS).await?.is_some() {
        for uses in METRICS_USES {
            checks.push(check(rest, namespace, uses, false).await?);
        }
    }
    Ok(ProbeReport {
        version: version.git_version,
        identity,
        kueue: info,
        checks,
    })
}

/// UID of the namespace `kube-system`: it lives exactly as long as the cluster. `None` if forbidden.
pub(crate) async fn identity(rest: &Rest) -> Result<Option<String>, RunnerError> {
    match rest.get::<AnyObject>("/api/v1/namespaces/kube-system").await {
        Ok(namespace) => Ok(Some(namespace.metadata.uid)),
        Err(error) if error.refusal().is_some_and(|refusal| refusal.code == 403) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The version of Kueue's API that the cluster serves and we can read. From the list of all groups:
/// that Kueue is not in it is the API server's own word, where a 404 could be anybody's.
pub(crate) async fn kueue_version(rest: &Rest) -> Result<Option<String>, CallError> {
    let Some(group) = group(rest, "kueue.x-k8s.io").await? else {
        return Ok(None);
    };
    let served = |wanted: &&&str| group.versions.iter().any(|served| served.version == **wanted);
    Ok(KUEUE_VERSIONS
        .iter()
        .find(served)
        .map(|version| (*version).to_owned()))
}

async fn group(rest: &Rest, name: &str) -> Result<Option<Group>, CallError> {
    let all: Groups = rest.get("/apis").await?;
    Ok(all.groups.into_iter().find(|group| group.name == name))
}

/// Who tells us what runs use, in words that follow "usage".
pub(crate) async fn who_measures(rest: &Rest, namespace: Option<&str>) -> Result<&'static str, CallError> {
    let [metrics, _] = METRICS_USES;
    if group(rest, METRICS).await?.is_some() && check(rest, namespace, metrics, false).await?.ok {
        return Ok("from metrics.k8s.io");
    }
    let purpose = "tell what runs use";
    let kubelets = check(rest, None, ("", "nodes", "proxy", "get", purpose), false).await?;
    Ok(if kubelets.ok {
        "from its kubelets"
    } else {
        "not told"
    })
}

/// Whether a WorkloadPriorityClass is there; `None` if we may not look.
pub(crate) async fn priority_class(
    rest: &Rest,
    version: &str,
    name: &str,
) -> Result<Option<bool>, CallError> {
    let path = format!(
        "{}/{name}",
        paths::kueue(version, None, "workloadpriorityclasses")
    );
    match rest.get::<AnyObject>(&path).await {
        Ok(_) => Ok(Some(true)),
        Err(error) if error.is_not_found() => Ok(Some(false)),
        Err(error) if error.refusal().is_some_and(|refusal| refusal.code == 403) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn queues(
    rest: &Rest,
    version: &str,
    namespace: Option<&str>,
) -> Result<Vec<QueueInfo>, RunnerError> {
    let path = paths::kueue(version, namespace, "localqueues");
    let found = list_all::<AnyObject>(rest, &path, "", 500).await?;
    let mut queues: Vec<QueueInfo> = found
        .items
        .into_iter()
        .map(|queue| QueueInfo {
            namespace: queue.metadata.namespace,
            name: queue.metadata.name,
        })
        .collect();
    queues.sort();
    Ok(queues)
}

/// Whether files can be carried into pods and out of them; only people may, never a server. A connection is opened with
/// `get`; newer API servers want `create` too.
pub(crate) async fn may_exec(rest: &Rest, namespace: Option<&str>) -> Result<Check, CallError> {
    let purpose = "send the workspace and fetch outputs";
    let opens = check(rest, namespace, ("", "pods", "exec", "get", purpose), false).await?;
    if !opens.ok {
        return Ok(opens);
    }
    check(rest, namespace, ("", "pods", "exec", "create", purpose), false).await
}

async fn check(rest: &Rest, namespace: Option<&str>, uses: Use, required: bool) -> Result<Check, CallError> {
    let (group, resource, subresource, verb, purpose) = uses;
    let ask = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": namespace.unwrap_or(""), "group": group,
            "resource": resource, "subresource": subresource, "verb": verb,
        }},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review: Review = rest.post(path, ask.to_string().into_bytes()).await?;
    let what = match group {
        // Pods by name are the core's.
        METRICS => format!("{resource}.{METRICS}"),
        _ => full_name(resource, subresource),
    };
    let place = namespace.map_or_else(
        || "in every namespace".to_owned(),
        |name| format!("in namespace {name}"),
    );
    let name = format!("{verb} {what} {place}");
    let sentence = if review.status.allowed {
        format!("qwex may {name}")
    } else {
        format!("qwex may not {name}, which it needs to {purpose}; grant `{verb}` on `{what}` to its user")
    };
    Ok(Check {
        name,
        ok: review.status.allowed,
        required,
        sentence,
    })
}
