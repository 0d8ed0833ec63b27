//! Follows a run of this directory: what it writes, and where it stands. A plain run is followed through its
//! supervisor, a kept one through its record and log files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use qwex_core::{Attempt, Run, RunId};
use qwex_runner::{Journal, RunnerError, StoreError};
use qwex_runner_local::Foreground;

use super::error::DirectError;
use super::log_files;
use super::plain::handle_of;
use super::runs::Direct;

/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// The same while a recorded run is handed to its supervisor.
const HANDING_OVER: u16 = 5;

/// One run, followed.
pub enum Follow {
    Plain(RunId, Box<Foreground>),
    Kept(Box<Kept>),
}

/// What a step brought.
#[derive(Debug, Default)]
pub struct Followed {
    /// The run as its record says now; only where that may be news.
    pub run: Option<Run>,
    /// It is over and all it wrote was copied.
    pub over: bool,
}

impl Direct {
    /// Follows a run from its first byte on.
    ///
    /// # Errors
    /// The run is not there.
    pub fn follow(&self, run: &Run) -> Result<Follow, DirectError> {
        if self.is_kept(run.id)? {
            return Ok(Follow::Kept(Box::new(Kept::new(self.journal(run.id)?))));
        }
        let foreground = self.backend.follow_sync(&handle_of(run));
        Ok(Follow::Plain(run.id, Box::new(foreground)))
    }
}

impl Direct {
    /// A step of a run whose attempt is not there: not yet, or not any more.
    fn without_attempt(&self, id: RunId) -> Result<Followed, DirectError> {
        let over = self.get(id)?.status.is_terminal();
        if !over {
            // Woken early by a signal, the caller looks what it was.
            poll(&mut [], PollTimeout::from(HANDING_OVER)).ok();
        }
        Ok(Followed { run: None, over })
    }
}

impl Follow {
    /// Copies what the command wrote to `out` and `err`; waits at most `limit` if there is nothing new, less if a
    /// signal comes.
    ///
    /// # Errors
    /// The run cannot be read, its record not written, or the output not shown.
    pub fn step(
        &mut self,
        direct: &Direct,
        limit: Duration,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Followed, DirectError> {
        match self {
            Self::Plain(id, foreground) => match foreground.step(limit, out, err) {
                // What it saw is on disk beside the record; whoever asks reads it there.
                Ok(step) => Ok(Followed {
                    run: None,
                    over: step.over,
                }),
                Err(RunnerError::NotFound { .. }) => direct.without_attempt(*id),
                Err(error) => Err(error.into()),
            },
            Self::Kept(kept) => kept.step(direct, limit, out, err),
        }
    }
}

/// A kept run, followed.
pub struct Kept {
    journal: Journal,
    attempt: Attempt,
    tails: Vec<Tail>,
    last: Option<Run>,
}

struct Tail {
    stream: &'static str,
    path: PathBuf,
    offset: u64,
}

impl Kept {
    fn new(journal: Journal) -> Self {
        Self {
            journal,
            attempt: Attempt::FIRST,
            tails: Vec::new(),
            last: None,
        }
    }

