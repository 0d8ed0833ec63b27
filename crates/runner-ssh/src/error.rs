//! What went wrong between here and a host, as the caller has to take it.

use std::io;
use std::time::Duration;

use qwex_runner::RunnerError;

use crate::config::SshConfig;

/// Why a connection was not made, from what `ssh` wrote.
pub fn connecting(config: &SshConfig, said: &str) -> RunnerError {
    let host = &config.host;
    let said = said.trim();
    let key = [
        "Host key verification failed",
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "host key is known",
    ];
    if key.iter().any(|words| said.contains(words)) {
        let message = if said.contains("HAS CHANGED") || said.contains("has changed") {
            format!(
                "the host key of {host} is not the one that is known: either the host was set up anew or \
                 somebody stands between. Nothing was sent. If you know why, remove the old key \
                 (`ssh-keygen -R {host}`) and connect once by hand (`ssh {host}`). ssh says: {}",
                one_line(said)
            )
        } else {
            format!(
                "the host key of {host} is not known yet; connect once by hand to check and accept it \
                 (`ssh {host}`). ssh says: {}",
                one_line(said)
            )
        };
        return RunnerError::Unauthorized { message };
    }
    if said.contains("Permission denied") || said.contains("Too many authentication failures") {
        return RunnerError::Unauthorized {
            message: format!(
                "{host} refuses the login; nothing is ever asked for here, so a key without a passphrase or \
                 one held by an agent is needed (`ssh -o BatchMode=yes {host} true` has to work). ssh says: {}",
                one_line(said)
            ),
        };
    }
    let said = if said.is_empty() {
        "no answer".to_owned()
    } else {
        one_line(said)
    };
    RunnerError::NoConnection {
        message: format!("no connection to {host}: {said}"),
    }
}

/// All sessions of all connections are taken.
pub fn crowded(config: &SshConfig) -> RunnerError {
    RunnerError::Throttled {
        retry_after: Some(Duration::from_secs(5)),
        message: format!(
            "{} allows no more sessions at a time (MaxSessions of its sshd) and no further connection",
            config.host
        ),
    }
}

/// A connection that was there and is not any more, or does not answer.
pub fn broken(config: &SshConfig, error: &io::Error) -> RunnerError {
    RunnerError::Unreachable {
        message: format!("the connection to {} broke: {error}", config.host),
    }
}

/// The host answers and says that it cannot.
pub fn refused(config: &SshConfig, message: &str) -> RunnerError {
    RunnerError::Failed {
        message: format!("{}: {message}", config.host),
    }
}

/// The host's name led to another machine than the one that the run is on (`THERE HERE`), of which we see the files and no
/// process. Nothing is known of the run.
pub fn elsewhere(config: &SshConfig, places: &str) -> RunnerError {
    let host = &config.host;
    let (there, here) = places.split_once(' ').unwrap_or((places, "another machine"));
    RunnerError::Unreachable {
        message: format!(
            "the run is on {there}, and {host} led to {here}, which sees its files and not its processes. Have {host} lead \
             to {there} (`HostName {there}` in ~/.ssh/config) and ask again; if there is no {there} any more, remove the \
             directory of the run below {} there",
            config.remote_dir
        ),
    }
}

/// The lines that say something, as one.
pub fn one_line(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.trim_matches(|c: char| c == '@' || c.is_whitespace() || c.is_control()))
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}
