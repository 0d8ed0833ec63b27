//! Stops an attempt for good, and forgets it when told to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use qwex_runner::durable::{Dir, Durability};
use qwex_runner::{CancelProgress, Handle, Key, RunnerError};

use crate::backend::{Inner, LocalBackend, failed};
use crate::identity::{Life, ProcessId};
use crate::records::{
    self, CANCEL, CancelRecord, END, EndCause, EndRecord, RELEASED, SUPERVISOR, SupervisorRecord, WORK,
    WorkRecord,
};
use crate::snapshot::{self, Lost, Snapshot, Stage};
use crate::{submit, supervise, survivors};

/// Removing what was released long ago looks at every attempt.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

impl LocalBackend {
    /// [`qwex_runner::Runner::cancel`] without a runtime.
    pub fn cancel_sync(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        let key = Key::of(handle);
        if self.inner.snapshot(key)?.is_none() && handle.backend.uid.is_none() {
            // Never heard of by its UID: a submit of it may still be on its way.
            self.inner
                .forestall(key)
                .map_err(|error| failed("cancel", key, &error))?;
        }
        let Some(snapshot) = self.inner.snapshot(key)? else {
            return Ok(CancelProgress::Stopped);
        };
        if !handle.is_about(snapshot.uid().as_ref()) {
            return Ok(CancelProgress::Stopped);
        }
        self.inner.seen(&snapshot)?;
        let progress = self
            .inner
            .stop(key, &snapshot)
            .map_err(|error| failed("cancel", key, &error))?;
        self.inner.changed.notify_waiters();
        Ok(progress)
    }

    /// [`qwex_runner::Runner::release`] without a runtime.
    pub fn release_sync(&self, handle: &Handle) -> Result<(), RunnerError> {
        let key = Key::of(handle);
        let broken = |error: io::Error| failed("release", key, &error);
        self.inner.reap();
        let Some(snapshot) = self.inner.snapshot(key)? else {
            return Ok(());
        };
        if !handle.is_about(snapshot.uid().as_ref()) {
            return Ok(());
        }
        self.inner.seen(&snapshot)?;
        if !snapshot.is_silent() {
            return Err(RunnerError::Failed {
                message: format!(
                    "run {} has not ended; cancel it before it is released",
                    key.run_id
                ),
            });
        }
        if let Some(dir) = self
            .inner
            .config
            .layout
            .open(&self.inner.root, key)
            .map_err(broken)?
        {
            dir.write(RELEASED, b"", Durability::Process).map_err(broken)?;
        }
        match self.inner.config.retention {
            None => Ok(()),
            Some(Duration::ZERO) => self.inner.remove(key).map_err(broken),
            Some(retention) if self.inner.is_time_to_sweep() => self.inner.sweep(retention).map_err(broken),
            Some(_) => Ok(()),
        }
    }

