//! Adding a cluster: connect, check, seal, store. What does not pass is not stored.

use std::collections::BTreeMap;

use qwex_api::cluster::{AddCluster, AddedCluster, ClusterCheck};
use qwex_core::ClusterName;
use qwex_runner::RunnerError;
use qwex_runner_k8s::ProbeReport;

use super::connect::sealed_place;
use super::{Clusters, ClustersError};
use crate::auth::Principal;
use crate::db::cluster::{self, NewCluster};

/// Namespace of Jobs where the request names none.
const NAMESPACE: &str = "default";

impl Clusters {
    /// Registers a Kubernetes cluster after it passed the checks.
    ///
    /// # Errors
    /// The name is taken, the kubeconfig cannot be used, a check failed, or the database is not there.
    pub async fn add(&self, who: &Principal, request: AddCluster) -> Result<AddedCluster, ClustersError> {
        if cluster::cluster_exists(&self.pools.api, &request.name).await? {
            return Err(ClustersError::Exists(request.name));
        }
        let report = self.probe(&request).await?;
        let checks = checks(&report, &request);
        if !report.is_usable()
            || checks
                .iter()
                .any(|check| check.check == "default_queue" && !check.ok)
        {
            return Err(ClustersError::CheckFailed(checks));
        }
        let namespace = request.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
        let queues = queues(&report, &namespace);
        let sealed = self
            .connector
            .sealer()
            .seal(&sealed_place(&request.name), request.kubeconfig.as_bytes());
        let new = NewCluster {
            name: request.name.clone(),
            kind: "k8s",
            identity: report.identity,
            sealed_kubeconfig: Some(sealed),
            context: request.context,
            namespace: Some(namespace),
            labels: request.labels,
            default_queue: request.default_queue,
            queues,
            version: Some(report.version),
            created_by: who.label(),
        };
        if !cluster::insert_cluster(&self.pools.api, &new).await? {
            return Err(ClustersError::Exists(request.name));
        }
        self.hints.tell(&[], true).await;
        let cluster = self.get(&request.name).await?;
        Ok(AddedCluster { cluster, checks })
    }

    async fn probe(&self, request: &AddCluster) -> Result<ProbeReport, ClustersError> {
        let namespace = request.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
        let backend = self
            .connector
            .connect_kubernetes(
                &request.name,
                request.kubeconfig.clone(),
                request.context.clone(),
                namespace,
                None,
            )
            .await
            .map_err(|error| ClustersError::BadKubeconfig(error.to_string()))?;
        backend
            .probe()
            .await
            .map_err(|error| ClustersError::CheckFailed(vec![unreached(&error)]))
    }

    /// Registers the embedded cluster `name`, which runs commands as processes of this machine. Idempotent.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn ensure_local(&self, name: &ClusterName) -> Result<(), ClustersError> {
        if cluster::cluster_exists(&self.pools.api, name).await? {
            return Ok(());
        }
        let new = NewCluster {
            name: name.clone(),
            kind: "local",
            identity: None,
            sealed_kubeconfig: None,
            context: None,
            namespace: None,
            labels: BTreeMap::new(),
            default_queue: None,
            queues: Vec::new(),
            version: None,
            created_by: "system".to_owned(),
        };
        cluster::insert_cluster(&self.pools.api, &new).await?;
        Ok(())
    }
}

fn unreached(error: &RunnerError) -> ClusterCheck {
    ClusterCheck {
        check: "reach".to_owned(),
        ok: false,
        message: error.to_string(),
    }
}

fn checks(report: &ProbeReport, request: &AddCluster) -> Vec<ClusterCheck> {
    let check = |check: &str, ok: bool, message: String| ClusterCheck {
        check: check.to_owned(),
        ok,
        message,
    };
    let mut checks = vec![check(
        "reach",
        true,
        format!("answers as Kubernetes {}", report.version),
    )];
    checks.extend(report.checks.iter().map(|one| {
        check(
            "rights",
            one.ok || !one.required,
            format!("{}: {}", one.name, one.sentence),
        )
    }));
    let kueue = match &report.kueue {
        Some(kueue) => format!("Kueue {} with {} queues", kueue.version, kueue.queues.len()),
        None => "no Kueue: runs cannot name a queue here".to_owned(),
    };
    checks.push(check("kueue", true, kueue));
    if let Some(queue) = &request.default_queue {
        let namespace = request.namespace.as_deref().unwrap_or(NAMESPACE);
        let known = queues(report, namespace)
            .iter()
            .any(|name| name == queue.as_str());
        let message = match known {
            true => format!("queue {queue} exists in namespace {namespace}"),
            false => format!(
                "there is no LocalQueue {queue} in namespace {namespace}; create it or leave default_queue out"
            ),
        };
        checks.push(check("default_queue", known, message));
    }
    checks
}

fn queues(report: &ProbeReport, namespace: &str) -> Vec<String> {
    let queues = report.kueue.iter().flat_map(|kueue| &kueue.queues);
    queues
        .filter(|queue| queue.namespace == namespace)
        .map(|queue| queue.name.clone())
        .collect()
}
