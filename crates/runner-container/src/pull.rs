//! The image first, then the container: what happens behind a submit that could not find its image. A task of the
//! submitting process; if that is killed, the record stays and the next submit of the attempt goes on from there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt;
use qwex_runner::{Key, RunnerError, Work};

use crate::backend::Inner;
use crate::create::Brought;
use crate::errors::{self, PullTrouble};
use crate::image::Reference;
use crate::record::{EndCause, Locked, Record};
use crate::registry;

/// Tries of a pull whose failure may pass.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between two tries while the engine does not answer, which ends no pull.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// After this long no further try is begun: podman tries again itself, for a minute where a registry asks it to slow down.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a pull looks whether the run was cancelled, by whatever process.
const LOOK: Duration = Duration::from_millis(250);
const LOCK_PAUSE: Duration = Duration::from_millis(30);

/// How a pull went.
enum Pulled {
    Here,
    /// Nobody wants it any more.
    Unwanted,
    Failed(String),
}

/// The attempts that this process brings up behind a pull; true: it was asked for again meanwhile.
#[derive(Debug, Default)]
pub struct Pulls {
    asked_again: Mutex<BTreeMap<Key, bool>>,
}

impl Pulls {
    /// False: a task is at it, and will look once more before it ends.
    fn begin(&self, key: Key) -> bool {
        let mut tasks = self.asked_again.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tasks.get_mut(&key).map(|asked_again| *asked_again = true);
        known.is_none() && tasks.insert(key, false).is_none()
    }

    fn is_done(&self, key: Key) -> bool {
        let mut tasks = self.asked_again.lock().unwrap_or_else(PoisonError::into_inner);
        let asked_again = tasks.insert(key, false).unwrap_or(false);
        if !asked_again {
            tasks.remove(&key);
        }
        !asked_again
    }
}

/// Pulls and starts in the background; one task for each attempt.
pub fn spawn(inner: &Arc<Inner>, work: Work) {
    let key = Key::of_work(&work);
    if !inner.pulls.begin(key) {
        return;
    }
    let inner = inner.clone();
    tokio::spawn(async move {
        loop {
            if let Err(error) = to_the_end(&inner, key, &work).await {
                // The record stays without an end: asking again goes on.
                tracing::warn!(run_id = %key.run_id, %error, "a run that waits for its image cannot be brought up now");
            }
            if inner.pulls.is_done(key) {
                break;
            }
        }
        inner.forget_progress(key);
        inner.tell_changed(key);
    });
}

/// For as long as somebody wants it: an engine that goes away in the middle comes back, and nobody else goes on.
async fn to_the_end(inner: &Arc<Inner>, key: Key, work: &Work) -> Result<(), RunnerError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match go_on(inner, key, work).await {
            Err(error) if error.is_retryable() => error,
            done => return done,
        };
        inner.tell_progress(key, format!("{error}; trying again in {pause:?}"));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            over = until_not(inner, key, is_open) => return over,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn go_on(inner: &Arc<Inner>, key: Key, work: &Work) -> Result<(), RunnerError> {
    let Some(_mine) = right_to_pull(inner, key).await? else {
        return Ok(());
    };
    let image = work.spec.image.clone().unwrap_or_default();
    let pulled = pull_patiently(inner, key, &image).await?;
    let lock = inner.records.lock(key).await?;
    let Some(mut record) = inner.records.read(key)?.filter(is_open) else {
        return Ok(());
    };
    match pulled {
        Pulled::Unwanted if record.container.is_none() => return Ok(()),
        Pulled::Failed(message) if record.container.is_none() => record.end(EndCause::Image, message),
        // Who made the container may have been killed before its start: then it is ours to start.
        Pulled::Here | Pulled::Unwanted | Pulled::Failed(_) => {
            match inner.bring_up(work, &mut record, &lock).await {
                Ok(Brought::Up) => return Ok(()),
                Ok(Brought::NoImage) => {
                    let message = format!(
                        "{image} was pulled, and is not there: somebody removed it, or it is for another machine"
                    );
                    record.end(EndCause::Image, message);
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => record.end(EndCause::Rejected, error.to_string()),
            }
        }
    }
    inner.records.write(key, &record, &lock)
}

/// Waits for the right to pull. A reader holds it for a moment to see whether somebody does; another process until it has
/// pulled and started, and if it is killed in that, it is ours to go on. `None`: the run ended meanwhile.
async fn right_to_pull(inner: &Arc<Inner>, key: Key) -> Result<Option<Locked>, RunnerError> {
    let mut pause = LOCK_PAUSE;
    loop {
        if let Some(mine) = inner.records.try_lock_pull(key)? {
            return Ok(Some(mine));
        }
        if !inner.records.read(key)?.as_ref().is_some_and(is_open) {
            return Ok(None);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK);
    }
}

/// Whether its command may still have to be started.
fn is_open(record: &Record) -> bool {
    record.end.is_none() && record.stop.is_none()
}

/// Whether its image is still needed.
fn is_wanted(record: &Record) -> bool {
    record.end.is_none() && record.container.is_none()
}

/// Pulls; what may pass is tried again.
async fn pull_patiently(inner: &Arc<Inner>, key: Key, image: &str) -> Result<Pulled, RunnerError> {
    let mut pause = FIRST_PAUSE;
    let begun = Instant::now();
    for attempt in 1.. {
        inner.tell_progress(key, format!("pulling {image}"));
        let trouble = tokio::select! {
            done = pull(inner, key, image) => match done? {
                None => return Ok(Pulled::Here),
                Some(trouble) => trouble,
            },
            unwanted = until_not(inner, key, is_wanted) => {
                unwanted?;
                return Ok(Pulled::Unwanted);
            }
        };
        let reference = Reference::of(image);
        let class = PullTrouble::of(&trouble);
        let told = format!(
            "cannot pull {image}: {}: {trouble}",
            class.advice(reference.registry())
        );
        if attempt >= TRIES || begun.elapsed() > PATIENCE || !class.may_pass() {
            return Ok(Pulled::Failed(told));
        }
        inner.tell_progress(key, format!("{told}; trying again in {pause:?}"));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            unwanted = until_not(inner, key, is_wanted) => {
                unwanted?;
                return Ok(Pulled::Unwanted);
            }
        }
        pause *= 2;
    }
    unreachable!("the loop returns at its last try")
}

