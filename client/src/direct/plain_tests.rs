//! Runs that were recorded and never handed over.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use qwex_core::{JobSpec, Project, Provenance, RunId, RunStatus};
use serde_json::json;

use super::super::runs::{NewRun, recorded};
use super::*;

struct Bench {
    dir: tempfile::TempDir,
    direct: Direct,
    run: Run,
}

fn bench() -> (Bench, RunId) {
    bench_of(SignedDuration::from_mins(1))
}

/// A run of so long ago with a label `pipeline`, without an attempt.
fn bench_of(age: SignedDuration) -> (Bench, RunId) {
    let dir = tempfile::tempdir().unwrap();
    let direct = Direct::at(dir.path()).unwrap();
    let pipeline = RunId::mint();
    let mut run = recorded(NewRun {
        id: RunId::mint(),
        name: None,
        project: Project::new("default").unwrap(),
        labels: BTreeMap::from([(PIPELINE.to_owned(), pipeline.to_string())]),
        spec: JobSpec::for_command(["true"]),
        provenance: Provenance::default(),
    });
    run.created_at -= age;
    direct.store().create_with_attempt(&run).unwrap();
    (Bench { dir, direct, run }, pipeline)
}

impl Bench {
    fn shelve(&self, pipeline: RunId, status: &str, run: RunId) {
        let place = self.dir.path().join(".qwex/pipelines").join(pipeline.to_string());
        std::fs::create_dir_all(&place).unwrap();
        let record = json!({"status": status, "stages": [{"run_id": RunId::mint()}, {"run_id": run}]});
        std::fs::write(place.join("pipeline.json"), record.to_string()).unwrap();
    }

    fn status(&self) -> RunStatus {
        self.direct.get(self.run.id).unwrap().status
    }
}

/// One with a mark is waited for: `client/tests/cli/pipeline_foreign.rs`.
#[test]
fn a_pipeline_without_a_mark_of_this_user_keeps_no_run_pending() {
    let (bench, pipeline) = bench();
    bench.shelve(pipeline, "running", bench.run.id);
    assert_eq!(bench.status(), RunStatus::Failed);
}

#[test]
fn the_label_of_a_pipeline_alone_keeps_no_run_pending() {
    let (bench, pipeline) = bench();
    bench.shelve(pipeline, "running", RunId::mint());
    assert_eq!(bench.status(), RunStatus::Failed);
}

#[tokio::test]
async fn whoever_waits_for_a_run_without_an_attempt_hears_that_it_was_given_up() {
    let (bench, _) = bench_of(HANDING_OVER - SignedDuration::from_millis(500));
    let waited = tokio::time::timeout(
        std::time::Duration::from_secs(10),
        bench.direct.wait(bench.run.id),
    );
    let run = waited.await.expect("it hangs").unwrap();
    assert_eq!(run.status, RunStatus::Failed);
}
