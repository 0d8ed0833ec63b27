//! Machines that are reached over ssh, by the names of `config.yaml`: `ssh: { hosts: … }`. Only the user's and the
//! system's files may say what stands behind a name: a cloned repository must not lead a run to its own machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use qwex_core::Span;
use qwex_runner_ssh::{SshSettings, SupervisorKind};
use serde::Deserialize;

use super::file::ReadFile;
use crate::error::CliError;
use crate::project_file::{At, Complaint};

/// What a file says of ssh.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshSection {
    /// The host of runs that name none.
    pub default: Option<At<String>>,
    pub hosts: BTreeMap<String, At<HostSection>>,
}

/// One machine. What is absent keeps its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSection {
    /// As `ssh` takes it; default: the name itself.
    pub address: Option<At<String>>,
    /// Directory of all runs there.
    pub directory: Option<At<String>>,
    /// Directory there for what can be had again.
    pub cache: Option<At<String>>,
    /// From TERM to KILL.
    pub grace: Option<Span>,
    /// How long runs that are over are kept there.
    pub retention: Option<Span>,
    pub connect_timeout: Option<Span>,
    pub answer_timeout: Option<Span>,
    pub keep_connection: Option<Span>,
    pub program: Program,
    /// Private key.
    pub identity_file: Option<At<String>>,
    /// Machines on the way there.
    pub jump: Vec<At<String>>,
    /// Another file than `~/.ssh/config`.
    pub config_file: Option<At<String>>,
}

/// Who owns a run over there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// This program, where it can run there; else a script.
    #[default]
    Auto,
    Script,
}

/// A machine that was named or is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// As `ssh` takes it.
    pub address: String,
    pub settings: SshSettings,
}

/// Every configured machine.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    hosts: BTreeMap<String, HostSection>,
    default: Option<String>,
}

impl Hosts {
    /// The machines of all files; what the user says of a name beats the system.
    ///
    /// # Errors
    /// A value cannot be used.
    pub fn of(files: &[ReadFile]) -> Result<Self, CliError> {
        let mut all = Self::default();
        for file in files {
            let Some(section) = &file.file.ssh else { continue };
            let mut complaints: Vec<Complaint> = section
                .hosts
                .iter()
                .flat_map(|(name, host)| complaints(name, host))
                .collect();
            for (name, host) in &section.hosts {
                all.hosts.insert(name.clone(), host.value.clone());
            }
            if let Some(default) = &section.default {
                complaints.extend(all.unknown(default));
                all.default = Some(default.value.clone());
            }
            if !complaints.is_empty() {
                return Err(file.refused(&complaints));
            }
        }
        Ok(all)
    }

    fn unknown(&self, default: &At<String>) -> Option<Complaint> {
        if self.hosts.contains_key(&default.value) {
            return None;
        }
        let complaint = Complaint::new(
            &default.at,
            format!("the default host `{}` is not configured", default.value),
        );
        Some(complaint.or_meant(&default.value, self.names()).fix(format!(
            "add it: hosts: {{ {}: {{ address: … }} }}",
            default.value
        )))
    }

    /// In the order in which they are tried: the default one first.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let is_default = |name: &&String| Some(name.as_str()) == self.default.as_deref();
        let first = self.hosts.keys().filter(is_default);
        let rest = self.hosts.keys().filter(|name| !is_default(name));
        first.chain(rest).map(String::as_str).collect()
    }

    /// The machine of a word: a configured name, else whatever the word means to `ssh`. Without a word the default
    /// one, or the only one; `None`: there is none.
    ///
    /// # Errors
    /// There are several and none is the default.
    pub fn choose(&self, word: Option<&str>) -> Result<Option<Chosen>, CliError> {
        let name = match (word, &self.default) {
            (Some(word), _) => word,
            (None, Some(default)) => default,
            (None, None) => match self.names().as_slice() {
                [] => return Ok(None),
                [only] => only,
                several => return Err(which(several)),
            },
        };
        Ok(Some(match self.hosts.get(name) {
            Some(host) => host.chosen(name),
            None => Chosen {
                address: name.to_owned(),
                settings: SshSettings::default(),
            },
        }))
    }
}

fn which(names: &[&str]) -> CliError {
    CliError::usage("the backend ssh needs a host, and several are configured")
        .why(format!("there are {}", names.join(", ")))
        .fix(format!("name one: --host {}, or `host:` in qwex.yaml", names[0]))
        .fix("or set `ssh: { default: NAME }` in your config.yaml")
}

