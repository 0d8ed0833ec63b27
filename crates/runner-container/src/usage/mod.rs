//! What containers use, measured while they run: an engine tells it of what runs and forgets it with the end. So the
//! last sample before the end counts for processor time and the greatest one for memory; nothing is told of a container
//! that ended before the first. Whoever submits or watches measures; nobody waits for it, and what cannot be measured is
//! not told.

mod cgroup;
mod engine;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use qwex_core::Usage;
use qwex_runner::{Key, RunnerError};

use crate::backend::Inner;
use crate::snapshot::{Phase, Snapshot};
use cgroup::Cgroup;

/// A sample is so much of the time that the container runs apart from the next: what is missing at the end is as small a part.
const PART: u32 = 20;
/// Pauses between two looks at files of this machine, and between two questions to an engine.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const QUESTIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// An engine that does not answer is left alone for a while.
const BLIND_PAUSE: Duration = Duration::from_secs(2);

/// Counters of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    cpu_nanos: u64,
    /// In use now, without files that may be forgotten at any time.
    memory_bytes: u64,
}

impl Sample {
    /// What counts of two: processor time only grows, and of memory the most is told.
    fn and(self, later: Self) -> Self {
        Self {
            cpu_nanos: self.cpu_nanos.max(later.cpu_nanos),
            memory_bytes: self.memory_bytes.max(later.memory_bytes),
        }
    }

    /// Counters of a container that does not run any more are zeros.
    fn told(self) -> Option<Self> {
        (self.cpu_nanos > 0 && self.memory_bytes > 0).then_some(self)
    }
}

/// What this process knows of one attempt.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    is_measured: bool,
    sample: Option<Sample>,
}

/// What this process measured.
#[derive(Debug, Default)]
pub struct Usages {
    seen: Mutex<HashMap<Key, Seen>>,
}

impl Usages {
    fn with<T>(&self, key: Key, act: impl FnOnce(&mut Seen) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        act(seen.entry(key).or_default())
    }

    /// False: somebody measures it already.
    fn begin(&self, key: Key) -> bool {
        self.with(key, |seen| !std::mem::replace(&mut seen.is_measured, true))
    }

    fn end(&self, key: Key) {
        self.with(key, |seen| seen.is_measured = false);
    }

    fn note(&self, key: Key, sample: Sample) {
        self.with(key, |seen| {
            seen.sample = Some(seen.sample.map_or(sample, |before| before.and(sample)));
        });
    }

    /// What was used, as far as it was measured.
    pub fn of(&self, key: Key) -> Option<Usage> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = seen.get(&key)?.sample?;
        Some(Usage {
            cpu_ms: Some(sample.cpu_nanos.div_ceil(1_000_000)),
            max_memory_bytes: Some(sample.memory_bytes),
            sampled: true,
        })
    }

    pub fn forget(&self, key: Key) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(&key);
    }
}

/// Measures a container that was just started, or is found running, until its end. Once for each attempt.
pub fn measure(inner: &Arc<Inner>, key: Key) {
    if !inner.usages.begin(key) {
        return;
    }
    let weak = Arc::downgrade(inner);
    tokio::spawn(async move {
        follow(&weak, key).await;
        if let Some(inner) = weak.upgrade() {
            inner.usages.end(key);
        }
    });
}

/// Where the counters of a container are read.
enum Source {
    Files(Cgroup),
    Engine,
}

async fn follow(weak: &Weak<Inner>, key: Key) {
    let begun = Instant::now();
    let mut source: Option<(String, Source)> = None;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let sample = match &source {
            Some((_, Source::Files(cgroup))) => cgroup.read(),
            Some((id, Source::Engine)) => engine::ask(&inner, id).await,
            None => None,
        };
        let pause = match (sample.and_then(Sample::told), &source) {
            (Some(sample), Some((_, source))) => {
                inner.usages.note(key, sample);
                pause(source, begun.elapsed())
            }
            // Nothing is read: it has ended, or is looked for (again).
            (Some(_) | None, _) => match find(&inner, key).await {
                Ok(Some(found)) => {
                    let is_new = source.is_none();
                    let pause = pause(&found.1, begun.elapsed());
                    source = Some(found);
                    if is_new { Duration::ZERO } else { pause }
                }
                Ok(None) => return,
                Err(_) => BLIND_PAUSE,
            },
        };
        drop(inner);
        tokio::time::sleep(pause).await;
    }
}

fn pause(source: &Source, ran: Duration) -> Duration {
    let (shortest, longest) = match source {
        Source::Files(_) => LOOKS,
        Source::Engine => QUESTIONS,
    };
    (ran / PART).clamp(shortest, longest)
}

/// The running container of an attempt; `None` once it does not run any more.
async fn find(inner: &Arc<Inner>, key: Key) -> Result<Option<(String, Source)>, RunnerError> {
    let found = inner.inspect(&key.object()).await?;
    let running = found.filter(|found| is_running(found) && found.key() == Some(key));
    Ok(running.map(|container| {
        let local = container.pid.filter(|_| inner.link.is_local());
        let files = local.and_then(|pid| Cgroup::of(pid, &container.id));
        let source = files.map_or(Source::Engine, Source::Files);
        (container.id, source)
    }))
}

pub fn is_running(container: &Snapshot) -> bool {
    match container.phase {
        Phase::Running | Phase::Paused => true,
        Phase::Created | Phase::Ended | Phase::Abandoned | Phase::Removing => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwex_core::{Attempt, RunId};

    #[test]
    fn the_last_time_and_the_most_memory_are_told() {
        let usages = Usages::default();
        let key = Key {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
        };
        assert!(usages.begin(key) && !usages.begin(key), "measured once");
        assert_eq!(usages.of(key), None);
        for (cpu_nanos, memory_bytes) in [(1, 10), (2_000_001, 30), (3_000_001, 20)] {
            usages.note(
                key,
                Sample {
                    cpu_nanos,
                    memory_bytes,
                },
            );
        }
        let told = usages.of(key).unwrap();
        assert_eq!((told.cpu_ms, told.max_memory_bytes), (Some(4), Some(30)));
        usages.end(key);
        assert!(usages.begin(key));
        usages.forget(key);
        assert_eq!(usages.of(key), None);
    }

    #[test]
    fn looks_get_rarer_the_longer_it_runs() {
        let at = |seconds| pause(&Source::Engine, Duration::from_secs(seconds));
        assert_eq!(at(0), Duration::from_secs(1));
        assert_eq!(at(40), Duration::from_secs(2));
        assert_eq!(at(4_000), Duration::from_secs(5));
    }

    #[test]
    fn zeros_are_no_sample() {
        let sample = |cpu_nanos, memory_bytes| Sample {
            cpu_nanos,
            memory_bytes,
        };
        assert_eq!(sample(0, 5).told(), None);
        assert_eq!(sample(5, 0).told(), None);
        assert_eq!(sample(5, 5).told(), Some(sample(5, 5)));
    }
}
