//! One run through everything: accepted, dispatched to a real cluster by a user of least privilege, watched, archived.

use anyhow::Result;
use qwex_core::{LogVerdict, RunStatus};
use qwex_testbed::require;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Bed, LIMIT, failure, shell};

/// Every byte there is, in order, then a line without its newline.
const EVERY_BYTE: &str =
    r"i=0; while [ $i -lt 256 ]; do printf '\'$(printf %03o $i); i=$((i+1)); done; printf 'no newline'";

#[tokio::test]
async fn a_run_on_a_real_cluster_leaves_its_end_and_every_byte_of_its_log_for_ever() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let mut body = shell(&format!("{EVERY_BYTE}; exit 3"));
    body["name"] = json!("end-to-end");
    let run = api.submit(&body).await?;
    assert_eq!(run.status, RunStatus::Pending);

    let run = api.until_sealed(run.id, LIMIT).await?;
    assert_eq!(
        (run.status, run.exit_code),
        (RunStatus::Failed, Some(3)),
        "{run:#?}"
    );
    assert_eq!(failure(&run), "exit_code");
    assert!(
        run.dispatched_at.is_some() && run.finished_at >= run.started_at,
        "{run:#?}"
    );
    let backend = run.backend.clone().unwrap();
    assert_eq!(backend.namespace.as_deref(), Some(bed.namespace.as_str()));

    let mut wanted: Vec<u8> = (0..=255).collect();
    wanted.extend(b"no newline");
    assert_eq!(api.log(run.id).await?, wanted);
    let logs = run.logs.clone().unwrap();
    assert_eq!(
        (logs.verdict, logs.bytes),
        (LogVerdict::Complete, wanted.len() as u64)
    );
    assert_eq!(logs.sha256, hex::encode(Sha256::digest(&wanted)));
    bed.settle().await?;

    // The evidence outlives its objects, each of them and their namespace.
    bed.delete_job(run.id).await?;
    assert_eq!(api.log(run.id).await?, wanted);
    bed.delete_namespace().await?;
    assert_eq!(api.log(run.id).await?, wanted);
    let later = api.run(run.id).await?;
    assert_eq!(
        (later.status, later.exit_code, later.logs),
        (run.status, run.exit_code, run.logs)
    );
    bed.settle().await
}
