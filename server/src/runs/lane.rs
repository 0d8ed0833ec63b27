//! The submit lane: a self-clocking group commit. Handlers hand rows over; whatever waits when the last
//! commit ends goes into the next one.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use qwex_core::{Run, RunId, RunState};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot, watch};

use super::{RunsError, Submission};
use crate::db::submit::{self, NewRun, SubmitKey};
use crate::db::{DbResult, run};
use crate::hints::Hints;

/// Most runs that one transaction records.
const BATCH: usize = 500;
/// Submits that may wait before senders are held back.
const QUEUE: usize = 8_192;

type Answer = Result<Submission, RunsError>;

struct Entry {
    new: NewRun,
    key: Option<SubmitKey>,
    done: oneshot::Sender<Answer>,
}

/// What a batch decided on one entry, before the commit.
enum Verdict {
    Created(Timestamp),
    /// The same run is there already, perhaps under another id (by key).
    Same {
        id: RunId,
        replayed: bool,
    },
    Refused(RunsError),
}

/// Handle of the lane. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SubmitLane {
    entries: mpsc::Sender<Entry>,
}

impl SubmitLane {
    pub fn start(pool: PgPool, hints: Hints) -> Self {
        let (entries, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(serve(pool, hints, inbox));
        Self { entries }
    }

    /// Records a run, durably when this returns. Once handed over it is recorded or refused as a whole, also
    /// if the asker goes away.
    pub async fn submit(&self, new: NewRun, key: Option<SubmitKey>) -> Answer {
        let (done, answer) = oneshot::channel();
        self.entries
            .send(Entry { new, key, done })
            .await
            .map_err(|_| RunsError::Stopping)?;
        answer.await.map_err(|_| RunsError::Stopping)?
    }
}

async fn serve(pool: PgPool, hints: Hints, mut inbox: mpsc::Receiver<Entry>) {
    let mut entries = Vec::with_capacity(BATCH);
    let recorded = tell_behind(hints);
    while inbox.recv_many(&mut entries, BATCH).await > 0 {
        metrics::histogram!("qwex_submit_batch_runs").record(entries.len() as f64);
        let began = Instant::now();
        let batch = std::mem::take(&mut entries);
        write(&pool, batch).await;
        metrics::histogram!("qwex_submit_commit_seconds").record(began.elapsed().as_secs_f64());
        metrics::gauge!("qwex_submit_queue").set(inbox.len() as f64);
        recorded.send_replace(());
    }
}

/// Tells of batches beside the lane: a NOTIFY is a commit of its own, and one for many batches serves as well.
fn tell_behind(hints: Hints) -> watch::Sender<()> {
    let (recorded, mut news) = watch::channel(());
    tokio::spawn(async move {
        while news.changed().await.is_ok() {
            hints.tell(&[], true).await;
        }
    });
    recorded
}

async fn write(pool: &PgPool, entries: Vec<Entry>) {
    match commit(pool, &entries).await {
        Ok(verdicts) => {
            for (entry, verdict) in entries.into_iter().zip(verdicts) {
                let answer = answer(pool, &entry.new, verdict).await;
                // The asker may have gone; the run stands all the same.
                let _ = entry.done.send(answer);
            }
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                runs = entries.len(),
                "a batch of submits failed"
            );
            for entry in entries {
                let alone = commit(pool, std::slice::from_ref(&entry)).await;
                let answer = match alone {
                    Ok(verdicts) => match verdicts.into_iter().next() {
                        Some(verdict) => answer(pool, &entry.new, verdict).await,
                        None => Err(RunsError::Stopping),
                    },
                    Err(error) => Err(error.into()),
                };
                let _ = entry.done.send(answer);
            }
        }
    }
}

