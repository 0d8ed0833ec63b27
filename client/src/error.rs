//! The one expected error of the command line: what went wrong, why, how to mend it, and the exit code.
//! Anything that is not a [`CliError`] is a bug. Made in `commands` and `config`, printed once by `start`.

use std::fmt::Write as _;
use std::io;

use anstyle::{AnsiColor, Style};
use qwex_api::{ErrorCode, FieldProblem, Problem};
use qwex_runner::{RunnerError, StoreError};

use crate::direct::{DirectError, Unkept};
use crate::output::escape::one_line;
use crate::remote::ApiError;

/// Exit codes of qwexctl itself; `help exit-codes` prints the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nothing to tell: the reader of our output went away.
    Quiet,
    Failure,
    Usage,
    NotFound,
    NotLoggedIn,
    Forbidden,
    Conflict,
    Timeout,
    Unavailable,
    Cancelled,
    /// qwex failed where the exit code would have been the command's own.
    Qwex,
}

impl Exit {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            // As if the signal had ended us that the reader's end sends: 128 + SIGPIPE.
            Self::Quiet => 141,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotLoggedIn => 4,
            Self::Forbidden => 5,
            Self::Conflict => 6,
            Self::Timeout => 7,
            Self::Unavailable => 8,
            Self::Cancelled => 9,
            Self::Qwex => 125,
        }
    }
}

/// An expected error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    pub exit: Exit,
    /// One sentence without a full stop.
    pub what: String,
    pub why: Option<String>,
    /// Lines of a file with carets under what is wrong; printed as they are.
    pub drawing: Option<Box<Drawing>>,
    /// One way to mend it per entry.
    pub fix: Vec<String>,
    /// Stable word of the server's registry of error codes, or of our own.
    pub code: Option<&'static str>,
    pub request_id: Option<Box<str>>,
}

/// Lines of a file with carets. Apart, so that an error stays small wherever it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing(String);

impl CliError {
    #[must_use]
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            why: None,
            drawing: None,
            fix: Vec::new(),
            code: None,
            request_id: None,
        }
    }

    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what).code("usage")
    }

    /// All of it on one line, for a note.
    #[must_use]
    pub fn sentence(&self) -> String {
        let why = self
            .why
            .as_deref()
            .map_or_else(String::new, |why| format!(": {why}"));
        format!("{}{why}; {}", self.what, self.fix.join("; or "))
    }

    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// The text must be free of control characters but for ends of lines.
    #[must_use]
    pub fn drawing(mut self, drawing: impl Into<String>) -> Self {
        self.drawing = Some(Box::new(Drawing(drawing.into())));
        self
    }

    /// Its beginning on one line: what is wrong with a file, and where.
    #[must_use]
    pub fn drawn(&self) -> Option<String> {
        let Drawing(text) = self.drawing.as_deref()?;
        let lines: Vec<&str> = text.lines().take(2).map(str::trim).collect();
        Some(lines.join(" ").replace("error: ", ""))
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        self
    }

    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// In the foreground the exit code belongs to the command, so that a failure of qwex is 125. What a policy or a
    /// rule refuses was never begun, like a command line that cannot be read: that stays 2.
    #[must_use]
    pub fn in_foreground(mut self) -> Self {
        let is_refusal = matches!(self.code, Some("policy" | "content_rule"));
        if self.exit != Exit::Quiet && !is_refusal {
            self.exit = Exit::Qwex;
        }
        self
    }

    /// Where the exit code 1 means that something differs.
    #[must_use]
    pub fn of_comparison(mut self) -> Self {
        if self.exit == Exit::Failure {
            self.exit = Exit::Qwex;
        }
        self
    }

    /// Several lines for people, without colour; control characters of foreign words are escaped.
    #[must_use]
    pub fn text(&self) -> String {
        let plain = Style::new();
        self.styled(plain, plain)
    }

    fn styled(&self, head: Style, dim: Style) -> String {
        let mut text = format!("{head}error:{head:#} {}\n", one_line(&self.what));
        let mut line = |name: &str, words: &str| {
            writeln!(text, "  {dim}{name}:{dim:#} {}", one_line(words)).expect("a String takes every write");
        };
        if let Some(why) = &self.why {
            line("why", why);
        }
        if let Some(Drawing(drawing)) = self.drawing.as_deref() {
            writeln!(text, "{drawing}\n").expect("a String takes every write");
        }
        let mut line = |name: &str, words: &str| {
            writeln!(text, "  {dim}{name}:{dim:#} {}", one_line(words)).expect("a String takes every write");
        };
        for fix in &self.fix {
            line("fix", fix);
        }
        if let Some(code) = &self.code {
            line("code", code);
        }
        if let Some(request_id) = &self.request_id {
            line("request", request_id);
        }
        text
    }

    /// Writes it to stderr, unless there is nothing to tell.
    pub fn print(&self) {
        if self.exit != Exit::Quiet {
            let red = AnsiColor::Red.on_default().bold();
            anstream::eprint!("{}", self.styled(red, Style::new().dimmed()));
        }
    }
}

