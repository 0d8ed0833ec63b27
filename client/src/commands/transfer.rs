//! What `push` and `pull` have in common: what they say, and how they end when one of several runs fails.

use qwex_api::ErrorCode;
use qwex_core::{Run, RunId};

use super::Done;
use super::session::Session;
use crate::error::{CliError, Exit};
use crate::remote::{Answer, ApiError, row_of};

/// A run that is on both sides now.
pub struct Carried {
    pub run: Answer<Run>,
    /// False: it was there before.
    pub is_new: bool,
    /// What went where.
    pub words: String,
}

/// Goes on with the other runs when one fails; the first failure is the command's.
pub struct Tally<'s> {
    session: &'s Session,
    verb: &'static str,
    carried: Vec<Answer<Run>>,
    failed: Vec<(RunId, CliError)>,
}

impl<'s> Tally<'s> {
    pub fn new(session: &'s Session, verb: &'static str) -> Self {
        Self {
            session,
            verb,
            carried: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Notes what became of one run. Without a server or a right the others need not be tried.
    pub fn take(&mut self, id: RunId, done: Result<Carried, CliError>) -> Result<(), CliError> {
        match done {
            Ok(carried) => {
                let words = if carried.is_new {
                    format!("run {id}: {}", carried.words)
                } else {
                    format!("run {id} was there already, nothing to do")
                };
                self.session.progress.stage(self.verb, &words);
                self.carried.push(carried.run);
            }
            Err(error) if is_for_all(error.exit) => return Err(error),
            Err(error) => self.failed.push((id, error)),
        }
        Ok(())
    }

    /// Prints the runs that are on both sides, and gives the first failure.
    pub fn finish(self) -> Done {
        let rows: Vec<_> = self.carried.iter().map(|run| row_of(&run.value)).collect();
        if !rows.is_empty() {
            let jsons = self.carried.iter().map(|run| &run.json);
            self.session.out.list(rows.iter().zip(jsons))?;
        }
        let mut failed = self.failed.into_iter();
        let Some((_, first)) = failed.next() else {
            return Ok(0);
        };
        for (id, error) in failed {
            self.session
                .progress
                .note(&format!("run {id} was not {}: {}", self.verb, error.what));
        }
        Err(first)
    }
}

/// Whether the next run would meet the same.
fn is_for_all(exit: Exit) -> bool {
    matches!(
        exit,
        Exit::NotLoggedIn | Exit::Forbidden | Exit::Unavailable | Exit::Quiet
    )
}

/// The answer, unless there is no such thing or it may not be seen.
pub fn found<T>(answer: Result<Answer<T>, ApiError>) -> Result<Option<Answer<T>>, CliError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ApiError::Problem { problem, .. }) if problem.code == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `verb`: what cannot be done with it yet.
pub fn not_over(run: &Run, verb: &str) -> CliError {
    let (id, status) = (run.id, run.status);
    let wait = format!("wait for it: `qwexctl wait {id}`");
    let why = if status.is_terminal() {
        "its log is not sealed yet: the last bytes are on their way".to_owned()
    } else {
        format!("it is {status}")
    };
    CliError::new(
        Exit::Conflict,
        format!("run {id} cannot be {verb} before it is over"),
    )
    .why(why)
    .fix(wait)
    .code("wrong_state")
}

/// `holder`: who has the other one, with its verb.
pub fn differs(id: RunId, what: &str, holder: &str) -> CliError {
    CliError::new(Exit::Conflict, format!("{holder} another run under the id {id}"))
        .why(format!("their {what} differs; neither was changed"))
        .fix(format!(
            "compare them: `qwexctl get {id} -o json` here and in a directory without that record"
        ))
        .code("run_id_taken")
}