async fn commit(pool: &PgPool, entries: &[Entry]) -> DbResult<Vec<Verdict>> {
    let mut tx = pool.begin().await?;
    let verdicts = claim(&mut tx, entries).await?;
    let open: Vec<&NewRun> = first_of_each(entries, &verdicts);
    let mut created = submit::insert_runs(&mut tx, &open).await?;
    let mut settled = Vec::with_capacity(entries.len());
    for (entry, verdict) in entries.iter().zip(verdicts) {
        settled.push(match (verdict, created.remove(&entry.new.id)) {
            (Some(verdict), _) => verdict,
            (None, Some(at)) => Verdict::Created(at),
            (None, None) => known(&mut tx, entry).await?,
        });
    }
    tx.commit().await?;
    Ok(settled)
}

/// Claims the keys of a batch; `None` for each run that is to be recorded.
async fn claim(tx: &mut PgConnection, entries: &[Entry]) -> DbResult<Vec<Option<Verdict>>> {
    let mut verdicts: Vec<Option<Verdict>> = entries.iter().map(|_| None).collect();
    let keyed = || {
        entries
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| Some((at, entry.key.as_ref()?, entry.new.id)))
    };
    let claims: Vec<(&SubmitKey, RunId)> = keyed().map(|(_, key, id)| (key, id)).collect();
    if claims.is_empty() {
        return Ok(verdicts);
    }
    for ((at, key, _), claimed) in keyed().zip(submit::claim_keys(tx, &claims).await?) {
        verdicts[at] = match claimed {
            claimed if claimed.request_hash != key.request_hash => {
                Some(Verdict::Refused(RunsError::KeyMismatch))
            }
            claimed if claimed.new => None,
            claimed => Some(Verdict::Same {
                id: run::read_id(claimed.run_id)?,
                replayed: true,
            }),
        };
    }
    Ok(verdicts)
}

/// The runs to insert: the first entry of each id that no key has settled.
fn first_of_each<'a>(entries: &'a [Entry], verdicts: &[Option<Verdict>]) -> Vec<&'a NewRun> {
    let mut open: HashMap<RunId, &NewRun> = HashMap::with_capacity(entries.len());
    for (entry, verdict) in entries.iter().zip(verdicts) {
        if verdict.is_none() {
            open.entry(entry.new.id).or_insert(&entry.new);
        }
    }
    open.into_values().collect()
}

/// The id exists: the same run is a repeat, another one is refused.
async fn known(tx: &mut PgConnection, entry: &Entry) -> DbResult<Verdict> {
    let known = run::find_known(tx, entry.new.id).await?;
    let same = known
        .is_some_and(|known| known.project == entry.new.project && known.spec_hash == entry.new.spec_hash);
    if same {
        return Ok(Verdict::Same {
            id: entry.new.id,
            replayed: false,
        });
    }
    if let Some(key) = &entry.key {
        submit::release_key(tx, key).await?;
    }
    Ok(Verdict::Refused(RunsError::IdTaken(entry.new.id)))
}

async fn answer(pool: &PgPool, new: &NewRun, verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Created(at) => Ok(Submission {
            run: fresh(new, at),
            created: true,
            replayed: false,
        }),
        Verdict::Same { id, replayed } => {
            let found = run::find_run(pool, Some(new.project.as_str()), id).await?;
            let run = found.ok_or(RunsError::NotFound(id))?.run;
            Ok(Submission {
                run,
                created: false,
                replayed,
            })
        }
        Verdict::Refused(error) => Err(error),
    }
}

/// The run as it was just recorded.
fn fresh(new: &NewRun, created_at: Timestamp) -> Run {
    let state = RunState::accepted(created_at, new.spec.retry.clone());
    Run {
        id: new.id,
        name: new.name.clone(),
        project: new.project.clone(),
        labels: new.labels.clone(),
        status: state.status,
        pending: state.pending,
        failure: None,
        spec: new.spec.clone(),
        backend: None,
        attempt: state.attempt,
        exit_code: None,
        flags: state.flags,
        logs: None,
        created_at,
        dispatched_at: None,
        started_at: None,
        finished_at: None,
        created_by: new.created_by.clone(),
        provenance: None,
        usage: None,
        imported: None,
    }
}
