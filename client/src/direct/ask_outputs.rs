//! Asks for the outputs of a run that is over, whoever gave them up before. Its keeper brings them; it is started if there
//! is none. Nobody waits longer than a limit for a backend of which no word comes; the keeper goes on without whoever asked.

use std::time::Duration;

use qwex_core::{Run, RunId};
use qwex_runner::StoreError;
use tokio::time::Instant;

use super::arrive;
use super::error::DirectError;
use super::keeper::{self, Unkept};
use super::outputs::{self, Outputs};
use super::runs::{Direct, Result};
use super::vouch;

const LOOK: Duration = Duration::from_millis(50);
/// Pauses between two questions while the backend is away.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How long a keeper that has nothing more to bring may take to leave.
const KEEPER_LEAVES: Duration = Duration::from_secs(30);

/// What came of a question.
#[derive(Debug)]
pub enum Asked {
    Answered(Outputs),
    /// Nothing, within the limit. The keeper goes on.
    Unanswered,
}

/// What is known while somebody waits.
struct Waiting {
    until: Instant,
    /// The most files and bytes that were there at a time: a try that begins anew brings nothing new for a while.
    most: (u64, u64),
    pause: Duration,
    told: Option<String>,
}

impl Waiting {
    fn begin(now: Instant, limit: Duration) -> Self {
        Self {
            until: now + limit,
            most: (0, 0),
            pause: FIRST_PAUSE,
            told: None,
        }
    }

    /// Whether the limit is over; files that come put it off.
    fn is_over(&mut self, now: Instant, amount: (u64, u64), limit: Duration) -> bool {
        if amount.0 > self.most.0 || amount.1 > self.most.1 {
            self.most = (amount.0.max(self.most.0), amount.1.max(self.most.1));
            self.until = now + limit;
        }
        now >= self.until
    }

    /// The next pause before the backend is asked again, if that is within the limit.
    fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        (now + pause < self.until).then_some(pause)
    }
}

impl Direct {
    /// What came of the outputs of a run; `None`: nobody tried to bring any.
    ///
    /// # Errors
    /// The run is not there, or the file beside its record cannot be read.
    pub fn outputs(&self, id: RunId) -> Result<Option<Outputs>> {
        Ok(Outputs::read(&self.journal(id)?)?)
    }

    /// Those of a run that are not here although they should be.
    ///
    /// # Errors
    /// As [`Direct::outputs`].
    pub fn missing_outputs(&self, run: &Run) -> Result<Option<Outputs>> {
        if run.spec.outputs.is_empty() {
            return Ok(None);
        }
        Ok(self
            .outputs(run.id)?
            .filter(|outputs| outputs.trouble().is_some()))
    }

    /// Whether a keeper goes on bringing them, by itself or because somebody asked.
    ///
    /// # Errors
    /// As [`Direct::outputs`].
    pub fn are_outputs_tried(&self, run: &Run) -> Result<bool> {
        Ok(Outputs::are_tried(&self.journal(run.id)?, run)?)
    }

    /// The file in which that is kept: as young as what it tells.
    ///
    /// # Errors
    /// The run is not there.
    pub fn outputs_file(&self, id: RunId) -> Result<std::path::PathBuf> {
        Ok(self.journal(id)?.path_of(outputs::FILE))
    }

    /// Where those lie that arrived and are held back from the workspace.
    ///
    /// # Errors
    /// The run is not there.
    pub fn held_outputs(&self, id: RunId) -> Result<std::path::PathBuf> {
        Ok(self.journal(id)?.path_of(arrive::ARRIVED))
    }

    /// Has the outputs of a run tried once more, without waiting for what comes of that.
    ///
    /// # Errors
    /// As of [`Direct::ask_for_outputs`].
    pub fn request_outputs(&self, id: RunId) -> Result<()> {
        let journal = self.journal(id)?;
        Outputs::ask(&journal)?;
        keeper::try_anew(&journal)?;
        self.unkept(id)?
            .map_or(Ok(()), |why| Err(DirectError::Unkept { id, why }))
    }