impl From<io::Error> for CliError {
    /// Writing our output failed.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Quiet, "the reader of the output went away");
        }
        Self::new(Exit::Failure, "the output cannot be written")
            .why(error.to_string())
            .fix("see whether the disk is full, or what reads the output")
            .code("output")
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Problem { problem, .. } => from_problem(*problem),
            ApiError::Unreachable { server, message } => {
                Self::new(Exit::Unavailable, format!("the server {server} does not answer"))
                    .why(message)
                    .fix("check that it runs: `qwexcloud dev` starts one on this machine")
                    .fix("check the address: `qwexctl config view --origin` shows where it comes from")
                    .code("unreachable")
            }
            ApiError::Untrusted { server, message } => Self::new(
                Exit::Unavailable,
                format!("the certificate of {server} is not trusted here"),
            )
            .why(message)
            .fix("if the server has a CA of its own, set SSL_CERT_FILE to that CA's certificate")
            .fix("check that the name in the address is the one in the certificate")
            .code("untrusted"),
            ApiError::Cut { server, message } => {
                Self::new(Exit::Unavailable, format!("the connection to {server} broke"))
                    .why(message)
                    .fix("try again; nothing was lost")
                    .code("connection_cut")
            }
            ApiError::Foreign {
                server,
                status,
                message,
            } => Self::new(
                Exit::Unavailable,
                format!("{server} answered {status}, but not like qwexcloud"),
            )
            .why(message)
            .fix("check the address: `qwexctl config view --origin` shows where it comes from")
            .code("foreign_answer"),
            ApiError::BadAddress { server, message } => {
                Self::usage(format!("{server:?} is not the address of a server"))
                    .why(message)
                    .fix("write it like http://127.0.0.1:8080 or https://qwex.example.com")
            }
            ApiError::Setup { message } => Self::new(Exit::Failure, "no HTTP client can be made here")
                .why(message)
                .fix("install CA certificates (package ca-certificates) or set SSL_CERT_FILE")
                .code("http_client"),
        }
    }
}

impl From<DirectError> for CliError {
    fn from(error: DirectError) -> Self {
        match error {
            DirectError::Store(error) => from_store(&error),
            DirectError::Runner(error) => from_runner(&error),
            DirectError::NotInKubeconfig { missing, known } => {
                Self::new(Exit::NotFound, format!("the kubeconfig has no {missing}"))
                    .fix(format!("name one that it has: {known}"))
                    .fix("or name the kubeconfig that has it: KUBECONFIG=FILE")
                    .code("not_in_kubeconfig")
            }
            DirectError::Unkept { id, ref why } => {
                let told = Self::new(Exit::Failure, format!("run {id} is not kept")).why(why.to_string());
                match why {
                    Unkept::Foreign { .. } => told
                        .fix(format!(
                            "start it anew, as yours, if you trust it: `qwexctl rerun {id}`"
                        ))
                        .fix(format!("remove its record: `qwexctl rm --force {id}`")),
                    Unkept::Failing { .. } => told
                        .fix("mend what that line says; all of them are in keeper.log beside the record")
                        .fix(format!(
                            "give it up and remove its record: `qwexctl rm --force {id}`"
                        )),
                }
                .code("run_not_kept")
            }
            DirectError::Unstored { id, ref why } => Self::new(
                Exit::Conflict,
                format!("run {id} is over, but not all of it is stored here"),
            )
            .why(why.clone())
            .fix(format!(
                "wait until it is, or have its outputs brought: `qwexctl outputs {id}`"
            ))
            .fix(format!(
                "give up what is missing, also where it ran: `qwexctl rm --force {id}`"
            ))
            .code("wrong_state"),
            DirectError::Told(_) => Self::new(Exit::Failure, error.to_string())
                .fix("try again; nothing of it was recorded here")
                .code("record_mismatch"),
            DirectError::Output { source } => source.into(),
            DirectError::Surroundings { .. } => Self::new(Exit::Failure, error.to_string())
                .fix("see that qwexctl is where it was, and the directory is there")
                .code("surroundings"),
            DirectError::Key { source } => {
                Self::new(Exit::Failure, "there is no place for the key that marks runs as yours")
                    .why(source.to_string())
                    .fix(MEND_KEY)
                    .code("surroundings")
            }
            DirectError::Stopping { id } => Self::new(
                Exit::Conflict,
                format!("run {id} is cancelled, but has not ended yet"),
            )
            .why(
                "its supervisor still ends it; a process that waits in the kernel (state D in `ps`), for a network file \
                 system that is away for instance, ends only when that answers",
            )
            .fix(format!("wait until it has: `qwexctl cancel --wait {id}`, then remove it"))
            .fix(format!(
                "if it hangs, see on what: `ps -eo pid,stat,wchan:32,args`; mend that or restart the machine, then: \
                 `qwexctl rm {id}`"
            ))
            .code("wrong_state"),
        }
    }
}

