//! qwexcloud as a backend: [`Runner`] and [`Watcher`] over any [`JobApiClient`]. The server has the run's one state
//! machine; here its runs are told as observations, so that whoever holds a Watcher can wait on them too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_api::ErrorCode;
use qwex_api::log::LogLine;
use qwex_api::run::SubmitRequest;
use qwex_core::{
    Attempt, BackendInfo, BackendKind, Ending, EpisodeId, Fact, Failure, FailureCode, Flag, ObjectUid,
    Observation, Project, Run, RunId, RunStatus,
};
use qwex_runner::{
    CancelProgress, Handle, LineTime, LogChunk, LogItem, LogPosition, LogSource, ObjectRef, Runner,
    RunnerError, Sighting, SightingStream, Submitted, WatchPosition, Watcher, Work,
};

use super::client::{JobApiClient, LogQuery, LogsItem, RunFilter};
use super::error::ApiError;

/// Pause between two looks at the list of open runs.
const LOOK: Duration = Duration::from_secs(2);

/// The backend `remote`.
#[derive(Clone)]
pub struct Backend {
    client: Arc<dyn JobApiClient>,
    /// Whose runs are watched; `None`: those of the token's project.
    project: Option<Project>,
}

impl Backend {
    #[must_use]
    pub fn new(client: Arc<dyn JobApiClient>, project: Option<Project>) -> Self {
        Self { client, project }
    }

    async fn open_runs(&self) -> Result<Vec<RunId>, RunnerError> {
        let mut filter = RunFilter {
            project: self.project.clone(),
            statuses: vec![RunStatus::Pending, RunStatus::Running],
            ..RunFilter::default()
        };
        let mut ids = Vec::new();
        loop {
            let page = self.client.list_runs(&filter).await.map_err(refused)?;
            ids.extend(page.items.iter().map(|row| row.value.id));
            filter.page_token = page.next_page_token;
            if filter.page_token.is_none() {
                return Ok(ids);
            }
        }
    }

    async fn run(&self, id: RunId) -> Result<Run, RunnerError> {
        Ok(self.client.get_run(id, None).await.map_err(refused)?.value)
    }
}

#[async_trait]
impl Runner for Backend {
    /// Which kind it becomes is the server's choice.
    fn kind(&self) -> BackendKind {
        BackendKind::Unknown
    }

    async fn submit(&self, work: &Work) -> Result<Submitted, RunnerError> {
        let request = SubmitRequest {
            id: Some(work.run_id),
            name: work.name.clone(),
            project: Some(work.project.clone()),
            labels: work.labels.clone(),
            ..SubmitRequest::from_spec(work.spec.clone())
        };
        let submission = self.client.submit(&request).await.map_err(refused)?;
        let run = submission.run.value;
        Ok(Submitted {
            backend: handed_to(&run),
            adopted: !submission.is_new,
        })
    }

    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        let run = self.client.cancel(handle.run_id).await.map_err(refused)?.value;
        if run.status.is_terminal() {
            return Ok(CancelProgress::Stopped);
        }
        Ok(CancelProgress::Stopping {
            message: format!("the run is {}", run.status),
        })
    }

    /// The server releases objects itself once their result and logs are stored.
    async fn release(&self, _handle: &Handle) -> Result<(), RunnerError> {
        Ok(())
    }
}

#[async_trait]
impl Watcher for Backend {
    /// Looks at the open runs again and again; every round is a complete list, so no position is needed.
    async fn watch(&self, _from: Option<WatchPosition>) -> Result<SightingStream, RunnerError> {
        let backend = self.clone();
        let stream = try_stream! {
            let mut known: HashMap<RunId, Run> = HashMap::new();
            loop {
                let mut ids = backend.open_runs().await?;
                let open: Vec<RunId> = ids.clone();
                ids.extend(known.keys().filter(|id| !open.contains(id)).copied().collect::<Vec<_>>());
                let mut objects = Vec::new();
                for id in ids {
                    let run = backend.run(id).await?;
                    objects.push(ObjectRef { run_id: id, attempt: run.attempt, uid: uid_of(&run) });
                    if known.get(&id) != Some(&run) {
                        for observation in observations(&run) {
                            yield Sighting::Seen(observation);
                        }
                    }
                    if run.status.is_terminal() {
                        known.remove(&id);
                    } else {
                        known.insert(id, run);
                    }
                }
                yield Sighting::Listed(objects);
                yield Sighting::Alive;
                tokio::time::sleep(LOOK).await;
            }
        };
        Ok(stream.boxed())
    }

    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        Ok(observations(&self.run(handle.run_id).await?))
    }

    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        let streams = self
            .client
            .list_log_streams(handle.run_id)
            .await
            .map_err(refused)?;
        let streams = streams.items.into_iter().map(|stream| stream.value);
        Ok(streams
            .filter(|stream| stream.attempt == handle.attempt)
            .map(|stream| LogSource {
                run_id: handle.run_id,
                attempt: stream.attempt,
                episode: EpisodeId(stream.episode),
                locator: stream.stream.clone(),
                stream: stream.stream,
            })
            .collect())
    }

    async fn read_log(
        &self,
        source: &LogSource,
        from: LogPosition,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
        let query = LogQuery {
            cursor: from.mark,
            follow,
            attempt: Some(source.attempt),
            stream: Some(source.stream.clone()),
            ..LogQuery::default()
        };
        let mut lines = self
            .client
            .stream_log(source.run_id, &query)
            .await
            .map_err(refused)?;
        let mut offset = from.offset;
        let stream = try_stream! {
            while let Some(item) = lines.next().await {
                match item.map_err(refused)? {
                    LogsItem::Line(line) => yield log_item(line, &mut offset),
                    LogsItem::End(_) => { yield LogItem::End; return; }
                }
            }
        };
        Ok(stream.boxed())
    }
}

