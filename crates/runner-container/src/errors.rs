//! What an engine's refusal means: for the caller ([`RunnerError`]), and for the run where an image cannot be had or a
//! command cannot begin. Engines say most of it only in the text of their messages.

use bollard::errors::Error;
use qwex_runner::RunnerError;

/// HTTP status of an engine's answer, if it answered.
pub fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The engine's own words.
pub fn message(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other => chain(other),
    }
}

/// An error with all its causes: "client error" alone helps nobody.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whether the call may have been carried out although no answer came.
pub fn is_unclear(error: &Error) -> bool {
    status(error).is_none() && !matches!(error, Error::DockerStreamError { .. })
}

pub fn is_not_found(error: &Error) -> bool {
    status(error) == Some(404)
}

/// podman answers 500 where Docker answers 409.
pub fn is_not_running(error: &Error) -> bool {
    let text = message(error);
    matches!(status(error), Some(409 | 500))
        && [
            "is not running",
            "can only kill running",
            "container state improper",
        ]
        .iter()
        .any(|words| text.contains(words))
}

/// The name is taken. podman 4 answers 500 for it.
pub fn is_name_taken(error: &Error) -> bool {
    match status(error) {
        Some(409) => true,
        Some(500) => message(error).contains("already in use"),
        Some(_) | None => false,
    }
}

/// The engine looked at a container that ended or was removed under its eyes; its next answer is whole. podman's inspect reads
/// `/proc/PID/cgroup`, and up to 4.3 fails where that process goes between the open and the read.
pub fn is_passing(error: &Error) -> bool {
    let text = message(error).to_lowercase();
    let has = |words: &str| text.contains(words);
    let ended = has("/proc/") && (has("no such process") || has("no such file or directory"));
    status(error) == Some(500)
        && (ended || has("cannot get cgroup path unless") || has("container has already been removed"))
}

/// Somebody removes it at this moment.
pub fn is_being_removed(error: &Error) -> bool {
    status(error) == Some(409) && message(error).contains("already in progress")
}

pub fn is_image_missing(error: &Error) -> bool {
    let text = message(error).to_lowercase();
    status(error) == Some(404) && (text.contains("no such image") || text.contains("image not known"))
}

/// As an error of the traits, for calls of which nothing more is known.
pub fn runner_error(error: &Error) -> RunnerError {
    let message = message(error);
    match status(error) {
        Some(400 | 422) => RunnerError::Rejected { message },
        Some(401 | 403) => RunnerError::Unauthorized { message },
        Some(404) => RunnerError::NotFound { message },
        Some(429) => RunnerError::Throttled {
            retry_after: None,
            message,
        },
        Some(_) => RunnerError::Failed { message },
        None => match error {
            Error::DockerStreamError { .. } | Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => {
                RunnerError::Failed { message }
            }
            _ => RunnerError::Unreachable { message },
        },
    }
}

/// Why a pull failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullTrouble {
    /// The registry has no such image, or none for this machine.
    Missing,
    /// The registry wants other credentials. Docker Hub says so for images that do not exist, too.
    Denied,
    RateLimit,
    /// The registry cannot be reached.
    Network,
    Other,
}

impl PullTrouble {
    pub fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&[
            "toomanyrequests",
            "too many requests",
            "rate limit",
            "status code 429",
            " 429",
        ]) {
            Self::RateLimit
        } else if has(&[
            "unauthorized",
            "authentication required",
            "denied",
            "no basic auth",
            "forbidden",
        ]) {
            Self::Denied
        } else if has(&[
            "no such host",
            "connection refused",
            "i/o timeout",
            "timeout exceeded",
            "network is unreachable",
            "no route to host",
            "connection reset",
            "tls handshake",
            "x509",
            "server gave http response",
            "unexpected eof",
            "server misbehaving",
            "bad gateway",
            "service unavailable",
            "internal server error",
        ]) {
            Self::Network
        } else if has(&[
            "manifest unknown",
            "not found",
            "no such image",
            "does not exist",
            "no matching manifest",
        ]) {
            Self::Missing
        } else {
            Self::Other
        }
    }

    /// Whether another try in a moment may go better.
    pub fn may_pass(self) -> bool {
        match self {
            Self::RateLimit | Self::Network => true,
            Self::Missing | Self::Denied | Self::Other => false,
        }
    }

    /// What is wrong and what to do about it.
    pub fn advice(self, registry: &str) -> String {
        match self {
            Self::Missing => {
                "no such image; check its name and tag, and that it is built for this machine".to_owned()
            }
            Self::Denied => format!(
                "the registry {registry} refuses our credentials, or has no such image; log in with `docker login \
                 {registry}` or `podman login {registry}`"
            ),
            Self::RateLimit => {
                format!("the registry {registry} asks us to slow down; log in to it, or try again later")
            }
            Self::Network => {
                format!("the registry {registry} cannot be reached; check its name and the network")
            }
            Self::Other => "the image cannot be pulled".to_owned(),
        }
    }
}

