//! A queue takes a run back and gives it another pod, on a real node: the workspace goes over again, and the outputs are
//! those of the pod that ended.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use qwex_core::{Ending, Fact, PendingCode, QueueName};
use qwex_runner::Transfer;
use qwex_runner_k8s::Word;
use qwex_testbed::queue::QueueStandIn;
use qwex_testbed::{Cluster, require};
use serde_json::json;

use crate::files::{Desk, write};
use crate::queue::{api, furnish};
use crate::rig::Rig;

/// Goes on for ever where it finds `wait`; ends at once when it is told to stop.
const SCRIPT: &str =
    "trap 'exit 143' TERM; cat gate; if grep -q wait gate; then sleep 600 & wait; fi; cp gate out";

#[tokio::test]
async fn c24_the_next_pod_of_an_evicted_run_gets_the_files_too() -> Result<()> {
    require!(Root, Go, Containerd);
    // Its own: others rely on a cluster with a node and without queues.
    let cluster = Cluster::alpha().await?;
    let _queues = QueueStandIn::start(cluster.kubeconfig()).await?;
    let desk = Desk::at(Rig::direct(&cluster, |config| config.word = Word::Kueue).await?)?;
    furnish(&desk.rig).await?;
    write(desk.dir.path(), "gate", b"wait\n")?;
    let mut work = desk.script(SCRIPT, Transfer::Everything, &["out"]);
    work.spec.queue = QueueName::new("main").ok();
    work.spec.resources.cpu = Some("100m".to_owned());
    let listener = desk.rig.listen();
    let (handle, _supplying) = desk.submit(&work).await?;
    let first = listener.running(&work).await?;

    let queues = api(&desk.rig, "ClusterQueue", "clusterqueues");
    let policy = |policy: &str| Patch::Merge(json!({ "spec": { "stopPolicy": policy } }));
    let name = &desk.rig.namespace;
    queues
        .patch(name, &PatchParams::default(), &policy("HoldAndDrain"))
        .await?;
    let waits_again = |fact: &Fact| match fact {
        Fact::Waiting {
            code: PendingCode::Admission,
            round,
            ..
        } if *round > first => Some(()),
        _ => None,
    };
    listener.fact(&work, "it waits again", waits_again).await?;
    write(desk.dir.path(), "gate", b"go\n")?;
    queues
        .patch(name, &PatchParams::default(), &policy("None"))
        .await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    assert_eq!(desk.collect(&work, &handle).await?, [PathBuf::from("out")]);
    assert_eq!(fs::read(desk.dir.path().join("out"))?, b"go\n");
    let started = |fact: &&Fact| matches!(fact, Fact::EpisodeStarted { .. });
    assert_eq!(listener.facts(work.run_id).iter().filter(started).count(), 2);
    Ok(())
}
