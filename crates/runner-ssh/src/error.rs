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
                 (`ssh-keygen -R {host}`) and connect once by hand (`{}`). ssh says: {}",
                config.by_hand(""),
                one_line(said)
            )
        } else {
            format!(
                "the host key of {host} is not known yet; connect once by hand to check and accept it \
                 (`{}`). ssh says: {}",
                config.by_hand(""),
                one_line(said)
            )
        };
        return RunnerError::Unauthorized { message };
    }
    if said.contains("Permission denied") || said.contains("Too many authentication failures") {
        return RunnerError::Unauthorized {
            message: format!(
                "{host} refuses the login; nothing is ever asked for here, so a key without a passphrase or \
                 one held by an agent is needed (`{} true` has to work). ssh says: {}",
                config.by_hand("-o BatchMode=yes "),
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
        message: format!("no connection to {host}: {said}; {}", way_to(config, &said)),
    }
}

/// What to do where there is no way to a host.
fn way_to(config: &SshConfig, said: &str) -> String {
    let host = &config.host;
    let tried = format!("`{} true` has to work from here", config.by_hand(""));
    let file = config.config_file.as_ref().map(|file| file.display().to_string());
    let file = file.unwrap_or_else(|| "~/.ssh/config".to_owned());
    let port = host
        .rsplit_once(':')
        .filter(|(name, port)| !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()));
    if said.contains("Could not resolve hostname") {
        return match port {
            Some((name, port)) => format!("a port is named as in `ssh://{name}:{port}`"),
            None => {
                format!("check the name, or write a `Host {host}` with its `HostName` into {file}: {tried}")
            }
        };
    }
    if said.contains("Connection refused") {
        return format!("check that its sshd runs and listens on that port (`Port` in {file}): {tried}");
    }
    format!("see that it is up and that this network leads there (VPN, firewall, `ProxyJump`): {tried}")
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
        message: format!(
            "the connection to {} broke: {error}; see whether `{} true` answers",
            config.host,
            config.by_hand("")
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_the_way_a_way_out_is_named() {
        let told = |host: &str, said: &str| connecting(&SshConfig::new(host, "supervise"), said).to_string();
        let unknown = "ssh: Could not resolve hostname build1: Name or service not known";
        assert!(told("build1", unknown).contains("`Host build1`"));
        assert!(told("me@build1:22", unknown).ends_with("as in `ssh://me@build1:22`"));
        assert!(told("fe80::1", unknown).contains("check the name"));
        let refused = "ssh: connect to host build1 port 22: Connection refused";
        assert!(told("build1", refused).contains("sshd runs"));
        for said in [
            "",
            "no answer within 20s",
            "ssh: connect to host build1 port 22: No route to host",
        ] {
            assert!(
                told("build1", said).contains("`ssh build1 true` has to work"),
                "{said}"
            );
        }
        assert!(
            told("build1", "Permission denied (publickey).").contains("`ssh -o BatchMode=yes build1 true`")
        );
    }

    #[test]
    fn what_is_typed_by_hand_goes_the_same_way() {
        let mut config = SshConfig::new("build1", "supervise");
        config.config_file = Some("/c/ssh".into());
        config.identity_file = Some("/k/id".into());
        config.jump = vec!["a".to_owned(), "b".to_owned()];
        let key = connecting(&config, "Host key verification failed.");
        let told = "`ssh -F /c/ssh -i /k/id -J a,b build1`";
        assert!(key.to_string().contains(told), "{key}");
    }
}