    fn step(
        &mut self,
        direct: &Direct,
        limit: Duration,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Followed, DirectError> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            let (followed, copied) = self.look(direct, out, err)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if followed.over || followed.run.is_some() || copied > 0 || left.is_zero() {
                return Ok(followed);
            }
            let millis = u16::try_from(pause.min(left).as_millis())
                .unwrap_or(u16::MAX)
                .max(1);
            if poll(&mut [], PollTimeout::from(millis)).is_err() {
                // A signal: whoever calls wants to hear of it.
                return Ok(followed);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn look(
        &mut self,
        direct: &Direct,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(Followed, u64), DirectError> {
        // First how far it is, then what it wrote: what was over before the read was read whole.
        let run = direct.get_kept(self.journal.id())?;
        let is_stored = run.logs.is_some();
        let complete = is_stored || log_files::read_index(&self.journal, self.attempt)?.complete;
        let copied = self.copy(out, err)?;
        let is_last = self.attempt >= run.attempt;
        if complete && !is_last {
            self.attempt = self.attempt.next();
            self.tails.clear();
        }
        let over = run.status.is_terminal() && is_stored && is_last && copied == 0;
        let news = self.last.as_ref() != Some(&run);
        if news {
            self.last = Some(run.clone());
        }
        let followed = Followed {
            run: news.then_some(run),
            over,
        };
        Ok((followed, copied))
    }

    fn copy(&mut self, out: &mut dyn Write, err: &mut dyn Write) -> Result<u64, DirectError> {
        for (stream, path) in log_files::files(&self.journal, self.attempt) {
            if !self.tails.iter().any(|tail| tail.path == path) {
                self.tails.push(Tail {
                    stream,
                    path,
                    offset: 0,
                });
            }
        }
        let mut copied = 0;
        for tail in &mut self.tails {
            let to: &mut dyn Write = if tail.stream == "stderr" { err } else { out };
            copied += tail.copy(to)?;
        }
        Ok(copied)
    }
}

impl Tail {
    fn copy(&mut self, to: &mut dyn Write) -> Result<u64, DirectError> {
        let broken = |source| StoreError::io("read", &self.path, source);
        let mut file = File::open(&self.path).map_err(broken)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(broken)?;
        let mut buffer = vec![0; 256 * 1024];
        let mut copied = 0;
        loop {
            let count = file.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                self.offset += copied;
                return Ok(copied);
            }
            to.write_all(&buffer[..count])
                .and_then(|()| to.flush())
                .map_err(|source| DirectError::Output { source })?;
            copied += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use qwex_core::{JobSpec, Project, Provenance, RunStatus};

    use super::super::placed::Placed;
    use super::super::runs::{NewRun, recorded};
    use super::*;

    #[test]
    fn a_run_is_followed_from_its_record_on_also_while_it_is_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let direct = Direct::at(dir.path()).unwrap();
        let mut run = recorded(NewRun {
            id: RunId::mint(),
            name: None,
            project: Project::new("default").unwrap(),
            labels: BTreeMap::new(),
            spec: JobSpec::for_command(["true"]),
            provenance: Provenance::default(),
        });
        direct.store.create_with_attempt(&run).unwrap();
        let mut following = direct.follow(&run).unwrap();
        let mut step = |direct: &Direct| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            following
                .step(direct, Duration::ZERO, &mut out, &mut err)
                .unwrap()
        };
        assert!(!step(&direct).over, "its attempt is not there yet");
        assert_eq!(direct.get(run.id).unwrap().status, RunStatus::Pending);

        // Whoever was to hand it over has been gone for a minute.
        run.created_at -= jiff::SignedDuration::from_mins(1);
        std::fs::remove_dir_all(direct.store.run_path(run.id)).unwrap();
        direct.store.create_with_attempt(&run).unwrap();
        assert!(step(&direct).over);
        assert_eq!(direct.get(run.id).unwrap().status, RunStatus::Failed);
    }

    #[test]
    fn the_log_of_the_last_attempt_is_shown_although_the_first_wrote_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let direct = Direct::at(dir.path()).unwrap();
        let mut run = recorded(NewRun {
            id: RunId::mint(),
            name: None,
            project: Project::new("default").unwrap(),
            labels: BTreeMap::new(),
            spec: JobSpec::for_command(["true"]),
            provenance: Provenance::default(),
        });
        (run.status, run.attempt) = (RunStatus::Succeeded, Attempt(2));
        let journal = direct.store.create(&run).unwrap();
        Placed::default().write(&journal).unwrap();
        std::fs::write(journal.path_of("stdout-a2.log"), "at last\n").unwrap();
        let complete = log_files::LogIndex {
            complete: true,
            ..Default::default()
        };
        for attempt in [Attempt(1), Attempt(2)] {
            log_files::write_index(&journal, attempt, &complete).unwrap();
        }
        let summary = log_files::sum_up(&journal, Attempt(2)).unwrap();
        let run = journal.seal_logs(summary).unwrap();
        let mut following = direct.follow(&run).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut steps = 0..100;
        while !following
            .step(&direct, Duration::ZERO, &mut out, &mut err)
            .unwrap()
            .over
        {
            steps.next().expect("it never ends");
        }
        assert_eq!(String::from_utf8(out).unwrap(), "at last\n");
    }
}
