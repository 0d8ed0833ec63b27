//! Row G07, call by call: each system call by which a record is written fails, or is the last thing its writer does;
//! whoever reads sees the old record or the new one. `strace` does the harm.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use qwex_core::Run;
use qwex_runner::{Store, StoreError};

use crate::support::{run_of, skip, supervisor, work};

/// By which a writer changes anything. A loader opens files too, so only the last calls of each kind are harmed.
const CALLS: &[&str] = &[
    "openat",
    "write",
    "fsync",
    "rename,renameat,renameat2",
    "unlinkat",
    "mkdirat",
    "flock",
    "close",
];
const LAST: usize = 6;
const HARMS: &[&str] = &["error=EIO", "error=ENOSPC", "signal=KILL"];

/// One way to write, from a fresh store on.
#[derive(Clone, Copy)]
enum Writer {
    /// The first record of a run.
    Create,
    /// Another state over the first.
    Change,
}

struct Desk {
    project: tempfile::TempDir,
    store: Store,
    run: Run,
}

impl Desk {
    fn new(writer: Writer, run: &Run) -> Self {
        let project = tempfile::tempdir().unwrap();
        let store = Store::open(project.path()).unwrap();
        match writer {
            Writer::Create => {
                let json = serde_json::to_vec(run).unwrap();
                fs::write(project.path().join("run"), json).unwrap();
            }
            Writer::Change => drop(store.create(run).unwrap()),
        }
        Self {
            project,
            store,
            run: run.clone(),
        }
    }

    fn words(&self, writer: Writer) -> Vec<String> {
        let project = self.project.path().display().to_string();
        match writer {
            Writer::Create => vec!["create".to_owned(), project],
            Writer::Change => vec!["change".to_owned(), project, self.run.id.to_string()],
        }
    }

    /// Writes undisturbed.
    fn write(&self, writer: Writer) -> Run {
        let done = Command::new(&supervisor()[0]).args(self.words(writer)).status();
        assert!(done.unwrap().success(), "a writer that nobody disturbs succeeds");
        self.store.get(self.run.id).unwrap()
    }

    /// Writes under strace; its exit status and what strace saw.
    fn traced(&self, writer: Writer, options: &[&str]) -> (ExitStatus, String) {
        let trace = self.project.path().join("trace");
        let status = Command::new("strace")
            .arg("-o")
            .arg(&trace)
            .args(options)
            .arg(&supervisor()[0])
            .args(self.words(writer))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        (status, fs::read_to_string(trace).unwrap_or_default())
    }
}

/// How often a writer makes calls of this kind.
fn count(writer: Writer, run: &Run, calls: &str) -> usize {
    let (_, trace) = Desk::new(writer, run).traced(writer, &["-e", &format!("trace={calls}")]);
    let names: Vec<&str> = calls.split(',').collect();
    let is_call = |line: &&str| {
        line.split_once('(')
            .is_some_and(|(name, _)| names.contains(&name))
    };
    trace.lines().filter(is_call).count()
}

/// Tells how many calls were harmed.
fn harm_each_call(writer: Writer) -> usize {
    let work = work(&["true"]);
    let run = run_of(&work);
    let new = Desk::new(writer, &run).write(writer);
    let mut harmed = 0;
    for calls in CALLS {
        let total = count(writer, &run, calls);
        for nth in (1..=total).rev().take(LAST) {
            for harm in HARMS {
                let desk = Desk::new(writer, &run);
                let inject = format!("inject={calls}:{harm}:when={nth}");
                let (status, trace) = desk.traced(writer, &["-e", &inject]);
                harmed += usize::from(trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL"));
                let seen = desk.store.get(run.id);
                let is_old = match (writer, &seen) {
                    (Writer::Create, Err(StoreError::NotFound { .. })) => true,
                    (Writer::Create, _) => false,
                    (Writer::Change, seen) => seen.as_ref().is_ok_and(|seen| *seen == run),
                };
                let is_new = seen.as_ref().is_ok_and(|seen| *seen == new);
                assert!(is_old || is_new, "{inject}: {seen:?}");
                assert!(
                    is_new || !status.success(),
                    "{inject}: a success that is not there"
                );
                assert_eq!(desk.write(writer), new, "{inject}: nobody can write any more");
            }
        }
    }
    harmed
}

/// Whether strace is here and may trace.
fn can_trace(dir: &Path) -> bool {
    let tried = Command::new("strace")
        .arg("-o")
        .arg(dir.join("trace"))
        .arg("true")
        .status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn g07_each_call_of_a_writer_may_fail_or_be_its_last() {
    if !can_trace(tempfile::tempdir().unwrap().path()) {
        return skip("strace is missing or may not trace");
    }
    for writer in [Writer::Create, Writer::Change] {
        let harmed = harm_each_call(writer);
        assert!(harmed >= 40, "only {harmed} calls were harmed");
    }
}
