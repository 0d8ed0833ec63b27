//! `logs --download`: every byte of a log in a file, checked against the hash that the server sealed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use qwex_core::{LogSummary, LogVerdict, RunId};
use sha2::{Digest, Sha256};

use super::Done;
use super::session::Session;
use crate::error::{CliError, Exit, MEND_DIRECTORY};
use crate::output::print;
use crate::remote::{JobApiClient, LogQuery};

pub async fn download(
    session: &Session,
    client: &dyn JobApiClient,
    id: RunId,
    query: &LogQuery,
    path: &Path,
) -> Done {
    let path = if path.is_dir() {
        path.join(format!("{id}.log"))
    } else {
        path.to_owned()
    };
    let sealed = client.get_run(id, None).await?.value.logs;
    // A file of the final name is a whole one.
    let part = PathBuf::from(format!("{}.part", path.display()));
    let failed = |error: std::io::Error| {
        CliError::new(Exit::Failure, format!("{} cannot be written", path.display()))
            .why(error.to_string())
            .fix(MEND_DIRECTORY)
            .code("output")
    };
    let mut file = File::create(&part).map_err(failed)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let mut chunks = client.read_log(id, query).await?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        hash.update(&chunk);
        bytes += chunk.len() as u64;
        file.write_all(&chunk).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    let got = Got {
        bytes,
        sha256: hex(&hash.finalize()),
    };
    let is_whole = *query == LogQuery::default();
    let verdict = match (&sealed, is_whole) {
        (Some(sealed), true) => judge(&got, sealed, &part)?,
        (None, true) => "not sealed yet, so not checked".to_owned(),
        (_, false) => "a part of the log, so not checked".to_owned(),
    };
    fs::rename(&part, &path).map_err(failed)?;
    session
        .progress
        .stage("downloaded", &format!("{bytes} bytes, {verdict}"));
    print(&format!("{}\n", path.display()))?;
    Ok(0)
}

struct Got {
    bytes: u64,
    sha256: String,
}

/// What the hash says. A file with other bytes than the sealed ones keeps its `.part` name.
fn judge(got: &Got, sealed: &LogSummary, part: &Path) -> Result<String, CliError> {
    if got.bytes != sealed.bytes || got.sha256 != sealed.sha256 {
        return Err(
            CliError::new(Exit::Failure, "the downloaded log is not the stored one")
                .why(format!(
                    "{} bytes with SHA-256 {} came, {} bytes with {} are sealed",
                    got.bytes, got.sha256, sealed.bytes, sealed.sha256
                ))
                .fix(format!("try again; what came is in {}", part.display()))
                .code("log_mismatch"),
        );
    }
    Ok(match sealed.verdict {
        LogVerdict::Complete => format!("complete, SHA-256 {}", got.sha256),
        LogVerdict::Gap => "as stored, but with a gap: see `qwexctl describe`".to_owned(),
        LogVerdict::Truncated => "as stored, but cut in the middle at the quota".to_owned(),
        LogVerdict::Unknown => "as stored".to_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
