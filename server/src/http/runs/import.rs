//! Bringing a run that ended elsewhere: its record, then its log as a stream.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use qwex_api::record::RunRecord;
use qwex_api::{ErrorCode, Problem};
use qwex_core::{Run, RunId};

use super::super::App;
use super::super::access::Caller;
use super::super::body;
use super::super::error::{HttpError, HttpResult};
use super::super::params::Path;
use super::super::upload::Upload;
use super::submit::submitted;
use crate::auth::Principal;
use crate::logs::ImportLogError;
use crate::runs::{Arrival, RunsError, Submission};

/// Brings a run that ended elsewhere, as it was.
///
/// The body is one line of JSON, the record, and behind its newline the bytes of the log, stream after stream; what
/// `describe -o json` prints is such a record. All of it is recorded in one step at the end: a transfer that is cut has
/// brought nothing and is sent again. The run is marked `imported`; no cluster gets it, and no endpoint is told of it. The
/// same once more changes nothing (200); a run of that id with another spec, end or log is refused (409).
#[utoipa::path(put, path = "/v1/runs/{id}/import", tag = "runs", security(("token" = ["submitter"])),
    request_body(content = RunRecord, content_type = "application/vnd.qwex.record", description = "The record as one line of JSON, then a newline and the bytes of the log"),
    params(("id" = RunId, Path, description = "UUIDv7 of the run, the same as in the record")),
    responses(
        (status = 201, description = "recorded", body = Run, headers(("Location" = String, description = "The run"))),
        (status = 200, description = "the same run was there", body = Run),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn import(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    mut upload: Upload,
) -> HttpResult<Response> {
    let received = receive(&app, &who, id, &mut upload).await;
    // An answer to somebody who is still sending may get lost.
    upload.pass_over().await;
    received.map(submitted)
}

async fn receive(app: &App, who: &Principal, id: RunId, upload: &mut Upload) -> HttpResult<Submission> {
    let record: RunRecord = body::parse(&upload.line().await?)?;
    let arriving = match app.runs.receive(who, id, record).await? {
        Arrival::New(arriving) => *arriving,
        Arrival::Known(run) => {
            return Ok(Submission {
                run: *run,
                created: false,
                replayed: false,
            });
        }
    };
    let log = app
        .logs
        .take_in(
            arriving.id(),
            arriving.logs(),
            arriving.log_streams(),
            arriving.line_time(),
            upload.rest(),
        )
        .await
        .map_err(refused)?;
    Ok(app.runs.keep(arriving, log).await?)
}

fn refused(error: ImportLogError<HttpError>) -> HttpError {
    match error {
        ImportLogError::Body(error) => error,
        ImportLogError::Short { .. } | ImportLogError::Long { .. } => {
            HttpError::new(ErrorCode::InvalidBody, error.to_string())
                .with_hint("send the record again with its whole log; nothing was recorded")
        }
        ImportLogError::OtherBytes { .. } => {
            HttpError::field("/run/logs/sha256", "mismatch", error.to_string())
                .with_hint("the log was changed after it was summed up, or on its way; nothing was recorded")
        }
        ImportLogError::Store(cause) => HttpError::new(
            ErrorCode::LogUnavailable,
            "the log archive does not take this log now; nothing was recorded",
        )
        .with_hint("`/readyz` tells whether the archive works; send the record again once it does")
        .with_retry_after(5)
        .with_cause(cause),
        ImportLogError::Database(cause) if cause.is_passing() => HttpError::unavailable(cause),
        ImportLogError::Database(cause) => HttpError::internal(cause),
        ImportLogError::GivenUp => RunsError::GivenUp.into(),
    }
}
