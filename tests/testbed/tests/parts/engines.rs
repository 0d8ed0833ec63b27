//! Docker, Podman and sshd: each started, used for real, stopped, and nothing of it left.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::sshd::Sshd;
use qwex_testbed::tcp_proxy::{Fault, Faults, TcpProxy};
use qwex_testbed::{require, wait};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::process::processes_with;

const LIMIT: Duration = Duration::from_secs(60);

/// A word that no other process on this machine has in its command line.
fn marker(part: &str) -> String {
    format!(
        "{part}-{}-{}",
        std::process::id(),
        std::ptr::from_ref(part).addr()
    )
}

/// Waits until nothing with this word runs and nothing is mounted below the directory.
async fn nothing_left(word: &str, dir: &Path) {
    let probe = || async {
        let running = processes_with(word);
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mounted = mounts.contains(&format!(" {}/", dir.display()));
        if running.is_empty() && !mounted {
            Ok(())
        } else {
            Err(format!("pids {running:?}, mounted: {mounted}"))
        }
    };
    wait::until_ok(LIMIT, "everything to be gone", probe)
        .await
        .unwrap();
}

#[tokio::test]
async fn docker_runs_a_container() -> Result<()> {
    require!(Root, Docker);
    let docker = Dockerd::start().await?;
    let image = docker.load_busybox().await?;
    let said = docker
        .docker(&[
            "run",
            "--name",
            "one",
            image,
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .await?;
    assert_eq!(said, "out\n");
    let failed = docker
        .docker(&["run", "--name", "two", image, "sh", "-c", "exit 3"])
        .await
        .unwrap_err();
    assert!(failed.to_string().contains("exit status: 3"), "{failed}");

    let docker = docker.restart().await?;
    let code = docker
        .docker(&["inspect", "-f", "{{.State.ExitCode}}", "two"])
        .await?;
    assert_eq!(code.trim(), "3", "its data outlives a restart");

    let word = marker("docker");
    let stays = format!("sleep 1000; : {word}");
    docker
        .docker(&["run", "-d", "--memory", "64m", image, "sh", "-c", &stays])
        .await?;
    assert!(!processes_with(&word).is_empty());
    let dir = docker.socket().parent().unwrap().to_owned();
    drop(docker);
    nothing_left(&word, &dir).await;
    Ok(())
}

#[tokio::test]
async fn podman_runs_a_container() -> Result<()> {
    require!(Root, Podman);
    let podman = Podman::start().await?;
    let image = podman.load_busybox().await?;
    let said = podman
        .podman(&[
            "run",
            "--name",
            "one",
            image,
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .await?;
    assert_eq!(said, "out\n");
    let failed = podman
        .podman(&["run", "--name", "two", image, "sh", "-c", "exit 3"])
        .await
        .unwrap_err();
    assert!(failed.to_string().contains("exit status: 3"), "{failed}");

    let podman = podman.restart().await?;
    let code = podman
        .podman(&["inspect", "-f", "{{.State.ExitCode}}", "two"])
        .await?;
    assert_eq!(code.trim(), "3", "its storage outlives a restart");

    let word = marker("podman");
    let stays = format!("sleep 1000; : {word}");
    podman.podman(&["run", "-d", image, "sh", "-c", &stays]).await?;
    assert!(!processes_with(&word).is_empty());
    let dir = podman.socket().parent().unwrap().to_owned();
    podman.stop().await?;
    nothing_left(&word, &dir).await;
    Ok(())
}

#[tokio::test]
async fn ssh_lets_one_key_in() -> Result<()> {
    require!(Sshd);
    let sshd = Sshd::start().await?;
    assert_eq!(sshd.run("echo $((6 * 7))").await?, "42\n");
    let failed = sshd.run("exit 7").await.unwrap_err();
    assert!(failed.to_string().contains("exit status: 7"), "{failed}");

    let other = Sshd::start().await?;
    let mut stranger = Command::new("ssh");
    stranger
        .args([
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-i",
        ])
        .arg(other.key());
    stranger.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    stranger.args([
        "-l",
        sshd.user(),
        "-p",
        &sshd.addr().port().to_string(),
        "127.0.0.1",
        "true",
    ]);
    let refused = stranger.output().await?;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Permission denied"),
        "{refused:?}"
    );
    let mut deceived = Command::new("ssh");
    deceived
        .arg("-F")
        .arg(other.config_through(sshd.addr())?)
        .args(["testbed", "true"]);
    let refused = deceived.output().await?;
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Host key verification failed"),
        "{refused:?}"
    );
    sshd.stop().await
}

#[tokio::test]
async fn ssh_survives_a_lost_link() -> Result<()> {
    require!(Sshd);
    let sshd = Sshd::start().await?;
    let proxy = TcpProxy::start(sshd.addr()).await?;
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(sshd.config_through(proxy.addr())?);
    ssh.args([
        "-o",
        "ServerAliveInterval=1",
        "-o",
        "ServerAliveCountMax=1",
        "testbed",
        "echo up; sleep 1000",
    ]);
    let mut session = ssh
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    wait::until(LIMIT, "the session to be up", || async {
        (proxy.counts().down > 2000).then_some(())
    })
    .await?;
    proxy.set(Faults::both(Fault::BlackHole));
    let ended = tokio::time::timeout(LIMIT, session.wait()).await??;
    assert_eq!(ended.code(), Some(255), "the client notices the dead link");
    proxy.set(Faults::NONE);
    assert_eq!(sshd.run("echo back").await?, "back\n");
    Ok(())
}

#[tokio::test]
async fn ssh_goes_on_after_a_short_cut_of_the_link() -> Result<()> {
    require!(Root, Sshd, Ip);
    let sshd = Sshd::start_behind_link().await?;
    let link = sshd.link().unwrap();
    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(sshd.config())
        .args(["-o", "ConnectTimeout=1", "testbed"]);
    let mut session = ssh
        .arg("read line; echo got $line")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    sshd.run("true").await?;

    link.cut().await?;
    let mut probe = Command::new("ssh");
    probe
        .arg("-F")
        .arg(sshd.config())
        .args(["-o", "ConnectTimeout=1", "testbed", "true"]);
    assert_eq!(probe.stderr(Stdio::null()).status().await?.code(), Some(255));
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through\n").await?;
    stdin.shutdown().await?;
    assert!(session.try_wait()?.is_none(), "a cut link tells nobody");

    link.mend().await?;
    let output = tokio::time::timeout(LIMIT, session.wait_with_output()).await??;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got through\n");
    Ok(())
}