impl HostSection {
    fn chosen(&self, name: &str) -> Chosen {
        let text = |at: &Option<At<String>>| at.as_ref().map(|at| at.value.clone());
        Chosen {
            address: text(&self.address).unwrap_or_else(|| name.to_owned()),
            settings: SshSettings {
                remote_dir: text(&self.directory),
                cache_dir: text(&self.cache),
                config_file: text(&self.config_file).map(PathBuf::from),
                connect_timeout: self.connect_timeout,
                answer_timeout: self.answer_timeout,
                grace: self.grace,
                retention: self.retention,
                keep_connection: self.keep_connection,
                supervisor: match self.program {
                    Program::Auto => None,
                    Program::Script => Some(SupervisorKind::Script),
                },
                identity_file: text(&self.identity_file).map(PathBuf::from),
                jump: self.jump.iter().map(|at| at.value.clone()).collect(),
            },
        }
    }
}

fn complaints(name: &str, host: &At<HostSection>) -> Vec<Complaint> {
    let mut all = Vec::new();
    if !is_destination(name) || name.contains('/') {
        all.push(
            Complaint::new(&host.at, format!("`{name}` cannot name a host"))
                .fix("use letters, digits, `-`, `_` and `.`, and put the rest into its `address`"),
        );
    }
    for destination in host.value.address.iter().chain(&host.value.jump) {
        if !is_destination(&destination.value) {
            all.push(
                Complaint::new(
                    &destination.at,
                    format!("`{}` is no host for ssh", destination.value),
                )
                .fix("write it as in `ssh HOST`: a Host of ~/.ssh/config, user@host or ssh://user@host:port"),
            );
        }
    }
    for path in [&host.value.directory, &host.value.cache].into_iter().flatten() {
        let is_path = path.value.starts_with('/') || path.value.starts_with("~/");
        if !is_path || path.value.split('/').any(|part| part == "..") {
            all.push(
                Complaint::new(&path.at, format!("`{}` is no directory of a host", path.value))
                    .fix("write an absolute one, or one below the home directory there, such as ~/.qwex"),
            );
        }
    }
    all
}

/// Nothing that `ssh` would take for an option or for more than one word.
fn is_destination(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with('-')
        && !word.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::files_of;
    use super::*;

    fn hosts(system: &str, user: &str) -> Result<Hosts, CliError> {
        Hosts::of(&files_of(system, user)?)
    }

    #[test]
    fn a_name_brings_its_settings_and_any_other_word_is_sshs() {
        let hosts = hosts(
            "",
            "ssh:\n  hosts:\n    build1: { address: me@b1, directory: /scratch/me, grace: 30s, program: script, jump: [bastion] }\n",
        )
        .unwrap();
        let named = hosts.choose(Some("build1")).unwrap().unwrap();
        assert_eq!(named.address, "me@b1");
        assert_eq!(named.settings.remote_dir.as_deref(), Some("/scratch/me"));
        assert_eq!(named.settings.grace, Some(Span::from_secs(30)));
        assert_eq!(named.settings.supervisor, Some(SupervisorKind::Script));
        assert_eq!(named.settings.jump, ["bastion"]);
        // The only one needs no name.
        assert_eq!(hosts.choose(None).unwrap().unwrap(), named);
        let other = hosts.choose(Some("elsewhere")).unwrap().unwrap();
        assert_eq!(
            (other.address.as_str(), other.settings),
            ("elsewhere", SshSettings::default())
        );
    }

    #[test]
    fn several_need_a_default_or_a_name() {
        let two = "ssh: { hosts: { a: {}, b: {} } }\n";
        let error = hosts("", two).unwrap().choose(None).unwrap_err().text();
        assert!(
            error.contains("there are a, b") && error.contains("--host a"),
            "{error}"
        );
        let with = hosts(two, "ssh: { default: b, hosts: { a: { address: x } } }\n").unwrap();
        assert_eq!(with.choose(None).unwrap().unwrap().address, "b");
        assert_eq!(with.choose(Some("a")).unwrap().unwrap().address, "x");
        assert_eq!(with.names(), ["b", "a"]);
        assert!(Hosts::default().choose(None).unwrap().is_none());
    }

    #[test]
    fn what_no_host_can_be_is_told() {
        for (text, told) in [
            (
                "ssh: { default: c, hosts: { build: {} } }",
                "the default host `c` is not configured",
            ),
            (
                "ssh: { default: biuld, hosts: { build: {} } }",
                "did you mean `build`?",
            ),
            (
                "ssh: { hosts: { a: { address: -oProxyCommand=x } } }",
                "is no host for ssh",
            ),
            ("ssh: { hosts: { a: { jump: ['a b'] } } }", "is no host for ssh"),
            (
                "ssh: { hosts: { a: { directory: here } } }",
                "is no directory of a host",
            ),
            (
                "ssh: { hosts: { a: { cache: ~/../x } } }",
                "is no directory of a host",
            ),
            ("ssh: { hosts: { 'a b': {} } }", "cannot name a host"),
        ] {
            let error = hosts("", text).unwrap_err().text();
            assert!(error.contains(told), "{text}\n{error}");
        }
    }
}
