//! The run object as users meet it in the API, in `run.json` and on the command line, byte for byte.

use super::*;

/// The golden object: every field set, in the order in which people see them.
const GOLDEN: &str = r#"{
  "id": "019b76da-a800-7000-8000-000000000000",
  "name": "train",
  "project": "default",
  "labels": {
    "team": "vision"
  },
  "status": "failed",
  "pending": null,
  "failure": {
    "code": "oom",
    "message": "container main was killed for memory (limit 4Gi)",
    "exit_code": 137,
    "signal": 9
  },
  "spec": {
    "command": [
      "python",
      "train.py"
    ],
    "image": "python:3.12-slim",
    "env": {
      "LOG_LEVEL": "info"
    },
    "secrets": {
      "HF_TOKEN": "hf"
    },
    "working_dir": null,
    "resources": {
      "cpu": "2",
      "memory": "4Gi",
      "gpu": 1
    },
    "timeout": "1h",
    "retry": {
      "limit": 2,
      "on": [
        "evicted",
        "node_lost"
      ]
    },
    "queue": "gpu-queue",
    "cluster": null,
    "placement": {
      "require": {
        "gpu": "a100"
      }
    }
  },
  "backend": {
    "kind": "k8s",
    "cluster": "alpha",
    "namespace": "qwex-default",
    "object": "qwex-019b76da-a800-7000-8000-000000000000-a1",
    "uid": "6f1c0e9e-1f4e-4f4e-9d1d-2b8a4c1d2e3f"
  },
  "attempt": 1,
  "exit_code": 137,
  "flags": [],
  "logs": {
    "verdict": "complete",
    "bytes": 18204,
    "lines": 311,
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  },
  "created_at": "2026-01-01T00:00:00Z",
  "dispatched_at": "2026-01-01T00:00:01Z",
  "started_at": "2026-01-01T00:00:02.5Z",
  "finished_at": "2026-01-01T00:01:00Z",
  "created_by": "token:ci"
}"#;

fn golden() -> Run {
    serde_json::from_str(GOLDEN).unwrap()
}

#[test]
fn the_run_object_is_golden() {
    assert_eq!(serde_json::to_string_pretty(&golden()).unwrap(), GOLDEN);
}

#[test]
fn pending_has_code_message_and_since() {
    let text = r#"{"code":"admission","message":"waiting for 400m more cpu in queue team","since":"2026-01-01T00:00:00Z"}"#;
    let pending: Pending = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&pending).unwrap(), text);
}

#[test]
fn a_run_of_a_newer_version_is_read() {
    let mut json = serde_json::to_value(golden()).unwrap();
    json["weather"] = serde_json::json!("rain");
    json["failure"]["code"] = serde_json::json!("struck_by_lightning");
    json["failure"]["volts"] = serde_json::json!(1_000_000);
    json["flags"] = serde_json::json!(["cancel_requested", "charred"]);
    json["backend"]["kind"] = serde_json::json!("abacus");
    json["logs"]["verdict"] = serde_json::json!("singed");
    let run: Run = serde_json::from_value(json).unwrap();
    assert_eq!(run.failure.unwrap().code, crate::FailureCode::Unknown);
    assert_eq!(run.flags.len(), 2);
    assert!(run.flags.contains(&crate::Flag::Unknown));
    assert_eq!(run.backend.unwrap().kind, BackendKind::Unknown);
    assert_eq!(run.logs.unwrap().verdict, LogVerdict::Unknown);
}

#[test]
fn a_run_of_few_words_is_read() {
    let run: Run = serde_json::from_str(
        r#"{"id": "019b76da-a800-7000-8000-000000000000", "project": "default", "status": "running",
            "spec": {"command": ["true"]}, "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:ada"}"#,
    )
    .unwrap();
    assert_eq!(run.backend, None);
    assert_eq!(run.spec, JobSpec::for_command(["true"]));
}

#[test]
fn state_and_record_carry_the_same() {
    let mut run = golden();
    let state = run.state(7);
    assert_eq!(state.round, 7);
    run.set_state(state);
    assert_eq!(run, golden());

    let fresh = RunState::accepted(run.created_at, run.spec.retry.clone());
    run.set_state(fresh.clone());
    assert_eq!(run.state(0), fresh);
}

#[test]
fn records_of_one_execution_differ_in_nothing_that_counts() {
    let run = golden();
    let told = |change: &dyn Fn(&mut Run)| {
        let mut other = golden();
        change(&mut other);
        run.difference(&other)
    };
    let micros = |text: &str| Some(text.parse().unwrap());
    assert_eq!(told(&|_| {}), None);
    assert_eq!(
        told(&|run| {
            run.project = "other".parse().unwrap();
            run.created_by = "token:else".to_owned();
            run.imported = Some(crate::Imported {
                at: run.created_at,
                by: "token:ci".to_owned(),
            });
            run.finished_at = micros("2026-01-01T00:01:00.000000999Z");
        }),
        None
    );
    assert_eq!(told(&|run| run.spec = JobSpec::for_command(["x"])), Some("spec"));
    assert_eq!(told(&|run| run.exit_code = Some(1)), Some("end"));
    assert_eq!(told(&|run| run.attempt = Attempt(2)), Some("end"));
    assert_eq!(told(&|run| run.failure = None), Some("end"));
    let later = micros("2026-01-01T00:01:00.000001Z");
    assert_eq!(told(&|run| run.finished_at = later), Some("end"));
    assert_eq!(told(&|run| run.logs = None), Some("log"));
}