/// What helps where an id is taken.
const NEW_ID: &str = "leave --id out, so that a new one is made";

/// What mends a place for the user's key. Of runs and of pipelines alike.
pub const MEND_KEY: &str = "mend that, or name another place, a directory that is yours alone, by its absolute path: QWEX_STATE_DIR=/DIR";

/// What mends a directory of records that cannot be used.
pub const MEND_DIRECTORY: &str =
    "see that the directory is yours to write, that its disk has room, and that it is no read-only one";

/// Of runs and of pipelines alike.
pub fn from_store(error: &StoreError) -> CliError {
    let (exit, code) = match error {
        StoreError::NotFound { .. } => (Exit::NotFound, "not_found"),
        StoreError::Ambiguous { .. } => (Exit::Conflict, "ambiguous"),
        StoreError::Conflict { .. } => (Exit::Conflict, "run_id_taken"),
        StoreError::Active { .. } => (Exit::Conflict, "wrong_state"),
        StoreError::Io { .. } => (Exit::Failure, "run_store"),
        StoreError::Foreign { .. } => (Exit::Forbidden, "foreign_directory"),
        StoreError::Damaged { .. } => (Exit::Failure, "run_damaged"),
        StoreError::Newer { .. } => (Exit::Failure, "run_newer"),
    };
    let fix = match error {
        StoreError::Io { .. } => MEND_DIRECTORY.to_owned(),
        StoreError::NotFound { .. } => "see what is here: `qwexctl ps --local`".to_owned(),
        StoreError::Ambiguous { .. } => "type more of the id".to_owned(),
        StoreError::Conflict { .. } => NEW_ID.to_owned(),
        StoreError::Active { id } => format!("wait for its end, or cancel it: `qwexctl cancel {id}`"),
        StoreError::Damaged { .. } => {
            "bring it back from a copy, or remove the run: `qwexctl rm RUN`".to_owned()
        }
        StoreError::Newer { .. } => "use that version of qwexctl".to_owned(),
        StoreError::Foreign { path, .. } => {
            let project = path.parent().unwrap_or(path).display();
            format!(
                "make it yours: `chown -R`; or, if you trust whoever wrote it: QWEX_SAFE_DIRECTORY={project}"
            )
        }
    };
    let told = CliError::new(exit, error.to_string()).code(code).fix(fix);
    match std::error::Error::source(error) {
        Some(source) => told.why(source.to_string()),
        None => told,
    }
}

fn from_runner(error: &RunnerError) -> CliError {
    let (exit, code) = match error {
        RunnerError::Rejected { .. } => (Exit::Usage, "rejected"),
        RunnerError::Unsupported { .. } => (Exit::Usage, "unsupported"),
        RunnerError::NameConflict { .. } => (Exit::Conflict, "name_conflict"),
        RunnerError::NotFound { .. } => (Exit::NotFound, "not_found"),
        RunnerError::Unauthorized { .. } => (Exit::Forbidden, "unauthorized"),
        RunnerError::NoConnection { .. }
        | RunnerError::Unreachable { .. }
        | RunnerError::Throttled { .. } => (Exit::Unavailable, "unavailable"),
        RunnerError::PositionGone { .. } | RunnerError::Failed { .. } => (Exit::Failure, "backend_failed"),
    };
    let fix = match error {
        RunnerError::Rejected { .. } | RunnerError::Unsupported { .. } => {
            "do as it says, or take another backend: `qwexctl doctor` shows which work here"
        }
        RunnerError::NameConflict { .. } => NEW_ID,
        RunnerError::NotFound { .. } => "see what is recorded of it: `qwexctl describe RUN`",
        RunnerError::Unauthorized { .. }
        | RunnerError::NoConnection { .. }
        | RunnerError::Unreachable { .. } => "`qwexctl doctor` says what to do about each backend",
        RunnerError::Throttled { .. } | RunnerError::PositionGone { .. } | RunnerError::Failed { .. } => {
            "try again in a moment; `qwexctl doctor` shows what works here"
        }
    };
    CliError::new(exit, "the backend refused or failed")
        .why(error.to_string())
        .fix(fix)
        .code(code)
}

