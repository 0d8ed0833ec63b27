//! How a host is reached and what may be put there: [`SshConfig`] is everything, [`SshSettings`] what a
//! person may say of it.

use std::path::PathBuf;
use std::time::Duration;

use qwex_core::Span;
use serde::{Deserialize, Serialize};

use crate::words::encode;

/// Set-up of an ssh backend.
#[derive(Debug, Clone)]
pub struct SshConfig {
    /// As `ssh` takes it: a `Host` of the user's configuration, `user@host` or `ssh://user@host:port`.
    pub host: String,
    /// Directory of all runs on the host, absolute or below the home directory.
    pub remote_dir: String,
    /// Directory on the host for what can be had again: supervisors and copies of workspaces.
    pub cache_dir: String,
    /// Until a connection is refused as unreachable.
    pub connect_timeout: Duration,
    /// Until a question to a connected host counts as unanswered.
    pub answer_timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// How long released runs are kept on the host; whole days.
    pub retention: Duration,
    /// Another file than `~/.ssh/config`.
    pub config_file: Option<PathBuf>,
    /// A private key beside those of the user's configuration.
    pub identity_file: Option<PathBuf>,
    /// Hosts on the way there, the first one first; empty: as the user's configuration says.
    pub jump: Vec<String>,
    /// Where the sockets of shared connections are; `None`: a private directory of the user.
    pub control_dir: Option<PathBuf>,
    /// How long a connection that nobody uses stays open for the next command.
    pub keep_connection: Duration,
    pub supervisor: Supervisor,
}

/// What a person may set for a host, in a file; whatever is absent keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshSettings {
    /// See [`SshConfig::remote_dir`]; default `~/.qwex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_dir: Option<String>,
    /// See [`SshConfig::cache_dir`]; default `~/.cache/qwex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<String>,
    /// Default `~/.ssh/config` and the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// Default: those of the user's configuration and agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// Default: as the user's configuration says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jump: Vec<String>,
    /// Default 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    /// Default 20 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_timeout: Option<Span>,
    /// Default 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Rounded up to whole days; default 7 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Span>,
    /// Default 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_connection: Option<Span>,
    /// Default `program`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<SupervisorKind>,
}

/// The word for a [`Supervisor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorKind {
    /// This very program, copied to the host.
    Program,
    /// Nothing is copied there.
    Script,
}

/// Who owns a run on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supervisor {
    /// A program of this machine that supervises when called with `subcommand` and a directory. It is
    /// copied to the host once per version; where it cannot run, the script does.
    Program { path: PathBuf, subcommand: String },
    /// A POSIX shell script: nothing is installed.
    Script,
}

impl SshConfig {
    /// Both directories on the host, encoded for its shell.
    pub(crate) fn places(&self) -> [String; 2] {
        [&self.remote_dir, &self.cache_dir].map(|dir| encode(dir.as_bytes()))
    }

    /// With the defaults of a person's own machine; the supervisor is this very program.
    #[must_use]
    pub fn new(host: impl Into<String>, subcommand: &str) -> Self {
        Self {
            host: host.into(),
            remote_dir: "~/.qwex".to_owned(),
            cache_dir: "~/.cache/qwex".to_owned(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(10),
            retention: Duration::from_secs(7 * 24 * 3600),
            config_file: None,
            identity_file: None,
            jump: Vec::new(),
            control_dir: None,
            keep_connection: Duration::from_secs(60),
            supervisor: Supervisor::Program {
                path: PathBuf::from("/proc/self/exe"),
                subcommand: subcommand.to_owned(),
            },
        }
    }

    /// What a person types to reach the host as we do; `option` comes first, with a space behind it.
    #[must_use]
    pub fn by_hand(&self, option: &str) -> String {
        let mut line = format!("ssh {option}");
        if let Some(file) = &self.config_file {
            line.push_str(&format!("-F {} ", file.display()));
        }
        if let Some(file) = &self.identity_file {
            line.push_str(&format!("-i {} ", file.display()));
        }
        if !self.jump.is_empty() {
            line.push_str(&format!("-J {} ", self.jump.join(",")));
        }
        line + &self.host
    }

    /// The same with what a person set.
    #[must_use]
    pub fn with(mut self, settings: &SshSettings) -> Self {
        let set = |field: &mut Duration, span: Option<Span>| {
            if let Some(span) = span {
                *field = span.as_duration();
            }
        };
        set(&mut self.connect_timeout, settings.connect_timeout);
        set(&mut self.answer_timeout, settings.answer_timeout);
        set(&mut self.grace, settings.grace);
        set(&mut self.retention, settings.retention);
        set(&mut self.keep_connection, settings.keep_connection);
        if let Some(dir) = &settings.remote_dir {
            self.remote_dir.clone_from(dir);
        }
        if let Some(dir) = &settings.cache_dir {
            self.cache_dir.clone_from(dir);
        }
        if settings.config_file.is_some() {
            self.config_file.clone_from(&settings.config_file);
        }
        if settings.identity_file.is_some() {
            self.identity_file.clone_from(&settings.identity_file);
        }
        if !settings.jump.is_empty() {
            self.jump.clone_from(&settings.jump);
        }
        match settings.supervisor {
            Some(SupervisorKind::Script) => self.supervisor = Supervisor::Script,
            Some(SupervisorKind::Program) | None => {}
        }
        self
    }

    /// What is wrong with it, before anything is asked.
    pub(crate) fn problem(&self) -> Option<String> {
        let is_none = |host: &&String| {
            host.is_empty()
                || host.starts_with('-')
                || host.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        let host = &self.host;
        if let Some(host) = std::iter::once(host).chain(&self.jump).find(is_none) {
            return Some(format!(
                "{host:?} is no host for ssh; name one as in `ssh HOST`: a Host of ~/.ssh/config, user@host or \
                 ssh://user@host:port"
            ));
        }
        let dirs = [("remote_dir", &self.remote_dir), ("cache_dir", &self.cache_dir)];
        let (name, dir) = dirs
            .into_iter()
            .find(|(_, dir)| dir.is_empty() || dir.contains('\0'))?;
        Some(format!(
            "{name} of {host} is {dir:?}, which is no directory; name one that is absolute or below the home \
             directory there, such as ~/.qwex"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_counts_and_the_rest_stays() {
        let settings: SshSettings =
            serde_json::from_str(r#"{"remote_dir":"/scratch/me","grace":"1m","supervisor":"script"}"#)
                .unwrap();
        let config = SshConfig::new("build1", "supervise").with(&settings);
        assert_eq!(config.remote_dir, "/scratch/me");
        assert_eq!(config.grace, Duration::from_secs(60));
        assert_eq!(config.supervisor, Supervisor::Script);
        assert_eq!(config.cache_dir, SshConfig::new("build1", "supervise").cache_dir);
        let misspelt = serde_json::from_str::<SshSettings>(r#"{"remotedir":"/x"}"#).unwrap_err();
        assert!(misspelt.to_string().contains("remotedir"), "{misspelt}");
    }
}
