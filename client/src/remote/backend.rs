//! qwexcloud as a backend: [`Runner`] and [`Watcher`] over any [`JobApiClient`]. The server has the run's one state
//! machine; here its runs are told as observations, so that whoever holds a Watcher can wait on them too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use qwex_api::ErrorCode;
use qwex_api::log::LogLine;
use qwex_api::run::{RunRow, SubmitRequest};
use qwex_core::{
    Attempt, BackendInfo, BackendKind, Ending, EpisodeId, Fact, Failure, FailureCode, Flag, ObjectUid,
    Observation, Project, RunId, RunStatus,
};
use qwex_runner::{
    CancelProgress, Handle, LineTime, LogChunk, LogItem, LogPosition, LogSource, ObjectRef, Runner,
    RunnerError, Sighting, SightingStream, Submitted, WatchPosition, Watcher, Work,
};

use super::client::{JobApiClient, LogQuery, LogsItem, RunFilter};
use super::error::ApiError;
use super::rows::row_of;

/// Pause between two looks at the list of open runs.
const LOOK: Duration = Duration::from_secs(1);
/// A new watch tells of every open run, and of those that ended but were submitted this long ago at most: the history
/// of a server has no end.
const RECENT: SignedDuration = SignedDuration::from_hours(24);
const PAGE: u32 = 200;

/// The backend `remote`. To its caller the run itself is the object that was handed over, and one attempt: the server
/// tries again by itself.
#[derive(Clone)]
pub struct Backend {
    pub(super) client: Arc<dyn JobApiClient>,
    /// Whose runs are watched; `None`: those of the token's project.
    project: Option<Project>,
}

impl Backend {
    #[must_use]
    pub fn new(client: Arc<dyn JobApiClient>, project: Option<Project>) -> Self {
        Self { client, project }
    }

    async fn list(&self, mut filter: RunFilter) -> Result<Vec<RunRow>, RunnerError> {
        filter.project = self.project.clone();
        filter.page_size = Some(PAGE);
        let mut rows = Vec::new();
        loop {
            let page = self.client.list_runs(&filter).await.map_err(refused)?;
            rows.extend(page.items.into_iter().map(|row| row.value));
            filter.page_token = page.next_page_token;
            if filter.page_token.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn open_runs(&self) -> Result<Vec<RunRow>, RunnerError> {
        let statuses = vec![RunStatus::Pending, RunStatus::Running];
        self.list(RunFilter {
            statuses,
            ..RunFilter::default()
        })
        .await
    }

    /// What a new watch begins with.
    async fn recent_runs(&self) -> Result<Vec<RunRow>, RunnerError> {
        let created_after = Timestamp::now().checked_sub(RECENT).ok();
        let mut rows = self
            .list(RunFilter {
                created_after,
                ..RunFilter::default()
            })
            .await?;
        let known: HashSet<RunId> = rows.iter().map(|row| row.id).collect();
        let older = self.open_runs().await?.into_iter();
        rows.extend(older.filter(|row| !known.contains(&row.id)));
        Ok(rows)
    }

    /// The open runs, and those that were open at the last look.
    async fn next_look(&self, known: &HashMap<RunId, RunRow>) -> Result<Vec<RunRow>, RunnerError> {
        let mut rows = self.open_runs().await?;
        let open: HashSet<RunId> = rows.iter().map(|row| row.id).collect();
        for id in known.keys().filter(|id| !open.contains(id)) {
            let run = self.client.get_run(*id, None).await.map_err(refused)?;
            rows.push(row_of(&run.value));
        }
        Ok(rows)
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
        Ok(Submitted {
            backend: object_of(submission.run.value.id),
            adopted: !submission.is_new,
        })
    }

    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        let run = match self.client.cancel(handle.run_id).await.map_err(refused) {
            Ok(run) => run.value,
            // What was never submitted neither runs nor can start.
            Err(RunnerError::NotFound { .. }) => return Ok(CancelProgress::Stopped),
            Err(error) => return Err(error),
        };
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
            let mut known: HashMap<RunId, RunRow> = HashMap::new();
            let mut rows = backend.recent_runs().await?;
            loop {
                let mut objects = Vec::new();
                for row in rows {
                    objects.push(ObjectRef { run_id: row.id, attempt: Attempt::FIRST, uid: uid_of(row.id) });
                    if known.get(&row.id) != Some(&row) {
                        for observation in observations(&row) {
                            yield Sighting::Seen(observation);
                        }
                    }
                    if row.status.is_terminal() {
                        known.remove(&row.id);
                    } else {
                        known.insert(row.id, row);
                    }
                }
                yield Sighting::Listed(objects);
                yield Sighting::Alive;
                tokio::time::sleep(LOOK).await;
                rows = backend.next_look(&known).await?;
            }
        };
        Ok(stream.boxed())
    }

    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        let id = handle.run_id;
        match self.client.get_run(id, None).await.map_err(refused) {
            Ok(run) => Ok(observations(&row_of(&run.value))),
            Err(RunnerError::NotFound { message }) => {
                Ok(vec![observation(id, Timestamp::now(), Fact::Gone { message })])
            }
            Err(error) => Err(error),
        }
    }

    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        let streams = self
            .client
            .list_log_streams(handle.run_id)
            .await
            .map_err(refused)?;
        let streams = streams.items.into_iter().map(|stream| stream.value);
        Ok(streams
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
        let mut place = Place::read(from);
        let query = LogQuery {
            cursor: place.cursor.clone(),
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
        let stream = try_stream! {
            while let Some(item) = lines.next().await {
                match item.map_err(refused)? {
                    LogsItem::Line(line) => yield place.item(line),
                    LogsItem::End(_) => { yield LogItem::End; return; }
                }
            }
        };
        Ok(stream.boxed())
    }
}