    /// Has the outputs of a run tried once more, and returns with what came of that. A backend that is away is asked again
    /// for as long as `limit`, and why is told.
    ///
    /// # Errors
    /// Nobody keeps the run and none will come; its record cannot be read or written.
    pub async fn ask_for_outputs(&self, id: RunId, limit: Duration, tell: impl Fn(&str)) -> Result<Asked> {
        let journal = self.journal(id)?;
        self.request_outputs(id)?;
        let mut waiting = Waiting::begin(Instant::now(), limit);
        loop {
            // Of several who ask, the word of the last one stands for all: its answer is younger than every question.
            let outputs = Outputs::read(&journal)?.unwrap_or_default();
            if outputs.collected.is_some() {
                return Ok(Asked::Answered(outputs));
            }
            if !outputs.is_asked(&journal)? {
                if !(outputs.is_tried && outputs.is_away) {
                    return Ok(Asked::Answered(outputs));
                }
                if waiting.told != outputs.failed {
                    tell(outputs.failed.as_deref().unwrap_or_default());
                    waiting.told.clone_from(&outputs.failed);
                }
                let Some(pause) = waiting.next_pause(Instant::now()) else {
                    return Ok(Asked::Answered(outputs));
                };
                tokio::time::sleep(pause).await;
                Outputs::ask(&journal)?;
            }
            if waiting.is_over(Instant::now(), arrive::amount(&journal), limit) {
                // What was told last says more than silence.
                return Ok(match waiting.told {
                    Some(_) => Asked::Answered(outputs),
                    None => Asked::Unanswered,
                });
            }
            // A keeper that was just leaving is followed by another.
            if let Some(why) = self.unkept(id)? {
                return Err(DirectError::Unkept { id, why });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Puts outputs that are held back into their places, where nothing is that was changed since, with `force` wherever
    /// they belong.
    ///
    /// # Errors
    /// The record is not this user's; something lies in the way; the files beside the record cannot be read or written.
    pub async fn put_held_outputs(&self, id: RunId, force: bool) -> Result<Outputs> {
        let journal = self.journal(id)?;
        let until = Instant::now() + KEEPER_LEAVES;
        // The keeper has them noted before it clears up behind itself and leaves.
        let _right = loop {
            if let Some(right) = keeper::take(&journal)? {
                break right;
            }
            if Instant::now() >= until {
                return Ok(Outputs::read(&journal)?.unwrap_or_default());
            }
            tokio::time::sleep(LOOK).await;
        };
        let outputs = Outputs::read(&journal)?.unwrap_or_default();
        let Some(workspace) = self.placed(id)?.workspace.filter(|_| !outputs.held.is_empty()) else {
            return Ok(outputs);
        };
        // A checkout can carry files beside a record, and a workspace in which to put them.
        if let Some(doubt) = vouch::doubt(&journal, &journal.read()?)? {
            let why = Unkept::Foreign { doubt };
            return Err(DirectError::Unkept { id, why });
        }
        let place = workspace.clone();
        let put = tokio::task::spawn_blocking(move || outputs.put_held(&journal, &place, force)).await;
        let put = put.expect("putting files into place does not panic");
        Ok(put.map_err(|source| StoreError::io("put outputs into", &workspace, source))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_come_put_the_limit_off() {
        let (limit, began) = (Duration::from_secs(60), Instant::now());
        let mut waiting = Waiting::begin(began, limit);
        let mut now = began;
        for bytes in 1..5 {
            now += Duration::from_secs(50);
            assert!(!waiting.is_over(now, (1, bytes), limit));
        }
        now += Duration::from_secs(59);
        assert!(!waiting.is_over(now, (1, 4), limit));
        assert!(!waiting.is_over(now, (0, 3), limit), "a try that begins anew");
        assert_eq!(waiting.next_pause(now), None, "nothing would come of it");
        assert!(waiting.is_over(now + Duration::from_secs(1), (1, 4), limit));
    }
}
