//! The laws of every backend, kept by Kubernetes with the user's own rights, and behind a queue.

use std::sync::Arc;
use std::time::Duration;

use qwex_runner::conformance::Subject;
use qwex_testbed::cluster::Spec;
use qwex_testbed::images;
use serde_json::json;

use crate::rig::Rig;

fn subject(rig: Rig) -> Subject {
    let backend = Arc::new(rig.backend.clone());
    Subject::new(backend, Duration::from_secs(180), rig)
        .with_image(images::BUSYBOX)
        .with_log_of_at_most(
            100 * 1024 * 1024,
            "where its node keeps so much; of what a node rotates away unread, from 10 MiB on if nobody set it otherwise, a gap tells",
        )
        // A kubelet counts every ten to fifteen seconds, and is asked as often, five to ten seconds after the begin at first.
        .measured_within(Duration::from_secs(45))
}

/// With room for the largest log of the suite, so that no moment decides what is left of it; `rotation` looks at the rest.
fn node(name: &'static str) -> Spec {
    Spec::real(name)
        .by_address()
        .kubelet_config("containerLogMaxSize", json!("256Mi"))
}

mod plain {
    use qwex_testbed::Cluster;
    use tokio::sync::OnceCell;

    use super::*;

    /// Of its own: its API server forwards to its node, which tells what runs use.
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

    async fn rig() -> Rig {
        let start = || Cluster::start(node("plain"));
        let cluster = CLUSTER.get_or_try_init(start).await.expect("a cluster");
        Rig::direct(cluster, |_| {}).await.expect("a namespace")
    }

    qwex_runner::conformance!("k8s", at_once, subject(rig().await));
}

mod queued {
    use qwex_runner_k8s::Word;
    use qwex_testbed::Cluster;
    use qwex_testbed::queue::QueueStandIn;
    use tokio::sync::OnceCell;

    use super::*;
    use crate::queue;

    /// Of its own: on the shared one there is no Kueue, and other tests are about that.
    static CLUSTER: OnceCell<(Cluster, QueueStandIn)> = OnceCell::const_new();

    async fn rig() -> Rig {
        let start = async || {
            let cluster = Cluster::start(node("queued")).await?;
            let stand_in = QueueStandIn::start(cluster.kubeconfig()).await?;
            anyhow::Ok((cluster, stand_in))
        };
        let (cluster, _) = CLUSTER
            .get_or_try_init(start)
            .await
            .expect("a cluster with a queue");
        let rig = Rig::direct(cluster, |config| config.word = Word::Kueue)
            .await
            .expect("a namespace");
        queue::furnish(&rig).await.expect("a queue");
        rig
    }

    qwex_runner::conformance!("kueue", at_once, subject(rig().await));
}