/// Returns once that holds no more, by whomever. Dropping a pull makes the engine give it up.
async fn until_not(inner: &Arc<Inner>, key: Key, holds: fn(&Record) -> bool) -> Result<(), RunnerError> {
    loop {
        if !inner.records.read(key)?.as_ref().is_some_and(holds) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One try; the engine's words if it failed.
async fn pull(inner: &Arc<Inner>, key: Key, image: &str) -> Result<Option<String>, RunnerError> {
    let reference = Reference::of(image);
    let logins = inner.around.logins(inner.config.engine);
    let credentials = registry::credentials(logins, &reference).await;
    let options = CreateImageOptions {
        from_image: Some(reference.name.clone()),
        tag: Some(reference.tag.clone()),
        ..CreateImageOptions::default()
    };
    let client = inner.link.client().await?;
    let mut stream = client.docker.create_image(Some(options), None, credentials);
    let mut progress = Progress::default();
    while let Some(step) = stream.next().await {
        match step {
            Ok(step) => {
                if progress.take(step) {
                    inner.tell_progress(key, format!("pulling {image}{progress}"));
                }
            }
            Err(error @ (Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. })) => {
                return Ok(Some(errors::message(&error)));
            }
            Err(error) => return Err(errors::runner_error(&error)),
        }
    }
    Ok(None)
}

/// Bytes of the layers that are under way.
#[derive(Debug, Default)]
struct Progress {
    layers: HashMap<String, (i64, i64)>,
    told: i64,
}

impl Progress {
    /// Whether there is news worth telling.
    fn take(&mut self, step: CreateImageInfo) -> bool {
        let (Some(id), Some(detail)) = (step.id, step.progress_detail) else {
            return false;
        };
        let downloading = step.status.as_deref() == Some("Downloading");
        if let (true, Some(current), Some(total)) = (downloading, detail.current, detail.total) {
            self.layers.insert(id, (current, total));
        }
        let (done, total) = self.sums();
        let news = total > 0 && (done - self.told) * 20 >= total;
        if news {
            self.told = done;
        }
        news
    }

    fn sums(&self) -> (i64, i64) {
        self.layers.values().fold((0, 0), |(done, total), (layer, size)| {
            (done + layer, total + size)
        })
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MEGA: i64 = 1_000_000;
        let (done, total) = self.sums();
        let layers = match self.layers.len() {
            1 => "1 layer".to_owned(),
            count => format!("{count} layers"),
        };
        write!(f, ": {} of {} MB in {layers}", done / MEGA, total / MEGA)
    }
}

#[cfg(test)]
mod tests {
    use qwex_core::{Attempt, RunId};

    use super::*;

    #[test]
    fn an_attempt_has_one_task_which_looks_again_if_it_is_asked() {
        let pulls = Pulls::default();
        let key = || Key {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
        };
        let (one, other) = (key(), key());
        assert!(pulls.begin(one) && pulls.begin(other));
        assert!(!pulls.begin(one) && !pulls.begin(one));
        assert!(!pulls.is_done(one), "it was asked for again");
        assert!(pulls.is_done(one) && pulls.is_done(other));
        assert!(pulls.begin(one));
    }
}
