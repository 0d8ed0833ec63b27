//! A backend in a directory of its own, work for it, and waiting with a limit.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use qwex_core::{ClusterName, Ending, Observation};
pub use qwex_runner::conformance::{handle, shell, work};
use qwex_runner::{Handle, Work};
use qwex_runner_local::{LocalBackend, LocalConfig};

pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Bench {
    temp: tempfile::TempDir,
    pub backend: LocalBackend,
}

pub fn supervisor() -> Vec<OsString> {
    vec![
        env!("CARGO_BIN_EXE_qwex-test-supervisor").into(),
        "supervise".into(),
    ]
}

/// As a server has it, with a short grace.
pub fn embedded() -> Bench {
    embedded_with(|_| {})
}

pub fn embedded_with(change: impl FnOnce(&mut LocalConfig)) -> Bench {
    let temp = tempfile::tempdir().unwrap();
    let cluster = ClusterName::new("local").unwrap();
    let mut config = LocalConfig::embedded(temp.path().join("runs"), supervisor(), cluster);
    config.grace = Duration::from_millis(300);
    config.retention = None;
    change(&mut config);
    let backend = LocalBackend::new(config).unwrap();
    Bench { temp, backend }
}

/// As a person's own machine has it.
pub fn laptop() -> Bench {
    let temp = tempfile::tempdir().unwrap();
    let mut config = LocalConfig::laptop(temp.path().join("runs"), supervisor(), temp.path().to_owned());
    config.grace = Duration::from_millis(300);
    let backend = LocalBackend::new(config).unwrap();
    Bench { temp, backend }
}

pub fn ending(observations: &[Observation]) -> Option<Ending> {
    qwex_runner::conformance::ending(observations).cloned()
}

/// Probes until there is something.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says loudly that a test proves nothing here; in CI that is a failure.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{why} (CI is set, so nothing is skipped)"
    );
    eprintln!("SKIPPED: {why}");
}

impl Bench {
    /// Where a laptop's commands work.
    pub fn dir(&self) -> &std::path::Path {
        self.temp.path()
    }

    pub fn submit(&self, work: &Work) -> Handle {
        let submitted = self.backend.submit_sync(work).unwrap();
        handle(work, &submitted)
    }

    pub fn wait(&self, handle: &Handle) -> Ending {
        until("the end of the run", || {
            ending(&self.backend.observe_sync(handle).unwrap())
        })
    }

    pub fn run(&self, work: &Work) -> Ending {
        let handle = self.submit(work);
        self.wait(&handle)
    }

    /// Waits until the file of the attempt exists and gives its text.
    pub fn file(&self, work: &Work, name: &str) -> String {
        let path = self.backend.config().root.join(work.object_name()).join(name);
        until(name, || {
            std::fs::read_to_string(&path)
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
    }
}

/// The record of a run that was just accepted.
pub fn run_of(work: &Work) -> qwex_core::Run {
    let now = jiff::Timestamp::now();
    let state = qwex_core::RunState::accepted(now, work.spec.retry.clone());
    qwex_core::Run {
        id: work.run_id,
        name: None,
        project: work.project.clone(),
        labels: BTreeMap::new(),
        status: state.status,
        pending: state.pending,
        failure: None,
        spec: work.spec.clone(),
        backend: None,
        attempt: work.attempt,
        exit_code: None,
        flags: state.flags,
        logs: None,
        created_at: now,
        dispatched_at: None,
        started_at: None,
        finished_at: None,
        created_by: "local:tester".to_owned(),
        provenance: None,
        usage: None,
        imported: None,
    }
}
