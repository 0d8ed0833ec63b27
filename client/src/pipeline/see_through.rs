//! One stage's run from its handing over to its end. Asked by the driver, which records what comes of it. Blind is not
//! dead: whoever does not answer is asked again for as long as nobody cancels, and that is told. Nothing is handed over
//! once somebody cancelled.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::runner::{Over, StageError, StageRun, StageRunner, Waited};
use super::shelf::Shelved;

/// How the driver is patient.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Pauses while nobody answers.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// How often a run is asked once more to stop.
    pub ask_again: Duration,
    /// How long a cancelled run may be out of sight before its stage is given up.
    pub give_up: Duration,
}

impl Patience {
    pub const USUAL: Self = Self {
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(30),
        ask_again: Duration::from_secs(2),
        give_up: Duration::from_secs(20),
    };
}

/// What became of a stage's run.
#[derive(Debug)]
pub enum End {
    Over(Box<Over>),
    /// It surely never ran.
    Failed(String),
    /// It is over, and what it made did not come; somebody may bring it yet.
    Unbrought(String),
    /// It is over, and what it made is lost.
    Unmade(String),
    /// Cancelled, and nobody has it. In doubt: it may have been on its way.
    Withdrawn {
        in_doubt: bool,
    },
    /// Cancelled, and nobody answers: it may go on.
    Lost(String),
}

/// Why a stage waits, by its index; `None`: it does not any more.
pub type News = (usize, Option<String>);

pub struct Journey<'a> {
    pub runner: &'a dyn StageRunner,
    pub run: StageRun,
    pub index: usize,
    /// A driver before this one may have handed it over.
    pub known: bool,
    /// Whether the pipeline is being cancelled: as the driver knows it, and as it stands beside the record.
    pub cancelling: watch::Receiver<bool>,
    pub shelved: &'a Shelved,
    pub news: mpsc::UnboundedSender<News>,
    pub patience: Patience,
}

/// What is known on the way.
#[derive(Default)]
struct Sight {
    /// It may have been handed over.
    may_be_there: Cell<bool>,
    /// Since when nobody tells how it is.
    blind_since: Cell<Option<Instant>>,
    told: RefCell<Option<String>>,
}

