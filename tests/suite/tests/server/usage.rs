//! What a run used, where it ran and from which image: kept beside its end.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use qwex_core::{Run, RunStatus, Usage};
use qwex_suite::Server;
use qwex_testbed::cluster::Spec;
use qwex_testbed::{Cluster, require, wait};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::support::{Bed, LIMIT, over, shell, without_local};

/// Lets the server's user ask the kubelets: this cluster has no metrics server.
async fn may_ask_kubelets(bed: &Bed) -> Result<()> {
    let name = format!("kubelets-of-{}", bed.namespace);
    let rules = json!([{ "apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"] }]);
    let role = json!({ "metadata": { "name": name }, "rules": rules });
    let group = "rbac.authorization.k8s.io";
    let user = format!("dispatcher-of-{}", bed.namespace);
    let binding = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
    });
    let (roles, bindings) = (
        Api::<ClusterRole>::all(bed.client.clone()),
        Api::<ClusterRoleBinding>::all(bed.client.clone()),
    );
    roles
        .create(&PostParams::default(), &serde_json::from_value(role)?)
        .await?;
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    // Who is refused once asks no kubelet for minutes.
    let review = json!({ "spec": { "user": user, "resourceAttributes": {
        "resource": "nodes", "subresource": "proxy", "verb": "get",
    }}});
    let review: SubjectAccessReview = serde_json::from_value(review)?;
    let reviews = Api::<SubjectAccessReview>::all(bed.client.clone());
    let allowed = wait::until(LIMIT, "the right to be known", || async {
        let told = reviews.create(&PostParams::default(), &review).await.ok()?;
        told.status?.allowed.then_some(())
    });
    Ok(allowed.await?)
}

fn usage(run: &Run) -> Result<&Usage> {
    run.usage
        .as_ref()
        .with_context(|| format!("no usage is told of {run:#?}"))
}

#[tokio::test]
async fn a_run_on_a_real_cluster_tells_what_it_used_and_where_also_after_a_restart() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    // Of its own: its API server forwards to its node, which tells what runs use.
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || Cluster::start(Spec::real("measured").by_address());
    let cluster = CLUSTER.get_or_try_init(start).await?;
    let mut bed = Bed::prepare(cluster, without_local()).await?;
    bed.register(&bed.kubeconfig).await?;
    may_ask_kubelets(&bed).await?;
    // A kubelet tells of a container some ten seconds late, and is asked that often: it has to last.
    let body = shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 45");
    let id = bed.server.api.submit(&body).await?.id;
    let run = bed.server.api.until(id, LIMIT, "over", over).await?;
    ensure!(run.status == RunStatus::Succeeded, "{run:#?}");
    let used = usage(&run)?;
    let (cpu_ms, memory) = (
        used.cpu_ms.context("no time")?,
        used.max_memory_bytes.context("no memory")?,
    );
    ensure!(
        used.sampled && (1..60_000).contains(&cpu_ms) && (100_000..1_000_000_000).contains(&memory),
        "{used:?}"
    );
    let provenance = run
        .provenance
        .clone()
        .context("nothing is told of where it ran")?;
    ensure!(
        provenance.host.is_some() && provenance.image_digest.is_some(),
        "{provenance:?}"
    );
    // Who starts anew has measured nothing, and hears of the same end again.
    bed.server.kill().await?;
    bed.server.start_again().await?;
    let next = bed.server.api.submit(&shell("true")).await?.id;
    bed.server.api.until(next, LIMIT, "over", over).await?;
    let later = bed.server.api.run(id).await?;
    ensure!(
        (later.usage, later.provenance) == (run.usage, run.provenance),
        "what was known is not any more"
    );
    bed.settle().await
}

/// A run whose second attempt did nothing has used nothing, whatever the first one did.
#[tokio::test]
async fn the_usage_of_a_run_is_that_of_the_attempt_it_ended_with() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    let busy = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";
    let mut body = shell(&format!("if [ $QWEX_ATTEMPT = 1 ]; then {busy}; exit 1; fi"));
    body["retry"] = json!({ "limit": 1 });
    let twice = server.api.submit(&body).await?.id;
    let once = server.api.submit(&shell(busy)).await?.id;
    let mut cpu_ms = Vec::new();
    for id in [twice, once] {
        let run = server.api.until(id, LIMIT, "over", over).await?;
        ensure!(run.status == RunStatus::Succeeded, "{run:#?}");
        cpu_ms.push(usage(&run)?.cpu_ms.context("no time")?);
    }
    ensure!(cpu_ms[0] * 4 < cpu_ms[1], "{cpu_ms:?} ms of processor time");
    server.settle(&[]).await
}
