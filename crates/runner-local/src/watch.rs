//! Watches all attempts below the root by looking at their directories: restart-safe, because nothing
//! is remembered that is not on disk.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use qwex_runner::supervised::{Look, Told};
use qwex_runner::{Key, ObjectRef, RunnerError, Sighting, SightingStream, WatchPosition};

use crate::backend::{Inner, LocalBackend};
use crate::identity::Life;
use crate::layout::Layout;
use crate::logs;
use crate::snapshot::{Snapshot, details};
use crate::supervise;

/// Between two looks while something is under way.
const QUICK: Duration = Duration::from_millis(20);
/// Between two looks when nothing happens.
const SLOW: Duration = Duration::from_millis(100);
/// Without news for this long, the watch says that it is alive.
const ALIVE: Duration = Duration::from_secs(10);
/// File systems write times in ticks: a directory that changed this recently is looked into again.
const TICK: Duration = Duration::from_millis(50);

pub fn stream(backend: LocalBackend) -> SightingStream {
    Box::pin(async_stream::stream! {
        let mut eye = Eye::default();
        let mut pause = QUICK;
        let mut told = Instant::now();
        loop {
            let woken = backend.inner.clone();
            let changed = woken.changed.notified();
            let (same, news) = match backend.blocking(move |this| Ok(eye.opened(&this.inner))).await {
                Ok(looked) => looked,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            eye = same;
            match news {
                Ok(news) if news.is_empty() => pause = (pause * 2).min(SLOW),
                Ok(news) => {
                    pause = QUICK;
                    told = Instant::now();
                    for sighting in news {
                        yield Ok(sighting);
                    }
                }
                Err(error) => {
                    yield Err(error);
                    return;
                }
            }
            if told.elapsed() >= ALIVE {
                told = Instant::now();
                yield Ok(Sighting::Alive);
            }
            tokio::select! {
                () = changed => pause = QUICK,
                () = tokio::time::sleep(pause) => {}
            }
        }
    })
}

fn blind(inner: &Inner, error: &io::Error) -> RunnerError {
    RunnerError::Unreachable {
        message: format!("cannot read {}: {error}", inner.config.root.display()),
    }
}

/// What one watch has told so far.
#[derive(Default)]
struct Eye {
    attempts: BTreeMap<Key, Seen>,
    /// Modification time of the root when it was last read.
    scanned: Option<SystemTime>,
    listed: bool,
}

/// One attempt, as it was seen last and as far as it was told.
#[derive(Default)]
struct Seen {
    told: Told,
    last: Option<Snapshot>,
}

impl Eye {
    /// [`Eye::look`] for a worker thread, which has to give the eye back.
    fn opened(mut self, inner: &Inner) -> (Self, Result<Vec<Sighting>, RunnerError>) {
        let news = self.look(inner).map_err(|error| blind(inner, &error));
        (self, news)
    }

    fn look(&mut self, inner: &Inner) -> io::Result<Vec<Sighting>> {
        inner.reap();
        self.scan(inner)?;
        let mut news = Vec::new();
        let mut absent = Vec::new();
        for (key, seen) in self.attempts.iter_mut().filter(|(_, seen)| !seen.told.over) {
            match seen.look(inner, *key) {
                Ok(Some(more)) => news.extend(more),
                Ok(None) => absent.push(*key),
                // One bad directory must not blind us to the others.
                Err(error) => tracing::warn!(run_id = %key.run_id, %error, "cannot read an attempt"),
            }
        }
        for key in absent {
            if let Some(uid) = self.attempts.remove(&key).and_then(|seen| seen.told.uid) {
                news.push(Sighting::Seen(key.gone(Some(uid), "its directory was removed")));
            }
        }
        if !self.listed {
            self.listed = true;
            news.push(Sighting::Listed(self.list()));
            news.push(Sighting::Position(WatchPosition("disk".to_owned())));
        }
        Ok(news)
    }

    /// Learns of new directories, and forgets ended attempts that were removed.
    fn scan(&mut self, inner: &Inner) -> io::Result<()> {
        let modified = std::fs::metadata(inner.root.path())?.modified()?;
        // With a directory per run, a new attempt does not touch the root.
        let settled =
            inner.config.layout == Layout::ByObject && modified.elapsed().is_ok_and(|age| age > TICK);
        if settled && self.scanned == Some(modified) {
            return Ok(());
        }
        let keys = inner.config.layout.scan(&inner.root)?;
        self.scanned = Some(modified);
        let present: std::collections::BTreeSet<Key> = keys.iter().copied().collect();
        self.attempts
            .retain(|key, seen| !seen.told.over || present.contains(key));
        for key in keys {
            self.attempts.entry(key).or_default();
        }
        Ok(())
    }

    fn list(&self) -> Vec<ObjectRef> {
        let listed = self.attempts.iter();
        listed.filter_map(|(key, seen)| seen.told.listed(*key)).collect()
    }
}

impl Seen {
    /// News of one attempt; `None` if it is not there any more.
    fn look(&mut self, inner: &Inner, key: Key) -> io::Result<Option<Vec<Sighting>>> {
        let Some(dir) = inner.config.layout.open(&inner.root, key)? else {
            return Ok(None);
        };
        if self.is_running_on() && !supervise::has_end(&dir)? {
            return Ok(Some(Vec::new()));
        }
        let Some(snapshot) = Snapshot::read(&dir, key, inner.config.shared)? else {
            return Ok(Some(Vec::new()));
        };
        let look = Look {
            observations: snapshot.observations(&inner.backend_info(key)),
            uid: snapshot.uid(),
            over: snapshot.is_over(),
            logs: logs::sources(&inner.config, &snapshot),
            details: snapshot.is_over().then(|| details(Some(&snapshot))),
        };
        let news = self.told.news(key, look);
        self.last = (!self.told.over).then_some(snapshot);
        Ok(Some(news))
    }

    /// Whether all was told and both the command's start and a living supervisor are known.
    fn is_running_on(&self) -> bool {
        let Some(last) = &self.last else {
            return false;
        };
        let attended = last
            .supervisor
            .as_ref()
            .is_some_and(|supervisor| supervisor.life() == Life::Alive);
        last.start.is_some() && attended
    }
}
