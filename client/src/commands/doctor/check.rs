//! One thing that was looked at, and what mends it.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::CliError;
use crate::output::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    Warning,
    Failed,
    /// Not tried, because something before it failed or is not set.
    Skipped,
}

/// What `--fix` does, or did.
#[derive(Debug, Serialize)]
pub struct Mend {
    /// What is done, as words for people.
    pub what: String,
    pub done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

type Act = Box<dyn FnOnce() -> Result<(), CliError>>;

#[derive(Serialize)]
pub struct Check {
    pub check: String,
    pub verdict: Verdict,
    pub message: String,
    /// How much later its clock is than this machine's; negative: earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<f64>,
    /// What people have to do.
    pub fix: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<Mend>,
    #[serde(skip)]
    act: Option<Act>,
}

impl Check {
    pub fn new(check: impl Into<String>, verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict,
            message: message.into(),
            clock_skew_seconds: None,
            fix: Vec::new(),
            mend: None,
            act: None,
        }
    }

    pub fn failed(check: impl Into<String>, error: CliError) -> Self {
        let more = error.why.clone().or_else(|| error.drawn());
        let message = match more {
            Some(why) => format!("{}: {why}", error.what),
            None => error.what,
        };
        Self {
            fix: error.fix,
            ..Self::new(check, Verdict::Failed, message)
        }
    }

    pub fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        self
    }

    /// What `--fix` may do: only what is safe and can be undone.
    pub fn mend(
        mut self,
        what: impl Into<String>,
        act: impl FnOnce() -> Result<(), CliError> + 'static,
    ) -> Self {
        self.mend = Some(Mend {
            what: what.into(),
            done: false,
            error: None,
        });
        self.act = Some(Box::new(act));
        self
    }

    /// Does what mends it, once `tell` has said so.
    pub fn do_mend(&mut self, tell: impl Fn(&str)) {
        let (Some(mend), Some(act)) = (&mut self.mend, self.act.take()) else {
            return;
        };
        tell(&mend.what);
        match act() {
            Ok(()) => {
                mend.done = true;
                self.verdict = Verdict::Ok;
                self.message = format!("mended: {}", mend.what);
            }
            Err(error) => {
                let why = error.why.map(|why| format!(": {why}")).unwrap_or_default();
                mend.error = Some(format!("{}{why}", error.what));
                self.verdict = Verdict::Failed;
            }
        }
    }
}

impl Row for Check {
    fn name(&self) -> String {
        self.check.clone()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["CHECK", "VERDICT", "MESSAGE"]
    }

    fn cells(&self, _wide: bool, _now: Timestamp) -> Vec<String> {
        let verdict = format!("{:?}", self.verdict).to_lowercase();
        vec![self.check.clone(), verdict, self.message.clone()]
    }
}