impl Journey<'_> {
    pub async fn see_through(self) -> End {
        let sight = Sight::default();
        let handed = if self.known {
            match self.unless_stopped(&sight, self.found(&sight)).await {
                Ok(handed) => handed,
                Err(end) => return end,
            }
        } else {
            false
        };
        if handed {
            // Whoever takes it up again wants what it made. Trouble with that is told by the wait.
            self.runner.ask_again(&self.run.backend, self.run.id).await.ok();
        } else if let Some(end) = self.hand_over(&sight).await {
            return end;
        }
        sight.may_be_there.set(true);
        let waited = self.unless_stopped(&sight, self.waited(&sight)).await;
        waited.unwrap_or_else(|end| end)
    }

    /// What a step gives, or the end of a run that is cancelled meanwhile.
    async fn unless_stopped<T>(&self, sight: &Sight, step: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            biased;
            done = step => Ok(done),
            end = self.stopped(sight) => Err(end),
        }
    }

    /// Whether it was handed over by a driver before this one.
    async fn found(&self, sight: &Sight) -> bool {
        let mut pause = self.patience.first_pause;
        loop {
            match self.runner.has(&self.run.backend, self.run.id).await {
                Ok(is_there) => {
                    self.sees(sight);
                    return is_there;
                }
                Err(StageError::Absent { .. }) => return false,
                Err(
                    StageError::Unreachable { message }
                    | StageError::Refused { message }
                    | StageError::Unbrought { message },
                ) => {
                    sight.may_be_there.set(true);
                    self.is_blind(sight, message);
                    tokio::time::sleep(pause).await;
                    pause = self.longer(pause);
                }
            }
        }
    }

    /// `None`: it is handed over, or may be and has to be stopped.
    async fn hand_over(&self, sight: &Sight) -> Option<End> {
        let mut pause = self.patience.first_pause;
        sight.may_be_there.set(false);
        loop {
            if self.is_cancelled() {
                if sight.may_be_there.get() {
                    return None;
                }
                if self.known {
                    // It may be recorded: nobody shall believe that it begins some day.
                    self.runner.cancel(&self.run.backend, self.run.id).await.ok();
                }
                return Some(End::Withdrawn { in_doubt: false });
            }
            let Err(error) = self.runner.submit(&self.run).await else {
                self.sees(sight);
                return None;
            };
            // An answer that was lost, or a refusal after one, does not mean that nobody has it.
            let is_there = self.runner.has(&self.run.backend, self.run.id).await;
            if matches!(is_there, Ok(true)) {
                self.sees(sight);
                return None;
            }
            let is_proven = is_there.is_ok() || !sight.may_be_there.get();
            match error {
                StageError::Refused { message } | StageError::Absent { message } if is_proven => {
                    return Some(End::Failed(message));
                }
                StageError::Refused { message } | StageError::Absent { message } => {
                    self.is_blind(sight, message);
                }
                StageError::Unreachable { message } | StageError::Unbrought { message } => {
                    sight.may_be_there.set(true);
                    self.is_blind(sight, message);
                }
            }
            let mut cancelling = self.cancelling.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(_) = cancelling.wait_for(|cancelling| *cancelling) => {}
            }
            pause = self.longer(pause);
        }
    }

    async fn waited(&self, sight: &Sight) -> End {
        let mut pause = self.patience.first_pause;
        loop {
            match self.runner.wait(&self.run.backend, self.run.id).await {
                Ok(Waited::Over(over)) => return End::Over(over),
                Ok(Waited::On { held_up: None }) => {
                    self.sees(sight);
                    pause = self.patience.first_pause;
                }
                Ok(Waited::On { held_up: Some(why) }) => {
                    sight.blind_since.set(None);
                    self.tell(sight, why);
                    pause = self.patience.first_pause;
                }
                Err(StageError::Unbrought { message }) => return End::Unbrought(message),
                Err(StageError::Refused { message }) => return End::Unmade(message),
                Err(StageError::Unreachable { message } | StageError::Absent { message }) => {
                    self.is_blind(sight, message);
                    tokio::time::sleep(pause).await;
                    pause = self.longer(pause);
                }
            }
        }
    }

    /// Once somebody cancels: asks it to stop, and again from time to time. Ends when nobody has it, or nobody answers
    /// for long; otherwise its end is told by the wait.
    async fn stopped(&self, sight: &Sight) -> End {
        let mut cancelling = self.cancelling.clone();
        if cancelling.wait_for(|cancelling| *cancelling).await.is_err() {
            return std::future::pending().await;
        }
        let began = Instant::now();
        let mut unasked_since = None;
        loop {
            match self.runner.cancel(&self.run.backend, self.run.id).await {
                Ok(()) => unasked_since = None,
                Err(StageError::Absent { .. }) => {
                    return End::Withdrawn {
                        in_doubt: sight.may_be_there.get(),
                    };
                }
                Err(
                    StageError::Unreachable { message }
                    | StageError::Refused { message }
                    | StageError::Unbrought { message },
                ) => {
                    unasked_since.get_or_insert_with(Instant::now);
                    self.tell(sight, format!("it cannot be stopped: {message}"));
                }
            }
            let since = [unasked_since, sight.blind_since.get()]
                .into_iter()
                .flatten()
                .min();
            if since.is_some_and(|since| since.max(began).elapsed() >= self.patience.give_up) {
                return End::Lost(sight.told.borrow().clone().unwrap_or_default());
            }
            tokio::time::sleep(self.patience.ask_again).await;
        }
    }

    /// Also what was asked for a moment ago.
    fn is_cancelled(&self) -> bool {
        *self.cancelling.borrow() || self.shelved.is_asked_to_cancel()
    }

    fn longer(&self, pause: Duration) -> Duration {
        (pause * 2).min(self.patience.longest_pause)
    }

    fn is_blind(&self, sight: &Sight, message: String) {
        if sight.blind_since.get().is_none() {
            sight.blind_since.set(Some(Instant::now()));
        }
        self.tell(sight, message);
    }

    fn sees(&self, sight: &Sight) {
        sight.blind_since.set(None);
        if sight.told.take().is_some() {
            self.news.send((self.index, None)).ok();
        }
    }

    /// The same trouble is told once. The driver may be gone: then there is nobody to tell.
    fn tell(&self, sight: &Sight, message: String) {
        let is_new = sight.told.borrow().as_ref() != Some(&message);
        if is_new {
            sight.told.replace(Some(message.clone()));
            self.news.send((self.index, Some(message))).ok();
        }
    }
}

#[cfg(test)]
#[path = "see_through_tests.rs"]
mod tests;
