//! One sshd for all tests, a backend in directories of its own for each, work for it, and waiting with a
//! limit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use qwex_core::{BackendInfo, BackendKind, Ending, FailureCode, Observation};
pub use qwex_runner::conformance::{handle, shell, work};
use qwex_runner::{Handle, LogSource, Runner, Submitted, Transfer, Watcher, Work, Workspace};
use qwex_runner_ssh::{SshBackend, SshConfig, Supervisor};
use qwex_testbed::sshd::Sshd;
use qwex_testbed::tcp_proxy::TcpProxy;
use tokio::sync::OnceCell;

pub const LIMIT: Duration = Duration::from_secs(90);
/// Until a host counts as silent: the machine of the tests may be that busy. What stalls is told all the same.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    pub temp: tempfile::TempDir,
    pub backend: SshBackend,
}

/// The supervisor as a program of its own, made when it is not there.
pub fn supervisor() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let dir = own.ancestors().nth(2).unwrap();
        let program = dir.join("qwex-test-supervisor");
        if !program.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args([
                "build",
                "-p",
                "qwex-runner-local",
                "--bin",
                "qwex-test-supervisor",
            ]);
            cargo.args(["--target-dir".as_ref(), dir.parent().unwrap().as_os_str()]);
            assert!(cargo.status().unwrap().success(), "{cargo:?}");
        }
        program
    })
}

pub async fn program() -> Bench {
    bench_with(by_program).await
}

pub async fn script() -> Bench {
    bench_with(|_| {}).await
}

/// By default supervised by the script, with a short grace.
pub async fn bench_with(change: impl FnOnce(&mut SshConfig)) -> Bench {
    bench_over(host_config().await, change)
}

/// The client configuration in which the host is called `testbed`.
pub async fn host_config() -> PathBuf {
    host().await.config()
}

/// The sshd of all tests that need nothing of their own.
pub async fn host() -> &'static Sshd {
    static SSHD: OnceCell<Sshd> = OnceCell::const_new();
    SSHD.get_or_init(|| async { Sshd::start().await.unwrap() }).await
}

/// A host on which these scripts come before the programs of their names, as long as their directory is there.
pub async fn host_with(scripts: &[(&str, &str)]) -> (tempfile::TempDir, Sshd) {
    let first = tempfile::tempdir().unwrap();
    for (name, text) in scripts {
        put_program(first.path(), name, text);
    }
    let path = format!("SetEnv PATH={}:/usr/bin:/bin", first.path().display());
    let sshd = Sshd::start_with(&path).await.unwrap();
    (first, sshd)
}

