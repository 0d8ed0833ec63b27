//! Every rule a [`JobSpec`] must keep before anything is made of it. Called where specs come in: by the
//! API's submit, by `qwexctl run` before it connects, by the reader of `qwex.yaml`.
//!
//! All problems are told at once, each with the place, what is wrong and how to mend it. Values of
//! environment variables are never repeated in a message. Rules that need a cluster (does the queue
//! exist, do the resources fit) are placement's, not ours.

mod engines;
mod image;
mod labels;
mod limits;
mod mounts;
mod unknown;
mod variables;

use serde::Serialize;

use crate::duration::Span;
use crate::resources::{QuantityError, Resources, cpu_millis, memory_bytes};
use crate::spec::{JobSpec, RetryPolicy};
use crate::status::FailureCode;

pub use engines::{Port, ulimit};
pub use labels::validate_labels;
pub use limits::*;
pub use unknown::unknown_fields;

/// One thing wrong with a spec, with the JSON pointer of the field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecProblem {
    /// JSON pointer (RFC 6901) from the root of the spec: `/env/FOO`; empty for the whole of it.
    pub pointer: String,
    /// Stable word: `required`, `too_long`, `too_large`, `invalid`, `reserved`, `duplicate`, `unknown`.
    pub code: &'static str,
    /// What is wrong, why, and how to mend it.
    pub detail: String,
}

/// Problems as they are found, no more than a reader can use.
#[derive(Debug, Default)]
struct Problems(Vec<SpecProblem>);

impl Problems {
    const MOST: usize = 50;

    fn add(&mut self, code: &'static str, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.0.len() < Self::MOST {
            self.0.push(SpecProblem {
                pointer: pointer.into(),
                code,
                detail: detail.into(),
            });
        }
    }

    fn into_result(self) -> Result<(), Vec<SpecProblem>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

const REQUIRED: &str = "required";
const TOO_LONG: &str = "too_long";
const TOO_LARGE: &str = "too_large";
const INVALID: &str = "invalid";
const RESERVED: &str = "reserved";
const DUPLICATE: &str = "duplicate";
const UNKNOWN: &str = "unknown";