/// Where a reader of a log is.
struct Place {
    offset: u64,
    cursor: Option<String>,
    /// The last line goes on.
    within_line: bool,
}

impl Place {
    /// The mark is the server's cursor behind `=`, or behind `+` within a line.
    fn read(from: LogPosition) -> Self {
        let mark = from.mark.as_deref().unwrap_or_default();
        let cursor = mark.strip_prefix(['=', '+']).map(str::to_owned);
        Self {
            offset: from.offset,
            within_line: mark.starts_with('+'),
            cursor,
        }
    }

    /// A line as raw bytes, with the position behind it.
    fn item(&mut self, line: LogLine) -> LogItem {
        if let Some(message) = line.gap {
            return LogItem::Gap { message };
        }
        let bytes = super::lines::bytes_of(&line);
        let begins = LineTime {
            at_byte: 0,
            time: line.at,
        };
        let lines = if self.within_line {
            Vec::new()
        } else {
            vec![begins]
        };
        self.offset += bytes.len() as u64;
        self.within_line = line.partial;
        let sign = if line.partial { '+' } else { '=' };
        LogItem::Chunk(LogChunk {
            bytes: bytes.into(),
            lines,
            position: LogPosition {
                offset: self.offset,
                mark: Some(format!("{sign}{}", line.cursor)),
            },
        })
    }
}

fn uid_of(id: RunId) -> ObjectUid {
    ObjectUid(id.to_string())
}

fn object_of(id: RunId) -> BackendInfo {
    BackendInfo {
        kind: BackendKind::Unknown,
        cluster: None,
        address: None,
        namespace: None,
        object: id.object_name(Attempt::FIRST),
        uid: Some(uid_of(id)),
    }
}

/// What the server's record says, as facts in the order in which they happened. Each try of the server is a round.
fn observations(row: &RunRow) -> Vec<Observation> {
    let round = u64::from(row.attempt.0.saturating_sub(1));
    let backend = object_of(row.id);
    let mut facts: Vec<(Timestamp, Fact)> = vec![(row.created_at, Fact::Dispatched { backend })];
    if let Some(pending) = &row.pending {
        let (code, message) = (pending.code, pending.message.clone());
        facts.push((pending.since, Fact::Waiting { code, message, round }));
    }
    if let Some(at) = row.started_at {
        facts.push((at, Fact::Running { round }));
    }
    if row.flags.contains(&Flag::CancelRequested) || row.status == RunStatus::Cancelled {
        let by = row.created_by.clone();
        facts.push((row.created_at, Fact::CancelRequested { by }));
    }
    if let Some(ending) = ending(row) {
        let (at, started_at) = (row.finished_at.unwrap_or(row.created_at), row.started_at);
        facts.push((at, Fact::Ended { ending, started_at }));
    }
    facts
        .into_iter()
        .map(|(at, fact)| observation(row.id, at, fact))
        .collect()
}

fn observation(run_id: RunId, at: Timestamp, fact: Fact) -> Observation {
    Observation {
        run_id,
        attempt: Attempt::FIRST,
        uid: Some(uid_of(run_id)),
        at,
        fact,
    }
}

fn ending(run: &RunRow) -> Option<Ending> {
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
pub(super) fn refused(error: ApiError) -> RunnerError {
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
