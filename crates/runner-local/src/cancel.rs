//! Stops an attempt for good, and forgets it when told to.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use qwex_runner::durable::{Dir, Durability};
use qwex_runner::{CancelProgress, Handle, RunnerError};

use crate::backend::{Inner, LocalBackend, failed, is_pinned};
use crate::identity::ProcessId;
use crate::layout::Key;
use crate::records::{
    self, CANCEL, CancelRecord, END, EndCause, EndRecord, RELEASED, SUPERVISOR, SupervisorRecord,
};
use crate::snapshot::{self, Lost, Snapshot, Stage};
use crate::{supervise, survivors};

impl LocalBackend {
    /// [`qwex_runner::Runner::cancel`] without a runtime.
    pub fn cancel_sync(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        let key = Key::of(handle);
        let Some(snapshot) = self.inner.snapshot(key)? else {
            return Ok(CancelProgress::Stopped);
        };
        if !is_pinned(handle, &snapshot) {
            return Ok(CancelProgress::Stopped);
        }
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
        if !is_pinned(handle, &snapshot) {
            return Ok(());
        }
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
        self.inner.sweep().map_err(broken)
    }
}

impl Inner {
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
        let asked: Option<CancelRecord> = records::read(dir, CANCEL)?;
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

    /// Removes released attempts whose time is over.
    fn sweep(&self) -> io::Result<()> {
        let Some(retention) = self.config.retention else {
            return Ok(());
        };
        for key in self.config.layout.scan(&self.root)? {
            let Some(dir) = self.config.layout.open(&self.root, key)? else {
                continue;
            };
            let Ok(mark) = dir.open_file(RELEASED, nix::fcntl::OFlag::O_RDONLY) else {
                continue;
            };
            let age = SystemTime::now()
                .duration_since(mark.metadata()?.modified()?)
                .unwrap_or_default();
            if age >= retention {
                let (parent, name) = self.config.layout.place(&self.root, key)?;
                parent.remove_tree(&name)?;
            }
        }
        Ok(())
    }
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
    let now = Timestamp::now();
    let end = EndRecord {
        cause: EndCause::Cancelled,
        exit_code: None,
        signal: None,
        core_dumped: false,
        message: "cancelled before its command started".to_owned(),
        start: None,
        ended_at: now,
        max_rss_bytes: None,
        leftovers: 0,
    };
    // The end first: a supervisor record without an end would read as a lost run.
    records::write(dir, END, &end, Durability::Machine)?;
    let own = SupervisorRecord {
        process: ProcessId::own()?,
        started_at: now,
    };
    records::write(dir, SUPERVISOR, &own, Durability::Machine)?;
    Ok(CancelProgress::Stopped)
}
