//! One pipeline: test here, build in docker, train in a queue of a cluster, report over ssh. Its command line, its driver
//! and all keepers are killed again and again; nothing runs twice and nothing is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qwex_testbed::{require, wait};

use crate::bed::{Bed, IMAGE, LIMIT};

/// Each stage leaves a line with the id of its run in a file of its name.
fn file(bed: &Bed) -> String {
    let marks = bed.dir().join("marks").display().to_string();
    format!(
        "name: night\nenv: {{ ID: '${{run.id}}' }}\nstages:\n\
         - name: test\n  backend: local\n  outputs: [tested.txt]\n\
         \x20 command: 'echo $ID >> {marks}/test && sleep 2 && echo tested > tested.txt'\n\
         - name: build\n  needs: [test]\n  backend: docker\n  image: {IMAGE}\n  outputs: [built.txt]\n\
         \x20 command: 'echo $ID >> marks/build && sleep 2 && cp tested.txt built.txt && echo built >> built.txt'\n\
         - name: train\n  needs: [build]\n  backend: kueue\n  queue: main\n  image: {IMAGE}\n  outputs: [model.txt]\n\
         \x20 resources: {{ cpu: 100m, memory: 64Mi }}\n\
         \x20 command: 'sleep 2 && cp built.txt model.txt && echo trained >> model.txt'\n\
         - name: report\n  needs: [train]\n  backend: ssh\n  host: build1\n  outputs: [report.txt]\n\
         \x20 command: 'echo $ID >> {marks}/report && sleep 2 && cp model.txt report.txt && echo reported >> report.txt'\n"
    )
}

/// How many stages are over, and whether all are.
async fn progress(bed: &Bed) -> Result<(usize, bool)> {
    let pipeline = bed.qwexctl(&["pipeline", "get", "-o", "json"]).await?.json()?;
    let stages = pipeline["stages"].as_array().context("no stages")?;
    let over = stages
        .iter()
        .filter(|stage| stage["status"] == "succeeded")
        .count();
    Ok((over, over == stages.len()))
}

fn kill_all(bed: &Bed) -> Result<()> {
    for pid in bed.helpers()? {
        // One that ended by itself meanwhile is as good.
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    Ok(())
}

async fn check(bed: &Bed) -> Result<()> {
    let pipeline = bed.qwexctl(&["pipeline", "get", "-o", "json"]).await?.json()?;
    let stages = pipeline["stages"].as_array().context("no stages")?.clone();
    let listed = bed.qwexctl(&["ps", "-q", "-n", "0"]).await?.expect(0)?;
    ensure!(listed.out.lines().count() == stages.len(), "{}", listed.out);
    let id = |name: &str| -> Result<String> {
        let stage = stages
            .iter()
            .find(|stage| stage["name"] == name)
            .context("no such stage")?;
        Ok(stage["run_id"]
            .as_str()
            .context("a stage without a run")?
            .to_owned())
    };
    for name in ["test", "build", "report"] {
        let marks = std::fs::read_to_string(bed.dir().join("marks").join(name))?;
        ensure!(
            marks == format!("{}\n", id(name)?),
            "{name} ran otherwise than once: {marks:?}"
        );
    }
    let pods: Api<Pod> = Api::namespaced(bed.cluster().client().await?, &bed.namespace);
    let selector = ListParams::default().labels(&format!("qwex.dev/run-id={}", id("train")?));
    let run = bed.run_of(&id("train")?).await?;
    ensure!(run["attempt"] == 1 && run["status"] == "succeeded", "{run:#}");
    // A Job whose run is stored is removed; as long as it is there it has one pod.
    ensure!(
        pods.list(&selector).await?.items.len() <= 1,
        "train had more than one pod"
    );
    let report = std::fs::read_to_string(bed.dir().join("report.txt"))?;
    ensure!(report == "tested\nbuilt\ntrained\nreported\n", "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_backends_hand_on_their_artifacts_and_nothing_runs_twice_through_five_kills() -> Result<()> {
    require!(Root, Containerd, Go, Docker, Podman, Sshd);
    let bed = Bed::new().await?;
    std::fs::create_dir(bed.dir().join("marks"))?;
    std::fs::write(bed.dir().join("qwex.yaml"), file(&bed))?;
    let mut front = bed.command(&["pipeline", "run"])?.spawn()?;
    let mut killed_at = Vec::new();
    for round in 0..5 {
        // A chosen instant: early in a stage, in its middle, while it is handed over.
        tokio::time::sleep(Duration::from_millis(700 + 600 * round)).await;
        front.start_kill()?;
        front.wait().await?;
        kill_all(&bed)?;
        let (over, all) = progress(&bed).await?;
        killed_at.push(over);
        if all {
            break;
        }
        front = bed.command(&["pipeline", "resume"])?.spawn()?;
    }
    let ended = tokio::time::timeout(LIMIT, front.wait())
        .await
        .context("resume does not end")??;
    if !ended.success() {
        let seen = bed.qwexctl(&["pipeline", "resume"]).await?;
        eprintln!("resumed once more: {}{}", seen.out, seen.err);
    }
    wait::until(LIMIT, "every stage to have succeeded", || async {
        progress(&bed).await.is_ok_and(|(_, all)| all).then_some(())
    })
    .await?;
    eprintln!("stages that were over at each kill: {killed_at:?}");
    check(&bed).await
}
