//! A server with one Kubernetes cluster behind it, as a user of least privilege, and what tests ask of both sides.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use kube::{Api, Client, ResourceExt};
use qwex_core::{Run, RunId, RunStatus};
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::{Cluster, images, shared, wait};
use serde_json::{Value, json};

/// Long, because the machine may build at the same time; each wait ends as soon as it can.
pub const LIMIT: Duration = Duration::from_secs(150);

const RBAC: &str = include_str!("../../../../deploy/k8s/rbac.yaml");

/// A server without an embedded cluster.
pub fn without_local() -> ServerSetup {
    ServerSetup {
        local_cluster: None,
        ..ServerSetup::default()
    }
}

/// One server with one cluster, which has a namespace of the test's own.
pub struct Bed {
    pub server: Server,
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    /// Kubeconfig of the user whom the server is on the cluster.
    pub kubeconfig: String,
}

impl Bed {
    /// Before the cluster with a real node, registered as `alpha`.
    pub async fn alpha() -> Result<Self> {
        let bed = Self::prepare(shared::alpha().await?, without_local()).await?;
        bed.register(&bed.kubeconfig).await?;
        Ok(bed)
    }

    /// Before the cluster with simulated nodes, registered as `beta`.
    pub async fn beta() -> Result<Self> {
        let bed = Self::prepare(shared::beta().await?, without_local()).await?;
        bed.register(&bed.kubeconfig).await?;
        Ok(bed)
    }

    /// Everything but the registration of the cluster.
    pub async fn prepare(cluster: &'static Cluster, setup: ServerSetup) -> Result<Self> {
        let (server, namespace) = tokio::try_join!(Server::start_with(setup), cluster.namespace("suite"))?;
        let client = cluster.client().await?;
        let kubeconfig = least_privileged(cluster, &client, &namespace).await?;
        Ok(Self {
            server,
            cluster,
            client,
            namespace,
            kubeconfig,
        })
    }

    /// Registers the cluster with this kubeconfig and waits until it can be used.
    pub async fn register(&self, kubeconfig: &str) -> Result<()> {
        let name = self.cluster.name();
        add_cluster(&self.server, name, kubeconfig, &self.namespace).await?;
        let path = format!("/v1/clusters/{name}");
        let reached = wait::until_ok(LIMIT, "the cluster to be reached", || async {
            let seen = self
                .server
                .api
                .get(&path)
                .await
                .map_err(|error| error.to_string())?;
            let seen = seen.json();
            (seen["reachable"] == true).then_some(()).ok_or(seen.to_string())
        });
        Ok(reached.await?)
    }

    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pod of a run, once there is one that is like this.
    pub async fn pod(&self, id: RunId, what: &str, wanted: impl Fn(&Pod) -> bool) -> Result<Pod> {
        let of_run = ListParams::default().labels(&format!("qwex.dev/run-id={id}"));
        let pods = self.pods();
        let what = format!("a pod of {id} that is {what}");
        let found = wait::until(LIMIT, &what, || async {
            let all = pods.list(&of_run).await.ok()?;
            all.items.into_iter().find(|pod| wanted(pod))
        });
        Ok(found.await?)
    }

    /// Deletes a Job and its pods, as a stranger would.
    pub async fn delete_job(&self, id: RunId) -> Result<()> {
        let options = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let jobs = self.jobs();
        let name = object(id);
        jobs.delete(&name, &options).await?;
        let gone = wait::until(LIMIT, "the deleted Job to be gone", || async {
            jobs.get_opt(&name).await.ok()?.is_none().then_some(())
        });
        Ok(gone.await?)
    }

    /// Deletes the namespace with all that is in it, and waits until its pods are gone.
    pub async fn delete_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        let pods = self.pods();
        let gone = wait::until(LIMIT, "the pods of the deleted namespace to be gone", || async {
            let left = pods.list(&ListParams::default()).await.ok()?;
            left.items.is_empty().then_some(())
        });
        Ok(gone.await?)
    }

    /// How many Jobs the API server made, by its own audit log. A create whose asker was killed is answered by nobody
    /// and noted as 504, made or not: the next create of that name tells, by 201 or by 409.
    ///
    /// # Errors
    /// There is no log, or a Job was made twice under one name.
    pub fn jobs_made(&self) -> Result<usize> {
        let log = std::fs::read_to_string(self.cluster.audit_log()).context("no audit log")?;
        let mut made: BTreeMap<String, usize> = BTreeMap::new();
        for line in log.lines().filter(|line| line.contains(&self.namespace)) {
            let entry: Value = serde_json::from_str(line).unwrap_or_default();
            let object = &entry["objectRef"];
            let is_create = entry["stage"] == "ResponseComplete"
                && entry["verb"] == "create"
                && object["resource"] == "jobs"
                && object["namespace"] == self.namespace;
            let code = entry["responseStatus"]["code"].as_u64();
            if let (true, Some(201 | 409), Some(name)) = (is_create, code, object["name"].as_str()) {
                *made.entry(name.to_owned()).or_default() += usize::from(code == Some(201));
            }
        }
        let twice: Vec<_> = made.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(twice.is_empty(), "made more than once: {twice:?}");
        Ok(made.len())
    }

    /// Lets the server come to rest, checks the laws, and that it never told the key of its cluster user.
    pub async fn settle(&self) -> Result<()> {
        let key = self.kubeconfig.lines().find_map(|line| {
            let (_, key) = line.split_once("client-key-data:")?;
            Some(key.trim().trim_matches('"').to_owned())
        });
        let key = key.context("the kubeconfig has no key")?;
        ensure!(!self.server.log()?.contains(&key), "the server's log tells a key");
        self.server.settle(&[&key]).await
    }
}

