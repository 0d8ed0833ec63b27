//! Follows one attempt from the terminal that started it: output as it comes, the end at once. No
//! runtime, no thread; `qwexctl run -- CMD` steps it and decides what Ctrl-C means.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qwex_core::Observation;
use qwex_runner::{Handle, Key, RunnerError};

use crate::backend::{LocalBackend, failed};
use crate::identity::Life;
use crate::logs::Tail;
use crate::records::EMPTIED;
use crate::snapshot::Snapshot;
use crate::sys;

/// Output is looked for this often; the end wakes us at once.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Follows one attempt.
#[derive(Debug)]
pub struct Foreground {
    backend: LocalBackend,
    key: Key,
    tails: Vec<Tail>,
    told: usize,
    supervisor: Option<OwnedFd>,
}

/// What a step brought.
#[derive(Debug, Default)]
pub struct Followed {
    /// New observations, for the run's record.
    pub observations: Vec<Observation>,
    /// Bytes copied.
    pub bytes: u64,
    /// The run has ended, and all it wrote was copied.
    pub over: bool,
}

impl LocalBackend {
    /// Follows an attempt that was submitted, from its first byte on.
    #[must_use]
    pub fn follow_sync(&self, handle: &Handle) -> Foreground {
        Foreground {
            backend: self.clone(),
            key: Key::of(handle),
            tails: Vec::new(),
            told: 0,
            supervisor: None,
        }
    }
}

impl Foreground {
    /// Copies what the command wrote to `out` and `err`; waits at most `limit` if there is nothing new,
    /// less if a signal comes. Merged output goes to `out`.
    ///
    /// # Errors
    /// The directory of the attempt cannot be read, or the output cannot be written.
    pub fn step(
        &mut self,
        limit: Duration,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Followed, RunnerError> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            let followed = self.look(out, err)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let news = followed.over || followed.bytes > 0 || !followed.observations.is_empty();
            if news || left.is_zero() || self.sleep(pause.min(left))? == Woken::BySignal {
                return Ok(followed);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Steps until the end; gives all observations.
    ///
    /// # Errors
    /// As [`Foreground::step`].
    pub fn to_the_end(
        &mut self,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Vec<Observation>, RunnerError> {
        let mut all = Vec::new();
        loop {
            let followed = self.step(Duration::from_secs(1), out, err)?;
            all.extend(followed.observations);
            if followed.over {
                return Ok(all);
            }
        }
    }

    fn look(&mut self, out: &mut dyn Write, err: &mut dyn Write) -> Result<Followed, RunnerError> {
        // First how far it is, then what it wrote: what was over before the read was read whole.
        let snapshot = self
            .backend
            .inner
            .snapshot(self.key)?
            .ok_or_else(|| RunnerError::NotFound {
                message: format!("run {} has no directory any more", self.key.run_id),
            })?;
        self.attach(&snapshot);
        let bytes = self.copy(snapshot.is_silent(), out, err)?;
        let all = snapshot.observations(&self.backend.inner.backend_info(self.key));
        let observations: Vec<Observation> = all.iter().skip(self.told).cloned().collect();
        self.told = all.len();
        Ok(Followed {
            observations,
            bytes,
            over: snapshot.is_over(),
        })
    }

    fn attach(&mut self, snapshot: &Snapshot) {
        if self.tails.is_empty() {
            let streams = snapshot.work.output.streams().iter();
            self.tails = streams.map(|stream| Tail::new(self.key, stream)).collect();
        }
        if let Some(supervisor) = &snapshot.supervisor
            && self.supervisor.is_none()
        {
            // The pidfd may be of a stranger if the supervisor has ended; then the identity is not alive.
            self.supervisor = sys::pidfd_open(supervisor.process.pid)
                .ok()
                .filter(|_| supervisor.life() == Life::Alive);
        }
    }

    fn copy(&mut self, over: bool, out: &mut dyn Write, err: &mut dyn Write) -> Result<u64, RunnerError> {
        let mut copied = 0;
        for tail in &mut self.tails {
            let emptied = tail
                .notices_emptied(&self.backend, over)
                .map_err(|error| failed("read the log of", self.key, &error))?;
            if emptied {
                let stream = tail.stream;
                writeln!(err, "qwex: {stream}: {EMPTIED}")
                    .map_err(|error| failed("show the output of", self.key, &error))?;
            }
            let to: &mut dyn Write = if tail.stream == "stderr" { err } else { out };
            loop {
                let chunk = tail
                    .next_chunk(&self.backend)
                    .map_err(|error| failed("read the log of", self.key, &error))?;
                let Some(chunk) = chunk else { break };
                copied += chunk.bytes.len() as u64;
                to.write_all(&chunk.bytes)
                    .and_then(|()| to.flush())
                    .map_err(|error| failed("show the output of", self.key, &error))?;
            }
        }
        Ok(copied)
    }

    fn sleep(&self, pause: Duration) -> Result<Woken, RunnerError> {
        let millis = u16::try_from(pause.as_millis()).unwrap_or(u16::MAX).max(1);
        let mut fds: Vec<PollFd<'_>> = self
            .supervisor
            .iter()
            .map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) => Ok(Woken::ByTime),
            Err(nix::Error::EINTR) => Ok(Woken::BySignal),
            Err(error) => Err(failed("wait for", self.key, &error.into())),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Woken {
    ByTime,
    BySignal,
}