/// A line as raw bytes. Counts on.
fn log_item(line: LogLine, offset: &mut u64) -> LogItem {
    if let Some(message) = line.gap {
        return LogItem::Gap { message };
    }
    let bytes = super::lines::bytes_of(&line);
    *offset += bytes.len() as u64;
    LogItem::Chunk(LogChunk {
        bytes: bytes.into(),
        lines: vec![LineTime {
            at_byte: 0,
            time: line.at,
        }],
        position: LogPosition {
            offset: *offset,
            mark: Some(line.cursor),
        },
    })
}

/// To a client the run itself is the object it handed over.
fn uid_of(run: &Run) -> ObjectUid {
    let pinned = run.backend.as_ref().and_then(|backend| backend.uid.clone());
    pinned.unwrap_or_else(|| ObjectUid(run.id.to_string()))
}

fn handed_to(run: &Run) -> BackendInfo {
    let mut backend = run.backend.clone().unwrap_or_else(|| BackendInfo {
        kind: BackendKind::Unknown,
        cluster: None,
        namespace: None,
        object: run.id.object_name(run.attempt),
        uid: None,
    });
    backend.uid = Some(uid_of(run));
    backend
}

/// What the server's record says, as facts in the order in which they happened.
fn observations(run: &Run) -> Vec<Observation> {
    let mut facts: Vec<(Timestamp, Fact)> = Vec::new();
    if let Some(at) = run.dispatched_at {
        facts.push((
            at,
            Fact::Dispatched {
                backend: handed_to(run),
            },
        ));
    }
    if let Some(pending) = &run.pending {
        let (code, message) = (pending.code, pending.message.clone());
        facts.push((
            pending.since,
            Fact::Waiting {
                code,
                message,
                round: 0,
            },
        ));
    }
    if let Some(at) = run.started_at {
        facts.push((at, Fact::Running { round: 0 }));
    }
    let asked = run.flags.contains(&Flag::CancelRequested);
    if asked || run.status == RunStatus::Cancelled {
        let by = run.created_by.clone();
        facts.push((run.created_at, Fact::CancelRequested { by }));
    }
    if let Some(ending) = ending(run) {
        let at = run.finished_at.unwrap_or(run.created_at);
        facts.push((
            at,
            Fact::Ended {
                ending,
                started_at: run.started_at,
            },
        ));
    }
    let seen = |(at, fact)| observation(run.id, run.attempt, uid_of(run), at, fact);
    facts.into_iter().map(seen).collect()
}

fn observation(run_id: RunId, attempt: Attempt, uid: ObjectUid, at: Timestamp, fact: Fact) -> Observation {
    Observation {
        run_id,
        attempt,
        uid: Some(uid),
        at,
        fact,
    }
}

fn ending(run: &Run) -> Option<Ending> {
    match run.status {
        RunStatus::Pending | RunStatus::Running => None,
        RunStatus::Succeeded => Some(Ending::Succeeded {
            verified: run.exit_code.is_some(),
        }),
        RunStatus::Failed => {
            let unknown = || Failure::new(FailureCode::Unknown, "the server gives no reason");
            Some(Ending::Failed {
                failure: run.failure.clone().unwrap_or_else(unknown),
            })
        }
        RunStatus::Cancelled => Some(Ending::Stopped {
            message: "cancelled".to_owned(),
            exit_code: run.exit_code,
            signal: None,
        }),
    }
}

/// What an answer of the API means for the holder of a Runner.
fn refused(error: ApiError) -> RunnerError {
    let message = error.to_string();
    match error {
        ApiError::Problem { problem, retry_after } => match problem.code {
            ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::Forbidden => {
                RunnerError::Unauthorized { message }
            }
            ErrorCode::NotFound => RunnerError::NotFound { message },
            ErrorCode::RunIdTaken => RunnerError::NameConflict {
                object: problem.instance,
                message,
            },
            ErrorCode::RateLimited => RunnerError::Throttled { retry_after, message },
            _ if problem.retryable => RunnerError::Failed { message },
            _ => RunnerError::Rejected { message },
        },
        ApiError::Unreachable { .. } | ApiError::Cut { .. } => RunnerError::Unreachable { message },
        ApiError::Foreign { .. } | ApiError::Setup { .. } | ApiError::Untrusted { .. } => {
            RunnerError::Failed { message }
        }
        ApiError::BadAddress { .. } => RunnerError::Rejected { message },
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