/// Registers a cluster that must be accepted.
pub async fn add_cluster(server: &Server, name: &str, kubeconfig: &str, namespace: &str) -> Result<Value> {
    let body = json!({ "name": name, "kubeconfig": kubeconfig, "namespace": namespace });
    Ok(server.api.post("/v1/clusters", &body).await?.expect(201)?.json())
}

/// A new user who may do in the namespace what `deploy/k8s/rbac.yaml` grants, and nothing else.
pub async fn least_privileged(cluster: &Cluster, client: &Client, namespace: &str) -> Result<String> {
    let user = format!("dispatcher-of-{namespace}");
    let subject = json!([{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }]);
    let mut made = 0;
    for document in RBAC.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(document).context("rbac.yaml is not understood")?;
        object["metadata"]["name"] = json!(user);
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if object["roleRef"].is_object() {
            object["roleRef"]["name"] = json!(user);
            object["subjects"] = subject.clone();
        }
        let (namespaced, options) = (client.clone(), PostParams::default());
        match object["kind"].as_str() {
            Some("Role") => {
                let roles: Api<Role> = Api::namespaced(namespaced, namespace);
                roles.create(&options, &serde_json::from_value(object)?).await?;
            }
            Some("RoleBinding") => {
                let bindings: Api<RoleBinding> = Api::namespaced(namespaced, namespace);
                bindings
                    .create(&options, &serde_json::from_value(object)?)
                    .await?;
            }
            Some("ClusterRole") => {
                let roles: Api<ClusterRole> = Api::all(client.clone());
                roles.create(&options, &serde_json::from_value(object)?).await?;
            }
            Some("ClusterRoleBinding") => {
                let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
                bindings
                    .create(&options, &serde_json::from_value(object)?)
                    .await?;
            }
            // The namespace is there already, and the user needs no ServiceAccount.
            Some(_) | None => continue,
        }
        made += 1;
    }
    ensure!(made == 4, "rbac.yaml has {made} roles and bindings, not 4");
    cluster.mint_user(&user, &[])
}

/// Name of the first object of a run.
pub fn object(id: RunId) -> String {
    format!("qwex-{id}-a1")
}

/// A run that executes a shell script, in a container where there are any.
pub fn shell(script: &str) -> Value {
    json!({ "command": ["sh", "-c", script], "image": images::BUSYBOX })
}

/// Submits a run that has an id until the server has it, however often that goes away meanwhile.
pub async fn submit_surely(server: &qwex_suite::Api, body: &Value) -> Result<()> {
    let accepted = wait::until_ok(LIMIT, "a run to be accepted", || async {
        let reply = server.post("/v1/runs", body).await;
        let reply = reply.map_err(|error| error.to_string())?;
        match reply.status.as_u16() {
            200 | 201 => Ok(()),
            _ => Err(format!("{reply:?}")),
        }
    });
    Ok(accepted.await?)
}

/// Says one word, runs until it is told to stop, then stops at once. (A shell that is the first process of a
/// container would not even hear it.)
pub const UNTIL_STOPPED: &str = "trap 'exit 0' TERM; echo before; while :; do sleep 0.1; done";

/// Whether the run is over.
pub fn over(run: &Run) -> bool {
    run.status.is_terminal()
}

/// Whether the run executes now.
pub fn running(run: &Run) -> bool {
    run.status == RunStatus::Running
}

/// The code of a run's failure, as on the wire.
pub fn failure(run: &Run) -> &str {
    run.failure
        .as_ref()
        .map_or("none", |failure| failure.code.as_str())
}

/// UID and name of the only Job in the namespace.
pub async fn only_job(bed: &Bed) -> Result<(String, String)> {
    let all = bed.jobs().list(&ListParams::default()).await?;
    let [job] = all.items.as_slice() else {
        anyhow::bail!("{} Jobs, not one", all.items.len());
    };
    Ok((job.uid().unwrap_or_default(), job.name_any()))
}