/// Writes a script of the shell that can be run.
pub fn put_program(dir: &Path, name: &str, text: &str) {
    let program = dir.join(name);
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A command in a copy of that directory.
pub fn in_copy_of(dir: &Path, script: &str) -> Work {
    let mut work = shell(script);
    work.workspace = Some(Workspace {
        dir: dir.to_owned(),
        send: Transfer::Everything,
    });
    work
}

/// A backend whose link goes by way of a proxy that does harm.
pub async fn through(change: impl FnOnce(&mut SshConfig)) -> (TcpProxy, Bench) {
    let sshd = host().await;
    let proxy = TcpProxy::start(sshd.addr()).await.unwrap();
    let file = sshd.config_through(proxy.addr()).unwrap();
    (proxy, bench_over(file, change))
}

/// Has the program of the tests as supervisor.
pub fn by_program(config: &mut SshConfig) {
    config.supervisor = Supervisor::Program {
        path: supervisor().to_owned(),
        subcommand: "supervise".to_owned(),
    };
}

/// Over the ssh configuration in a file.
pub fn bench_over(config_file: PathBuf, change: impl FnOnce(&mut SshConfig)) -> Bench {
    let temp = tempfile::Builder::new().prefix("qx").tempdir().unwrap();
    let there = |name: &str| temp.path().join(name).display().to_string();
    let mut config = SshConfig::new("testbed", "supervise");
    config.remote_dir = there("remote dir");
    config.cache_dir = there("cache");
    config.control_dir = Some(temp.path().join("c"));
    config.config_file = Some(config_file);
    config.connect_timeout = PATIENCE;
    config.answer_timeout = PATIENCE;
    config.keep_connection = Duration::from_secs(3);
    config.grace = Duration::from_millis(300);
    config.supervisor = Supervisor::Script;
    change(&mut config);
    let backend = SshBackend::new(config).unwrap();
    Bench { temp, backend }
}

pub fn ending(observations: &[Observation]) -> Option<Ending> {
    qwex_runner::conformance::ending(observations).cloned()
}

/// How it failed, with the exit code.
pub fn code(ending: &Ending) -> Option<(FailureCode, Option<i32>)> {
    match ending {
        Ending::Failed { failure } => Some((failure.code, failure.exit_code)),
        Ending::Succeeded { .. } | Ending::Stopped { .. } => None,
    }
}

/// Probes until there is something.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As one that was submitted by somebody who heard no answer.
pub fn unheard(work: &Work, bench: &Bench) -> Handle {
    let backend = BackendInfo {
        kind: BackendKind::Ssh,
        cluster: None,
        address: Some(bench.backend.address().to_owned()),
        namespace: None,
        object: work.object_name(),
        uid: None,
    };
    let submitted = Submitted {
        backend,
        adopted: false,
    };
    handle(work, &submitted)
}

impl Bench {
    /// The same backend from another process: nothing of the first one's memory.
    pub fn anew(&self) -> SshBackend {
        SshBackend::new(self.backend.config().clone()).unwrap()
    }

    pub async fn submit(&self, work: &Work) -> Handle {
        let submitted = self.backend.submit(work).await.unwrap();
        handle(work, &submitted)
    }

    /// Submits until it is taken: a busy machine answers later than an impatient bench waits.
    pub async fn submit_at_last(&self, work: &Work) -> Handle {
        until("a submit", async || match self.backend.submit(work).await {
            Ok(submitted) => Some(handle(work, &submitted)),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                None
            }
        })
        .await
    }

    /// The same for its end.
    pub async fn wait_at_last(&self, handle: &Handle) -> Ending {
        until("the end of the run", async || {
            ending(&self.backend.observe(handle).await.ok()?)
        })
        .await
    }

    pub async fn wait(&self, handle: &Handle) -> Ending {
        until("the end of the run", async || {
            ending(&self.backend.observe(handle).await.unwrap())
        })
        .await
    }

    /// Runs it to its end, which has to be a good one.
    pub async fn succeed(&self, work: &Work) -> Handle {
        let handle = self.submit(work).await;
        let ending = self.wait(&handle).await;
        assert!(
            matches!(ending, Ending::Succeeded { .. }),
            "{:?}: {ending:?}",
            work.spec.command
        );
        handle
    }

    /// Waits until its command has begun.
    pub async fn has_started(&self, handle: &Handle) {
        until("its start", async || {
            let logs = self.backend.list_logs(handle).await.unwrap();
            (!logs.is_empty()).then_some(())
        })
        .await;
    }

    /// Where to read what it prints.
    pub async fn stdout_of(&self, handle: &Handle) -> LogSource {
        until("its log", async || {
            let sources = self.backend.list_logs(handle).await.ok()?;
            sources.into_iter().find(|source| source.stream == "stdout")
        })
        .await
    }

    pub async fn run(&self, work: &Work) -> Ending {
        let handle = self.submit(work).await;
        self.wait(&handle).await
    }

    /// Runs a line on the host, in whose process namespace it then is.
    pub fn on_host(&self, line: &str) -> bool {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(self.backend.config().config_file.as_ref().unwrap());
        ssh.args(["testbed", line]).status().unwrap().success()
    }

    /// The directory of an attempt on the host, which is this machine.
    pub fn there(&self, work: &Work) -> PathBuf {
        Path::new(&self.backend.config().remote_dir)
            .join("runs")
            .join(work.object_name())
    }
}