/// The exit code a shell would give for a command that could not begin.
pub fn start_exit_code(text: &str) -> i64 {
    let denied = ["permission denied", "exec format error", "is a directory"];
    let text = text.to_lowercase();
    if denied.iter().any(|words| text.contains(words)) {
        126
    } else {
        127
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as Docker 20.10, podman 4.3 and Docker Hub were heard to say them.
    #[test]
    fn h04_pull_troubles_are_told_apart() {
        for (text, wanted) in [
            (
                "manifest for busybox:nope not found: manifest unknown: manifest unknown",
                PullTrouble::Missing,
            ),
            (
                "initializing source docker://127.0.0.1:5000/a:1: reading manifest 1 in 127.0.0.1:5000/a: manifest unknown",
                PullTrouble::Missing,
            ),
            (
                "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                PullTrouble::Denied,
            ),
            (
                "Head \"http://127.0.0.1:5000/v2/a/manifests/1\": no basic auth credentials",
                PullTrouble::Denied,
            ),
            (
                "initializing source docker://127.0.0.1:5000/a:1: unable to retrieve auth token: invalid username/password: unauthorized: ",
                PullTrouble::Denied,
            ),
            (
                "toomanyrequests: You have reached your pull rate limit.",
                PullTrouble::RateLimit,
            ),
            (
                "error parsing HTTP 429 response body: invalid character 's'",
                PullTrouble::RateLimit,
            ),
            (
                "initializing source docker://a/b:1: too many requests to registry",
                PullTrouble::RateLimit,
            ),
            (
                "Get \"https://nosuch.invalid/v2/\": dial tcp: lookup nosuch.invalid on 10.0.0.53:53: no such host",
                PullTrouble::Network,
            ),
            (
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                PullTrouble::Network,
            ),
            (
                "no matching manifest for linux/amd64 in the manifest list entries",
                PullTrouble::Missing,
            ),
            ("archive/tar: invalid tar header", PullTrouble::Other),
        ] {
            assert_eq!(PullTrouble::of(text), wanted, "{text}");
        }
    }

    /// Texts of podman 4.3; what it cannot do at all is no race.
    #[test]
    fn h02_an_answer_about_a_container_that_ends_is_no_failure() {
        let said = |status_code, message: &str| Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        for text in [
            "read /proc/14186/cgroup: no such process",
            "open /proc/66223/cgroup: no such file or directory",
            "failed to obtain Container x stats: unable to load cgroup at : cannot get cgroup path unless container x is \
             running: container is stopped",
            "container x is not valid: container has already been removed",
        ] {
            assert!(is_passing(&said(500, text)), "{text}");
            assert!(!is_passing(&said(409, text)), "{text}");
        }
        for text in [
            "open /var/lib/containers/storage/x: no such file or directory",
            "can only kill running containers. x is in state exited: container state improper",
        ] {
            assert!(!is_passing(&said(500, text)), "{text}");
        }
    }

    #[test]
    fn start_errors_have_the_code_of_a_shell() {
        let text = "OCI runtime create failed: exec: \"x\": executable file not found in $PATH: unknown";
        assert_eq!(start_exit_code(text), 127);
        assert_eq!(
            start_exit_code("exec: \"/etc/passwd\": permission denied: unknown"),
            126
        );
    }
}