/// The exit code of a problem document.
fn exit_of(code: ErrorCode, status: u16) -> Exit {
    match (code, status) {
        (ErrorCode::IdempotencyMismatch, _) => Exit::Conflict,
        (ErrorCode::ClusterCheckFailed | ErrorCode::EndpointRefused, _) => Exit::Failure,
        (_, 400 | 413 | 415 | 422 | 405) => Exit::Usage,
        (_, 401) => Exit::NotLoggedIn,
        (_, 403) => Exit::Forbidden,
        (_, 404) => Exit::NotFound,
        (_, 409 | 412) => Exit::Conflict,
        (_, 408 | 504) => Exit::Timeout,
        (_, 429 | 502 | 503) => Exit::Unavailable,
        _ => Exit::Failure,
    }
}

fn from_problem(problem: Problem) -> CliError {
    let exit = exit_of(problem.code, problem.status);
    let mut error = CliError::new(exit, problem.title)
        .why(problem.detail.clone())
        .code(problem.code.as_str());
    // One bad field is told by the detail already.
    let told = |field: &&FieldProblem| !problem.detail.contains(&field.detail);
    for field in problem.errors.iter().filter(told) {
        error = error.fix(format!("{}: {}", field.pointer, field.detail));
    }
    if let Some(hint) = problem.hint {
        error = error.fix(hint);
    }
    if error.fix.is_empty() && problem.retryable && problem.code != ErrorCode::Internal {
        error = error.fix("try again in a moment");
    }
    if error.fix.is_empty() {
        error = error.fix(usual_fix(problem.code));
    }
    error.request_id = Some(problem.instance.into_boxed_str()).filter(|id| !id.is_empty());
    error
}

/// What helps most of the time, where the server says nothing better.
fn usual_fix(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthenticated | ErrorCode::TokenExpired => {
            "log in: `qwexctl auth login --with-token < token-file`, or set QWEX_TOKEN"
        }
        ErrorCode::Forbidden => "`qwexctl auth status` shows your role; ask an admin of the project for more",
        ErrorCode::NotFound => "check the name and the project: `qwexctl auth status`, `--project NAME`",
        ErrorCode::AlreadyExists => "choose another name",
        ErrorCode::RunIdTaken | ErrorCode::IdempotencyMismatch => NEW_ID,
        ErrorCode::Internal => {
            "tell the people who run the server; the request id finds the cause in its log"
        }
        ErrorCode::InvalidField | ErrorCode::InvalidParameter => {
            "change that value: `qwexctl help spec` tells what each field takes, `qwexctl cluster ls` which clusters there are"
        }
        ErrorCode::InvalidBody
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::MethodNotAllowed
        | ErrorCode::Unknown => "see whether the versions fit: `qwexctl doctor`",
        ErrorCode::InvalidCursor => "begin anew, without the cursor",
        ErrorCode::BodyTooLarge => "send less: large files belong into an image or a volume",
        ErrorCode::Ambiguous => "type more of the id",
        ErrorCode::InUse | ErrorCode::WrongState => {
            "see how it is now, and wait for it: `qwexctl get RUN`, `qwexctl wait RUN`"
        }
        ErrorCode::PreconditionFailed => "look at it again: somebody changed it meanwhile",
        ErrorCode::ClusterCheckFailed => {
            "mend what the checks name; deploy/k8s/rbac.yaml of qwex has the rights that a cluster must grant"
        }
        ErrorCode::EndpointRefused => {
            "name a public https address, or ask whoever runs the server to allow it"
        }
        ErrorCode::IdempotencyInFlight
        | ErrorCode::LogUnavailable
        | ErrorCode::RateLimited
        | ErrorCode::Timeout
        | ErrorCode::Unavailable => "try again in a moment",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_an_exit_code_of_the_table() {
        for code in ErrorCode::ALL {
            let error = from_problem(Problem::new(*code, "because", "req-1"));
            assert!((1..=9).contains(&error.exit.code()), "{}", code.as_str());
            assert_eq!(error.request_id.as_deref(), Some("req-1"));
            assert!(!error.fix.is_empty(), "{}", code.as_str());
        }
    }

    #[test]
    fn says_what_why_fix_code_and_request() {
        let mut problem = Problem::new(ErrorCode::NotFound, "no run 0199", "req-7");
        problem.hint = Some("list them with ps".to_owned());
        let text = from_problem(problem).text();
        assert_eq!(
            text,
            "error: There is no such object\n  why: no run 0199\n  fix: list them with ps\n  code: not_found\n  request: req-7\n"
        );
    }

    #[test]
    fn foreign_words_cannot_move_the_cursor() {
        let text = CliError::new(Exit::Failure, "bad \x1b[2J name")
            .why("two\nlines")
            .text();
        assert!(!text.contains('\x1b') && text.contains("two\\nlines"), "{text}");
    }

    #[test]
    fn a_closed_pipe_is_no_news() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.exit.code(), 141);
        assert_eq!(error.in_foreground().exit, Exit::Quiet);
    }
}
