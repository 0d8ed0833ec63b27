//! What a spec asks for is what the command finds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use qwex_core::spec::PullPolicy;
use qwex_core::{FailureCode, Mount, MountKind, RunStatus, Span};
use qwex_runner::backend::Backend as _;
use qwex_runner::{CancelProgress, Runner as _, RunnerError, Watcher as _};
use qwex_testbed::require;
use tokio::io::AsyncReadExt as _;

use crate::fake_engine::LossyProxy;
use crate::support::{
    BOTH, LIMIT, Which, cancel, code, failure, in_workspace, log, submit, until_state, wait_for_end,
};

fn mount(kind: MountKind, source: Option<&str>, target: &str) -> Mount {
    Mount {
        kind,
        source: source.map(str::to_owned),
        target: target.to_owned(),
        read_only: false,
        size: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_as_it_was_written() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let odd = ["printf", "%s|", "a b", "", "$HOME", "$(id)", "\"'\\", "é\n"];
        assert_eq!(
            bench.said(bench.work(&odd)).await?,
            "a b||$HOME|$(id)|\"'\\|é\n|",
            "{which:?}"
        );

        let mut work = bench.shell("printf '%s\\n' \"$ODD\" \"$EMPTY.\" \"$QWEX_RUN_ID\" $QWEX_ATTEMPT; pwd");
        work.spec
            .env
            .insert("ODD".to_owned(), "a=b $c \"d\" 'e'".to_owned());
        work.spec.env.insert("EMPTY".to_owned(), String::new());
        work.spec
            .env
            .insert("QWEX_ATTEMPT".to_owned(), "forged".to_owned());
        work.spec.working_dir = Some("/tmp".to_owned());
        let id = work.run_id;
        assert_eq!(
            bench.said(work).await?,
            format!("a=b $c \"d\" 'e'\n.\n{id}\n1\n/tmp\n"),
            "{which:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_apart() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let (submission, end) = bench
            .run(bench.shell("echo out; echo err >&2; printf tail >&2"))
            .await?;
        assert_eq!(end.status, RunStatus::Succeeded);
        assert_eq!(log(&bench.backend, &submission.handle, "stdout").await?, b"out\n");
        assert_eq!(
            log(&bench.backend, &submission.handle, "stderr").await?,
            b"err\ntail"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_felt() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let mut work = bench.shell(
            "ulimit -n; ulimit -H -n; cd /sys/fs/cgroup; cat pids/pids.max cpu/cpu.cfs_quota_us \
             memory/memory.limit_in_bytes",
        );
        // podman's own default of nproc is more than a machine without CAP_SYS_RESOURCE may give.
        for (name, limit) in [("nofile", "100:200"), ("nproc", "1000")] {
            work.spec.ulimits.insert(name.to_owned(), limit.to_owned());
        }
        work.spec.resources.memory = Some("64Mi".to_owned());
        work.spec.resources.pids = Some(33);
        work.spec.resources.cpu = Some("0.5".to_owned());
        let felt = format!("100\n200\n33\n50000\n{}\n", 64 << 20);
        assert_eq!(bench.said(work).await?, felt, "{which:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_much_memory_is_oom_on_docker() -> Result<()> {
    require!(Root, Docker);
    let bench = Which::Docker.bench().await;
    let mut work = bench.work(&["tail", "/dev/zero"]);
    work.spec.resources.memory = Some("20Mi".to_owned());
    let (_, end) = bench.run(work).await?;
    assert_eq!(code(&end), Some(FailureCode::Oom), "{end:?}");
    assert_eq!(end.exit_code, Some(137));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_there() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("given"), "given\n")?;
        let mut read_only = mount(MountKind::Bind, dir.path().to_str(), "/data");
        read_only.read_only = true;
        let mut scratch = mount(MountKind::EmptyDir, None, "/scratch");
        scratch.size = Some("1Mi".to_owned());
        let volume = format!("qwex-test-{}", qwex_core::RunId::mint());
        let mounts = vec![
            read_only,
            scratch,
            mount(MountKind::Volume, Some(&volume), "/kept"),
        ];
        let mut writes = bench.shell(
            "cat /data/given; echo x > /data/new || echo read-only; head -c 2000000 /dev/zero > /scratch/big || \
             echo full; echo kept > /kept/file",
        );
        writes.spec.mounts = mounts.clone();
        let said = bench.said(writes).await?;
        assert_eq!(said, "given\nread-only\nfull\n", "{which:?}");
        let mut reads = bench.shell("cat /kept/file; ls /scratch");
        reads.spec.mounts = mounts;
        assert_eq!(bench.said(reads).await?, "kept\n", "{which:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_and_users() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let mut work = bench.shell("ls /sys/class/net; id -u; id -g");
        work.spec.network = Some("none".to_owned());
        work.spec.user = Some("65532:65532".to_owned());
        assert_eq!(bench.said(work).await?, "lo\n65532\n65532\n", "{which:?}");
        let mut host = bench.shell("readlink /proc/self/ns/net");
        host.spec.network = Some("host".to_owned());
        let here = std::fs::read_link("/proc/self/ns/net")?;
        assert_eq!(
            bench.said(host).await?.trim(),
            here.to_string_lossy(),
            "{which:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_not_there_is_refused_and_one_that_is_made_is_used() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let name = format!("qwex-{}", qwex_core::RunId::mint());
        let mut work = bench.work(&["true"]);
        work.spec.network = Some(name.clone());
        let refused = bench.backend.submit(&work).await.unwrap_err();
        assert!(matches!(refused, RunnerError::Rejected { .. }), "{refused:?}");
        assert!(
            refused.to_string().contains(&format!("network create {name}")),
            "{refused}"
        );
        let left = std::fs::read_dir(bench.state.path())?.count();
        assert_eq!(left, 0, "a refusal leaves nothing");
        which.client(&["network", "create", &name]).await?;
        let (_, end) = bench.run(work).await?;
        assert_eq!(end.status, RunStatus::Succeeded, "{end:?}");
    }
    Ok(())
}

/// A worker of a swarm does not show an overlay network before a container is attached, so the engine decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_a_node_of_a_swarm_does_not_show_is_tried() -> Result<()> {
    require!(Root, Docker);
    const IN_SWARM: &str =
        r#"{"ID":"a","Name":"node","DockerRootDir":"/d","Swarm":{"LocalNodeState":"active"}}"#;
    let blind = LossyProxy::answering(
        &Which::Docker.address().await,
        "GET /networks/",
        ("404 Not Found", r#"{"message":"network not found"}"#),
    )?;
    let node = LossyProxy::answering(&blind.host(), "/info", ("200 OK", IN_SWARM))?;
    let bench = Which::Docker.bench_at(&node.host(), &Which::Docker.bench().await.image);
    let name = format!("qwex-{}", qwex_core::RunId::mint());
    let mut work = bench.work(&["true"]);
    work.spec.network = Some(name.clone());
    let (_, end) = bench.run(work.clone()).await?;
    assert_eq!(code(&end), Some(FailureCode::StartError), "{end:?}");
    let told = &failure(&end).message;
    assert!(told.contains(&name) && told.contains("--attachable"), "{told}");
    Which::Docker.client(&["network", "create", &name]).await?;
    work.run_id = qwex_core::RunId::mint();
    let (_, end) = bench.run(work).await?;
    assert_eq!(end.status, RunStatus::Succeeded, "{end:?}");
    assert!(blind.lost.load(Ordering::SeqCst) >= 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_leads_to_the_command_on_podman() -> Result<()> {
    require!(Root, Podman);
    let bench = Which::Podman.bench().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut work = bench.shell("echo hello | nc -l -p 80");
    work.spec.ports = vec![format!("127.0.0.1:{port}:80")];
    let submission = bench.submit(work).await?;
    let ask = || async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let mut said = String::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut said)).await??;
        if said.is_empty() {
            return Err(std::io::Error::other("nobody listens in the container yet"));
        }
        Ok(said)
    };
    assert_eq!(
        qwex_testbed::wait::until_ok(LIMIT, "the port", ask).await?,
        "hello\n"
    );
    let end = wait_for_end(&bench.backend, &submission).await?;
    assert_eq!(end.status, RunStatus::Succeeded, "{end:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_directory_is_one_of_the_workspace() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("sub"))?;
        let mut work = in_workspace(bench.work(&["pwd"]), dir.path());
        work.spec.working_dir = Some("sub".to_owned());
        assert_eq!(bench.said(work).await?, "/workspace/sub\n", "{which:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_engine_has_is_refused_before_submit() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let mut work = bench.work(&["true"]);
        work.spec.mounts = vec![mount(MountKind::Pvc, Some("claim"), "/data")];
        let problems = bench.backend.validate(&work.spec);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let refused = bench.backend.submit(&work).await.unwrap_err();
        assert!(matches!(refused, RunnerError::Unsupported { .. }), "{refused}");
        let mut gpu = bench.work(&["true"]);
        gpu.spec.resources.gpu = Some(1);
        assert_eq!(
            bench.backend.validate(&gpu.spec).is_empty(),
            which == Which::Docker
        );
        assert_eq!(
            std::fs::read_dir(bench.state.path())?.count(),
            0,
            "a refusal leaves nothing"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_image_with_policy_never_is_an_image_failure() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let mut work = bench.work(&["true"]);
        work.spec.image = Some("qwex.test/absent:1".to_owned());
        work.spec.pull_policy = Some(PullPolicy::Never);
        let (_, end) = bench.run(work).await?;
        assert_eq!(code(&end), Some(FailureCode::Image));
        assert!(failure(&end).message.contains("never"), "{end:?}");
    }
    Ok(())
}

/// The one who submitted is gone; whoever watches cancels after the deadline, and that is a timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_after_the_deadline_is_a_timeout_whoever_asks() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let mut work = bench.shell("trap 'exit 0' TERM; while true; do sleep 0.1; done");
        work.spec.timeout = Some(Span::from_secs(2));
        let client = bench.another();
        let submission = submit(&client, work).await?;
        drop(client);
        let started = until_state(&bench.backend, &submission, "a start", |state| {
            state.started_at.is_some()
        })
        .await;
        let deadline = started.started_at.unwrap() + Duration::from_secs(2);
        qwex_testbed::wait::until(LIMIT, "the deadline", || async {
            (jiff::Timestamp::now() > deadline).then_some(())
        })
        .await?;
        cancel(&bench.backend, &submission.handle).await;
        let end = wait_for_end(&bench.backend, &submission).await?;
        assert_eq!(code(&end), Some(FailureCode::Timeout), "{which:?} {end:?}");
    }
    Ok(())
}

/// An exit code 0 after our TERM is no success.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_command_that_ends_well_is_cancelled() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let work = bench.shell("trap 'echo bye; exit 0' TERM; while true; do sleep 0.1; done");
        let submission = bench.submit(work).await?;
        until_state(&bench.backend, &submission, "a start", |state| {
            state.started_at.is_some()
        })
        .await;
        cancel(&bench.backend, &submission.handle).await;
        let state = qwex_runner::conformance::fold(submission.state(), &[submission.cancel_request()]);
        let end = qwex_runner::wait(&bench.backend, &submission.handle, state).await?;
        assert_eq!(end.status, RunStatus::Cancelled, "{which:?} {end:?}");
        assert_eq!(
            log(&bench.backend, &submission.handle, "stdout").await?,
            b"bye\n",
            "output in the grace is kept"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_attempt_leaves_nothing_and_a_running_one_is_not_removed() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let submission = bench.submit(bench.work(&["sleep", "300"])).await?;
        let refused = bench.backend.remove(&submission.handle).await.unwrap_err();
        assert!(refused.to_string().contains("cancel it first"), "{refused}");
        cancel(&bench.backend, &submission.handle).await;
        for _ in 0..2 {
            bench.backend.remove(&submission.handle).await?;
        }
        let name = &submission.handle.backend.object;
        let left = which.client(&["ps", "-a", "--format", "{{.Names}}"]).await?;
        assert!(!left.contains(name.as_str()), "{left}");
        assert_eq!(std::fs::read_dir(bench.state.path())?.count(), 0);
        let seen = bench.backend.observe(&submission.handle).await?;
        assert!(matches!(seen[0].fact, qwex_core::Fact::Gone { .. }), "{seen:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_tells_what_it_is() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let probe = bench.backend.probe().await?;
        assert!(
            probe.version.is_some() && probe.detail.contains("as root"),
            "{probe:?}"
        );
        let skew = probe.skew.expect("an engine tells the time");
        assert!(!skew.exceeds(jiff::SignedDuration::from_secs(2)), "{probe:?}");
        let (submission, _) = bench.run(bench.work(&["true"])).await?;
        let details = bench.backend.details(&submission.handle).await?;
        assert!(details.image_digest.unwrap().contains("sha256:"));
    }
    Ok(())
}

#[tokio::test]
async fn an_engine_that_is_not_there_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix://{}/none.sock", dir.path().display());
    let bench = Which::Docker.bench_at(&address, "busybox");
    let error = bench.backend.probe().await.unwrap_err();
    assert!(
        error.is_blind() && error.to_string().contains("DOCKER_HOST"),
        "{error}"
    );
    let submitted = bench.backend.submit(&bench.work(&["true"])).await.unwrap_err();
    assert!(submitted.is_retryable(), "{submitted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_container_is_started_by_the_next_submit_and_only_once() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let dir = tempfile::tempdir()?;
        let work = in_workspace(bench.shell("echo once >> starts"), dir.path());
        let (submission, _) = bench.run(work.clone()).await?;
        // Later submits find a container that has run: it is not run again.
        for backend in [&bench.backend, &bench.another()] {
            let again = backend.submit(&work).await?;
            assert!(again.adopted);
            assert_eq!(again.backend, submission.handle.backend);
        }
        let end = wait_for_end(&bench.backend, &submission).await?;
        assert_eq!(end.status, RunStatus::Succeeded);
        assert_eq!(std::fs::read_to_string(dir.path().join("starts"))?, "once\n");
        assert_eq!(
            bench.backend.cancel(&submission.handle).await?,
            CancelProgress::Stopped
        );
    }
    Ok(())
}
