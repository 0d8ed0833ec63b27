//! What was measured: rows with every trial, printed as Markdown and written as JSON.

use std::fmt::Write as _;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use crate::bench::Bench;
use crate::sql;
use crate::stats::Summary;

/// Everything of one call of the program.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    profile: &'static str,
    machine: Machine,
    trials: u32,
    began_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// Load of the machine over a minute, before the first and after the last measurement.
    load_before: String,
    load_after: Option<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    kernel: String,
    postgres: String,
}

/// One measurement, all its trials.
#[derive(Debug, Serialize)]
pub struct Row {
    pub case: &'static str,
    pub what: String,
    pub unit: &'static str,
    pub trials: Vec<f64>,
    pub peer: Option<Peer>,
    pub goal: Option<Goal>,
    /// Why it says nothing, if so.
    pub invalid: Option<String>,
}

/// The same trials of something else in the same minute.
#[derive(Debug, Clone, Serialize)]
pub struct Peer {
    pub what: String,
    pub trials: Vec<f64>,
}

/// What is aimed at.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Of the ratio to the peer.
    RatioAtLeast(f64),
    /// Of the ratio to the peer.
    RatioAtMost(f64),
    /// Of the value itself.
    AtMost(f64),
}

impl Row {
    #[must_use]
    pub fn new(case: &'static str, what: impl Into<String>, unit: &'static str, trials: Vec<f64>) -> Self {
        Self {
            case,
            what: what.into(),
            unit,
            trials,
            peer: None,
            goal: None,
            invalid: None,
        }
    }

    #[must_use]
    pub fn beside(mut self, what: impl Into<String>, trials: Vec<f64>) -> Self {
        let what = what.into();
        self.peer = Some(Peer { what, trials });
        self
    }

    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    #[must_use]
    pub fn invalid(mut self, why: Option<String>) -> Self {
        self.invalid = why;
        self
    }

    /// Trial by trial, so that what slows both slows neither.
    fn ratio(&self) -> Option<Summary> {
        let peer = &self.peer.as_ref()?.trials;
        let ratios: Vec<f64> = self
            .trials
            .iter()
            .zip(peer)
            .map(|(own, peer)| own / peer)
            .collect();
        Summary::of(&ratios)
    }

    fn verdict(&self) -> String {
        if let Some(why) = &self.invalid {
            return format!("INVALID: {why}");
        }
        let value = Summary::of(&self.trials);
        let (text, reached) = match self.goal {
            None => return String::new(),
            Some(Goal::RatioAtLeast(goal)) => (
                format!("≥ {goal}×"),
                self.ratio().is_some_and(|ratio| ratio.median >= goal),
            ),
            Some(Goal::RatioAtMost(goal)) => (
                format!("≤ {goal}×"),
                self.ratio().is_some_and(|ratio| ratio.median <= goal),
            ),
            Some(Goal::AtMost(goal)) => (
                format!("≤ {goal} {}", self.unit),
                value.is_some_and(|value| value.median <= goal),
            ),
        };
        format!("{text}: {}", if reached { "met" } else { "missed" })
    }

    fn line(&self) -> String {
        let own = Summary::of(&self.trials);
        let peer = self.peer.as_ref();
        let beside = peer.and_then(|peer| Summary::of(&peer.trials));
        format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            self.case,
            self.what,
            own.map(|own| format!("{} {}", spread(own), self.unit))
                .unwrap_or_default(),
            peer.map(|peer| peer.what.as_str()).unwrap_or_default(),
            beside.map(spread).unwrap_or_default(),
            self.ratio()
                .map(|ratio| format!(
                    "**{}×** ({}–{})",
                    short(ratio.median),
                    short(ratio.least),
                    short(ratio.most)
                ))
                .unwrap_or_default(),
            self.verdict(),
        )
    }
}

impl Report {
    /// # Errors
    /// Postgres does not answer.
    pub async fn begin(bench: &Bench) -> Result<Self> {
        let mut connection = sql::connect(&bench.postgres.url()).await?;
        let postgres = sqlx::query_scalar("SHOW server_version")
            .fetch_one(&mut connection)
            .await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = read("/proc/sys/kernel/osrelease");
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            profile: if cfg!(debug_assertions) {
                "dev: say nothing with these numbers"
            } else {
                "optimised"
            },
            machine: Machine {
                cores,
                kernel,
                postgres,
            },
            trials: bench.knobs.trials,
            began_at: Timestamp::now(),
            ended_at: None,
            load_before: load(),
            load_after: None,
            rows: Vec::new(),
        })
    }

    /// Adds a row, and shows it to whoever waits.
    pub fn add(&mut self, row: Row) {
        eprint!("{}", row.line());
        self.rows.push(row);
    }

    pub fn end(&mut self) {
        self.ended_at = Some(Timestamp::now());
        self.load_after = Some(load());
    }

    /// Whether every row says something.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.rows.iter().all(|row| row.invalid.is_none())
    }

    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let ended = self.ended_at.unwrap_or(self.began_at);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "qwex {} ({}), {} cores, Linux {}, Postgres {}; {:.0} to {:.0}; {} trials; load average {} before, {} after.\n",
            self.version,
            self.profile,
            machine.cores,
            machine.kernel,
            machine.postgres,
            self.began_at,
            ended,
            self.trials,
            self.load_before,
            self.load_after.as_deref().unwrap_or("?"),
        );
        text.push_str(
            "| case | what | median (least–most) | beside | median (least–most) | ratio | goal |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            text.push_str(&row.line());
        }
        text
    }
}

fn spread(summary: Summary) -> String {
    format!(
        "{} ({}–{})",
        short(summary.median),
        short(summary.least),
        short(summary.most)
    )
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn load() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_go_trial_by_trial() {
        let row = Row::new("b1", "submit", "/s", vec![10.0, 40.0, 90.0])
            .beside("insert", vec![10.0, 20.0, 30.0])
            .goal(Goal::RatioAtLeast(1.5));
        assert_eq!(row.ratio().unwrap().median, 2.0);
        assert_eq!(row.verdict(), "≥ 1.5×: met");
        let late = row.invalid(Some("late".to_owned()));
        assert_eq!(late.verdict(), "INVALID: late");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0351, 1.234, 12.34, 1234.5].map(short);
        assert_eq!(texts, ["0.035", "1.23", "12.3", "1234"]);
    }
}