/// Pointer of a member of a map: `/env` and `A/B` make `/env/A~1B`. Long keys are cut.
fn member(map: &str, key: &str) -> String {
    let key: String = key.chars().take(128).collect();
    format!("{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A piece of the user's text that is safe and short enough to repeat in a message.
fn quoted(text: &str) -> String {
    const MOST: usize = 64;
    let short: String = text.chars().take(MOST).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

impl JobSpec {
    /// Checks every rule that needs nothing but the spec. The problems are at most 50, in the order of
    /// the fields.
    pub fn validate(&self) -> Result<(), Vec<SpecProblem>> {
        let mut problems = Problems::default();
        check_command(&self.command, &mut problems);
        image::check(self.image.as_deref(), &mut problems);
        variables::check_env(&self.env, &mut problems);
        variables::check_secrets(&self.secrets, &self.env, &mut problems);
        check_working_dir(self.working_dir.as_deref(), &mut problems);
        check_resources(&self.resources, &mut problems);
        check_timeout(self.timeout, &mut problems);
        check_retry(&self.retry, &mut problems);
        labels::check_placement(&self.placement.require, &mut problems);
        mounts::check(&self.mounts, &mut problems);
        engines::check(self, &mut problems);
        check_size(self, &mut problems);
        problems.into_result()
    }
}

fn check_command(command: &[String], problems: &mut Problems) {
    match command.first() {
        None => problems.add(
            REQUIRED,
            "/command",
            "the command is empty; give the program and its arguments as a list, like [\"python\", \"train.py\"]",
        ),
        Some(program) if program.is_empty() => problems.add(
            REQUIRED,
            "/command/0",
            "the first element of the command is empty; it must be the program to execute",
        ),
        Some(_) => {}
    }
    for (index, argument) in command.iter().enumerate() {
        if argument.contains('\0') {
            problems.add(
                INVALID,
                format!("/command/{index}"),
                "this argument has a NUL byte, which no program can receive; remove it or pass the data as a file",
            );
        }
    }
    let bytes: usize = command.iter().map(String::len).sum();
    if bytes > MAX_COMMAND_BYTES {
        problems.add(
            TOO_LARGE,
            "/command",
            format!(
                "the command has {bytes} bytes, the most is {MAX_COMMAND_BYTES}; put long input into a file and pass its name"
            ),
        );
    }
}

fn check_working_dir(path: Option<&str>, problems: &mut Problems) {
    let pointer = "/working_dir";
    let Some(path) = path else { return };
    if !path.starts_with('/') {
        problems.add(
            INVALID,
            pointer,
            format!(
                "the working directory {} is not absolute; begin it with /, like /workspace",
                quoted(path)
            ),
        );
    }
    if path.contains('\0') {
        problems.add(
            INVALID,
            pointer,
            "the working directory has a NUL byte, which no path can have; remove it",
        );
    }
    if path.len() > MAX_WORKING_DIR_BYTES {
        problems.add(
            TOO_LONG,
            pointer,
            format!(
                "the working directory has {} bytes, the most a path can have is {MAX_WORKING_DIR_BYTES}; use a shorter one",
                path.len()
            ),
        );
    }
}

fn check_resources(resources: &Resources, problems: &mut Problems) {
    check_quantity("/resources/cpu", resources.cpu.as_deref(), cpu_millis, problems);
    check_quantity(
        "/resources/memory",
        resources.memory.as_deref(),
        memory_bytes,
        problems,
    );
    if let Some(pids) = resources.pids.filter(|pids| !(1..=MAX_PIDS).contains(pids)) {
        problems.add(
            INVALID,
            "/resources/pids",
            format!("{pids} is no limit of processes; give 1 to {MAX_PIDS}, or leave it out for none"),
        );
    }
    if let Some(gpu) = resources.gpu.filter(|gpu| *gpu > MAX_GPU) {
        problems.add(
            TOO_LARGE,
            "/resources/gpu",
            format!("{gpu} GPUs are more than one run can have, the most is {MAX_GPU}; ask for fewer"),
        );
    }
}

fn check_quantity(
    pointer: &str,
    text: Option<&str>,
    read: fn(&str) -> Result<u64, QuantityError>,
    problems: &mut Problems,
) {
    const MOST: usize = 32;
    match text {
        None => {}
        Some(text) if text.len() > MOST => problems.add(
            TOO_LONG,
            pointer,
            format!("an amount of more than {MOST} characters is none; write it like 2, 500m or 4Gi"),
        ),
        Some(text) => {
            if let Err(error) = read(text) {
                problems.add(INVALID, pointer, error.to_string());
            }
        }
    }
}

fn check_timeout(timeout: Option<Span>, problems: &mut Problems) {
    if let Some(timeout) = timeout.filter(|timeout| timeout.as_secs_ceil() > MAX_TIMEOUT_SECS) {
        problems.add(
            TOO_LONG,
            "/timeout",
            format!("the timeout {timeout} is longer than 30 days; shorten it, or leave it out for none"),
        );
    }
}

fn check_retry(retry: &RetryPolicy, problems: &mut Problems) {
    if retry.limit > MAX_RETRIES {
        problems.add(
            TOO_LARGE,
            "/retry/limit",
            format!(
                "{} retries are more than the most, {MAX_RETRIES}; ask for fewer",
                retry.limit
            ),
        );
    }
    if let Some(backoff) = retry
        .backoff
        .filter(|backoff| !(1..=10).contains(&backoff.factor))
    {
        problems.add(
            INVALID,
            "/retry/backoff/factor",
            format!(
                "a pause cannot grow by the factor {}; give a whole number of 1 to 10",
                backoff.factor
            ),
        );
    }
    for (index, code) in retry.on.iter().enumerate() {
        let pointer = format!("/retry/on/{index}");
        match code {
            FailureCode::Unknown => {
                let known: Vec<&str> = FailureCode::ALL
                    .iter()
                    .filter(|code| **code != FailureCode::Lost)
                    .map(|code| code.as_str())
                    .collect();
                problems.add(
                    INVALID,
                    pointer,
                    format!("this is no known failure; choose from {}", known.join(", ")),
                );
            }
            FailureCode::Lost => problems.add(
                INVALID,
                pointer,
                "a lost run may still be executing, so another attempt could run it twice; remove `lost` and rerun by hand once it is known to be dead",
            ),
            FailureCode::ExitCode
            | FailureCode::Signal
            | FailureCode::Oom
            | FailureCode::Timeout
            | FailureCode::Image
            | FailureCode::StartError
            | FailureCode::Evicted
            | FailureCode::Preempted
            | FailureCode::NodeLost
            | FailureCode::DeletedExternally
            | FailureCode::Rejected
            | FailureCode::NameConflict => {}
        }
    }
}

fn check_size(spec: &JobSpec, problems: &mut Problems) {
    let bytes = serde_json::to_vec(spec).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_SPEC_BYTES {
        problems.add(
            TOO_LARGE,
            "",
            format!(
                "the spec has {bytes} bytes as JSON, the most is {MAX_SPEC_BYTES}; put large values into files or secrets"
            ),
        );
    }
}

#[cfg(test)]
mod tests;