    /// Tells every supervisor to end its run, as at a shutdown of the machine: for the owner of an
    /// embedded cluster who goes away for good. Waits at most `limit`; tells how many still run.
    pub fn stop_all_sync(&self, limit: Duration) -> Result<usize, RunnerError> {
        let deadline = Instant::now() + limit;
        let mut told = BTreeSet::new();
        loop {
            self.inner.reap();
            let left = self.inner.attended().map_err(|error| RunnerError::Failed {
                message: format!("cannot read {}: {error}", self.inner.config.root.display()),
            })?;
            for (key, supervisor) in &left {
                if told.insert(*key) {
                    supervisor
                        .signal(Signal::SIGTERM)
                        .map_err(|error| failed("stop", *key, &error))?;
                }
            }
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(left.len());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Inner {
    /// Takes the place of an attempt that is not there: a submit that arrives later finds one that was cancelled, and
    /// starts nothing.
    fn forestall(&self, key: Key) -> io::Result<()> {
        let layout = self.config.layout;
        let (parent, name) = layout.ensure_place(&self.root, key)?;
        let work = WorkRecord::forestalled(key, layout.log_place(key), self.config.output);
        // None: a submit was quicker.
        submit::in_place(&parent, &name, |dir| {
            records::write(dir, WORK, &work, Durability::Whole)?;
            ask(dir)?;
            write_unstarted(dir)
        })
        .map(drop)
    }

    fn stop(&self, key: Key, snapshot: &Snapshot) -> io::Result<CancelProgress> {
        let Some(dir) = self.config.layout.open(&self.root, key)? else {
            return Ok(CancelProgress::Stopped);
        };
        match &snapshot.stage {
            Stage::Ended(_) => Ok(CancelProgress::Stopped),
            Stage::Unattended => {
                ask(&dir)?;
                end_unattended(&dir)
            }
            // Refused before this is asked.
            Stage::Elsewhere => Ok(CancelProgress::Stopping {
                message: "it is on another machine".to_owned(),
            }),
            Stage::Attended => {
                ask(&dir)?;
                if let Some(supervisor) = &snapshot.supervisor {
                    supervisor.process.signal(Signal::SIGUSR1)?;
                }
                Ok(CancelProgress::Stopping {
                    message: "its supervisor was told to stop it".to_owned(),
                })
            }
            Stage::Lost(lost) => {
                ask(&dir)?;
                self.end_survivors(key, &dir, snapshot, lost)
            }
        }
    }

    /// Does what the supervisor would have done: TERM, and KILL after the grace.
    fn end_survivors(
        &self,
        key: Key,
        dir: &Dir,
        snapshot: &Snapshot,
        lost: &Lost,
    ) -> io::Result<CancelProgress> {
        if lost.survivors.is_empty() {
            return Ok(CancelProgress::Stopped);
        }
        let asked: Option<CancelRecord> = records::read_or_absent(dir, CANCEL)?;
        let waited = asked.map_or(Duration::ZERO, |asked| {
            Duration::try_from(Timestamp::now().duration_since(asked.asked_at)).unwrap_or_default()
        });
        let signal = if waited >= self.config.grace {
            Signal::SIGKILL
        } else {
            Signal::SIGTERM
        };
        let mark = snapshot::mark(key, snapshot.start.as_ref());
        let count = survivors::signal(&mark, signal);
        Ok(CancelProgress::Stopping {
            message: format!("its supervisor is gone; sent {signal} to the {count} processes it left"),
        })
    }

    /// Every attempt that runs, with its supervisor.
    fn attended(&self) -> io::Result<Vec<(Key, ProcessId)>> {
        let mut attended = Vec::new();
        for key in self.config.layout.scan(&self.root)? {
            let Some(dir) = self.config.layout.open(&self.root, key)? else {
                continue;
            };
            if supervise::has_end(&dir)? {
                continue;
            }
            let supervisor: Option<SupervisorRecord> = records::read(&dir, SUPERVISOR)?;
            let alive = supervisor.filter(|supervisor| supervisor.life() == Life::Alive);
            attended.extend(alive.map(|supervisor| (key, supervisor.process)));
        }
        Ok(attended)
    }

    fn is_time_to_sweep(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.is_none_or(|swept| swept.elapsed() >= BETWEEN_SWEEPS);
        if due {
            *swept = Some(Instant::now());
        }
        due
    }

    /// Removes released attempts whose time is over.
    fn sweep(&self, retention: Duration) -> io::Result<()> {
        for key in self.config.layout.scan(&self.root)? {
            let Some(dir) = self.config.layout.open(&self.root, key)? else {
                continue;
            };
            let Some(mark) = over_for_good(&dir)? else {
                continue;
            };
            let age = SystemTime::now()
                .duration_since(mark.metadata()?.modified()?)
                .unwrap_or_default();
            if age >= retention {
                self.remove(key)?;
            }
        }
        Ok(())
    }

    fn remove(&self, key: Key) -> io::Result<()> {
        let (parent, name) = self.config.layout.place(&self.root, key)?;
        parent.remove_tree(&name)
    }
}

/// The file whose age is that of an attempt which nobody needs any more: it was released, or never was one.
fn over_for_good(dir: &Dir) -> io::Result<Option<File>> {
    if let Ok(released) = dir.open_file(RELEASED, OFlag::O_RDONLY) {
        return Ok(Some(released));
    }
    let work: Option<WorkRecord> = records::read_or_absent(dir, WORK)?;
    Ok(work
        .filter(WorkRecord::is_forestalled)
        .and_then(|_| dir.open_file(END, OFlag::O_RDONLY).ok()))
}

/// Writes the wish down before anybody is told of it; the first one counts.
fn ask(dir: &Dir) -> io::Result<()> {
    if dir.has(CANCEL)? {
        return Ok(());
    }
    let record = CancelRecord {
        asked_at: Timestamp::now(),
    };
    records::write(dir, CANCEL, &record, Durability::Machine)
}

/// Ends an attempt that no supervisor has: whoever holds the lock is the only one who may start it.
fn end_unattended(dir: &Dir) -> io::Result<CancelProgress> {
    let Some(_lock) = supervise::take_lock(dir)? else {
        return Ok(CancelProgress::Stopping {
            message: "its supervisor is just starting".to_owned(),
        });
    };
    if records::read::<SupervisorRecord>(dir, SUPERVISOR)?.is_some() {
        return Ok(CancelProgress::Stopping {
            message: "its supervisor has just started".to_owned(),
        });
    }
    write_unstarted(dir)?;
    Ok(CancelProgress::Stopped)
}

/// The end of an attempt whose command never started.
fn write_unstarted(dir: &Dir) -> io::Result<()> {
    let end = EndRecord {
        cause: EndCause::Cancelled,
        exit_code: None,
        signal: None,
        core_dumped: false,
        message: "cancelled before its command started".to_owned(),
        start: None,
        ended_at: Timestamp::now(),
        max_rss_bytes: None,
        cpu_ms: None,
        leftovers: 0,
    };
    // The end first: a supervisor record without an end would read as a lost run.
    records::write(dir, END, &end, Durability::Machine)?;
    let own = SupervisorRecord::now(ProcessId::own()?, Vec::new());
    records::write(dir, SUPERVISOR, &own, Durability::Machine)
}
