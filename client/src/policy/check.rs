//! Compares a run with what one file allows.

use std::path::{Path, PathBuf};

use globset::GlobMatcher;
use qwex_core::resources::{cpu_millis, memory_bytes};
use qwex_core::{JobSpec, MountKind};

use super::model::{PolicySection, Words};
use super::{images, paths};
use crate::config::file::Owner;
use crate::project_file::{At, Source};

const LOCAL: &str = "local";
const REMOTE: &str = "remote";
const SSH: &str = "ssh";
const ENGINES: [&str; 2] = ["docker", "podman"];
const CLUSTERS: [&str; 2] = ["k8s", "kueue"];
/// What an engine gives a container that asks for no network.
const USUAL_NETWORK: &str = "bridge";

/// A run that somebody wants to start.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The word of `--backend`.
    pub backend: &'a str,
    /// SSH host, kubeconfig context or engine address.
    pub address: Option<&'a str>,
    pub spec: &'a JobSpec,
    /// Absolute; `None`: the run sees no files of this machine.
    pub workspace: Option<&'a Path>,
}

impl Asked<'_> {
    /// The directory of this machine that the run works in.
    fn directory(&self) -> Option<PathBuf> {
        let workspace = self.workspace.filter(|_| self.backend != REMOTE)?;
        // Elsewhere the directory in which the command starts is one of another machine or of an image.
        let starts_in = self.spec.working_dir.as_deref().filter(|_| self.backend == LOCAL);
        Some(starts_in.map_or_else(|| workspace.to_owned(), |dir| workspace.join(dir)))
    }

    /// Whether the paths of its mounts are paths of this machine.
    fn mounts_from_here(&self) -> bool {
        let is_socket = |address: &str| address.starts_with('/') || address.starts_with("unix:");
        ENGINES.contains(&self.backend) && self.address.is_none_or(is_socket)
    }
}

/// Something in a run that a file forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer of the field of the run.
    pub pointer: String,
    /// One sentence without a full stop.
    pub what: String,
    /// `path:line` of what forbids it.
    pub place: String,
    /// What that line says, in words.
    pub rule: String,
    /// One way to mend it.
    pub fix: String,
    pub owner: Owner,
}

/// A list of what is allowed.
#[derive(Debug, Clone)]
struct List {
    line: usize,
    words: Vec<String>,
}

/// The most of something.
#[derive(Debug, Clone)]
struct Ceiling {
    line: usize,
    text: String,
    amount: u64,
}

/// What one file allows; absent: anything.
#[derive(Debug, Clone)]
pub struct Limits {
    backends: Option<List>,
    images: Option<(List, Vec<GlobMatcher>)>,
    kinds: Option<List>,
    paths: Option<List>,
    workspaces: Option<List>,
    networks: Option<List>,
    accounts: Option<List>,
    cpu: Option<Ceiling>,
    memory: Option<Ceiling>,
    gpu: Option<Ceiling>,
    pids: Option<Ceiling>,
    /// Milliseconds.
    timeout: Option<Ceiling>,
}

/// What is found, without the file that it was found in.
struct Found {
    pointer: String,
    what: String,
    line: usize,
    rule: String,
    fix: String,
}

impl Limits {
    /// Of a section without complaints.
    #[must_use]
    pub fn of(section: &PolicySection, source: Source<'_>) -> Self {
        let list = |words: &Words| {
            words.as_ref().map(|words| List {
                line: source.line(&words.at),
                words: words.value.iter().map(|word| word.value.clone()).collect(),
            })
        };
        let images = list(&section.images).map(|list| {
            let globs = list
                .words
                .iter()
                .filter_map(|word| images::glob(word).ok())
                .collect();
            (list, globs)
        });
        let quantity = |at: &Option<At<String>>, read: &dyn Fn(&str) -> Option<u64>| {
            let at = at.as_ref()?;
            Some(Ceiling {
                line: source.line(&at.at),
                text: at.value.clone(),
                amount: read(&at.value)?,
            })
        };
        let count = |at: &Option<At<u32>>| {
            at.as_ref().map(|at| Ceiling {
                line: source.line(&at.at),
                text: at.value.to_string(),
                amount: at.value.into(),
            })
        };
        let most = &section.resources;
        Self {
            backends: list(&section.backends),
            images,
            kinds: list(&section.mounts.kinds),
            paths: list(&section.mounts.paths),
            workspaces: list(&section.workspaces),
            networks: list(&section.networks),
            accounts: list(&section.service_accounts),
            cpu: quantity(&most.cpu, &|text| cpu_millis(text).ok()),
            memory: quantity(&most.memory, &|text| memory_bytes(text).ok()),
            gpu: count(&most.gpu),
            pids: count(&most.pids),
            timeout: section.timeout.as_ref().map(|at| Ceiling {
                line: source.line(&at.at),
                text: at.value.to_string(),
                amount: millis(at.value.as_duration()),
            }),
        }
    }

    /// Directories that mounts may come from.
    #[must_use]
    pub fn mount_paths(&self) -> Option<&Vec<String>> {
        self.paths.as_ref().map(|list| &list.words)
    }

    /// Everything in the run that is forbidden here.
    #[must_use]
    pub fn check(&self, asked: &Asked<'_>, owner: Owner, path: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        found.extend(self.backend(asked));
        found.extend(self.image(asked));
        found.extend(self.workspace(asked));
        found.extend(self.mounts(asked));
        found.extend(self.network(asked));
        found.extend(self.account(asked));
        found.extend(self.amounts(asked));
        let told = found.into_iter().map(|found| Violation {
            pointer: found.pointer,
            what: found.what,
            place: format!("{path}:{}", found.line),
            rule: found.rule,
            fix: found.fix,
            owner,
        });
        told.collect()
    }

    fn backend(&self, asked: &Asked<'_>) -> Option<Found> {
        let list = self.backends.as_ref()?;
        let backend = asked.backend;
        list.without(backend).then(|| {
            list.found("/backend", format!("the backend {backend}"), |words| {
                format!("choose one of them: --backend {}", words[0])
            })
        })
    }

    fn image(&self, asked: &Asked<'_>) -> Option<Found> {
        let (list, globs) = self.images.as_ref()?;
        let image = asked.spec.image.as_deref()?;
        (!images::is_among(image, globs)).then(|| {
            list.found("/image", format!("the image {image}"), |_| {
                "choose an image that one of these means".to_owned()
            })
        })
    }

    fn workspace(&self, asked: &Asked<'_>) -> Option<Found> {
        let list = self.workspaces.as_ref()?;
        let directory = asked.directory()?;
        (!paths::is_below(&directory, &list.words)).then(|| {
            let what = format!("work in the directory {}", directory.display());
            list.found("/workspace", what, |_| {
                "change to a directory below one of these, or name one: --workspace DIR".to_owned()
            })
        })
    }

    fn mounts(&self, asked: &Asked<'_>) -> Vec<Found> {
        let mut all = Vec::new();
        for (index, mount) in asked.spec.mounts.iter().enumerate() {
            let kind = mount.kind.as_str();
            if let Some(list) = self.kinds.as_ref().filter(|list| list.without(kind)) {
                let pointer = format!("/mounts/{index}/kind");
                all.push(list.found(&pointer, format!("mounts of kind {kind}"), |_| {
                    format!("take the mount of {} away", mount.target)
                }));
            }
            let (Some(list), MountKind::Bind, Some(source)) = (&self.paths, mount.kind, &mount.source) else {
                continue;
            };
            let source = Path::new(source);
            let (is_allowed, real) = if asked.mounts_from_here() {
                (paths::is_below(source, &list.words), paths::resolved(source))
            } else {
                (paths::is_below_by_name(source, &list.words), None)
            };
            if !is_allowed {
                let leads = real.filter(|real| real != source);
                let leads = leads.map(|real| format!(", which is {}", real.display()));
                let what = format!("mount {}{}", source.display(), leads.unwrap_or_default());
                let pointer = format!("/mounts/{index}/source");
                all.push(list.found(&pointer, what, |_| {
                    "mount a directory that lies, with all links followed, below one of these".to_owned()
                }));
            }
        }
        all
    }

    fn network(&self, asked: &Asked<'_>) -> Option<Found> {
        let list = self.networks.as_ref()?;
        let usual = ENGINES.contains(&asked.backend).then_some(USUAL_NETWORK);
        let network = asked.spec.network.as_deref().or(usual)?;
        list.without(network).then(|| {
            let what = match &asked.spec.network {
                Some(network) => format!("the network {network}"),
                None => format!("the network {network}, which a run gets that names none"),
            };
            list.found("/network", what, |words| {
                format!("choose one: --network {}", words[0])
            })
        })
    }

    fn account(&self, asked: &Asked<'_>) -> Option<Found> {
        let list = self.accounts.as_ref()?;
        let account = asked.spec.service_account.as_deref()?;
        list.without(account).then(|| {
            list.found(
                "/service_account",
                format!("the service account {account}"),
                |words| format!("choose one: --service-account {}", words[0]),
            )
        })
    }

    fn amounts(&self, asked: &Asked<'_>) -> Vec<Found> {
        let resources = &asked.spec.resources;
        let timeout = asked.spec.timeout;
        let is_cluster = CLUSTERS.contains(&asked.backend);
        // A server and a cluster have limits of their own for what a run does not say.
        let cpu = Amount {
            is_held: asked.backend != SSH,
            ..Amount::new("cpu", "--cpu", "/resources/cpu")
                .asked(resources.cpu_millis().ok().flatten(), resources.cpu.as_ref())
        };
        let memory = Amount {
            is_held: asked.backend != SSH,
            ..Amount::new("memory", "--memory", "/resources/memory")
                .asked(resources.memory_bytes().ok().flatten(), resources.memory.as_ref())
        };
        let gpu = Amount {
            may_be_unsaid: true,
            ..Amount::new("GPUs", "--gpu", "/resources/gpu")
                .asked(resources.gpu.map(u64::from), resources.gpu.as_ref())
        };
        let pids = Amount {
            may_be_unsaid: is_cluster,
            is_held: ENGINES.contains(&asked.backend),
            ..Amount::new("processes", "--pids", "/resources/pids")
                .asked(resources.pids.map(u64::from), resources.pids.as_ref())
        };
        let time = Amount::new("time", "--timeout", "/timeout").asked(
            timeout.map(|timeout| millis(timeout.as_duration())),
            timeout.as_ref(),
        );
        let all = [
            (&self.cpu, cpu),
            (&self.memory, memory),
            (&self.gpu, gpu),
            (&self.pids, pids),
            (&self.timeout, time),
        ];
        all.iter()
            .filter_map(|(most, amount)| amount.found(asked.backend, most.as_ref()?))
            .collect()
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl List {
    fn without(&self, word: &str) -> bool {
        !self.words.iter().any(|known| known == word)
    }

    /// `noun`: what is not allowed. `fix` is only asked if anything is.
    fn found(&self, pointer: &str, noun: String, fix: impl Fn(&[String]) -> String) -> Found {
        let (rule, fix) = if self.words.is_empty() {
            ("allows none".to_owned(), "leave it out".to_owned())
        } else {
            (format!("allows {}", self.words.join(", ")), fix(&self.words))
        };
        Found {
            pointer: pointer.to_owned(),
            what: format!("the policy does not allow {noun}"),
            line: self.line,
            rule,
            fix,
        }
    }
}

/// An amount of something, as a run asks for it.
struct Amount {
    noun: &'static str,
    flag: &'static str,
    pointer: &'static str,
    asked: Option<u64>,
    text: Option<String>,
    /// A run that says nothing has none of it, or is limited by others.
    may_be_unsaid: bool,
    /// Whether the backend has such a limit.
    is_held: bool,
}

impl Amount {
    /// One that every run should ask for, and every backend can hold it to.
    fn new(noun: &'static str, flag: &'static str, pointer: &'static str) -> Self {
        Self {
            noun,
            flag,
            pointer,
            asked: None,
            text: None,
            may_be_unsaid: false,
            is_held: true,
        }
    }

    /// `text`: as it was written.
    fn asked(self, asked: Option<u64>, text: Option<&impl ToString>) -> Self {
        Self {
            asked,
            text: text.map(ToString::to_string),
            ..self
        }
    }

    fn found(&self, backend: &str, most: &Ceiling) -> Option<Found> {
        let no_more = || format!("ask for no more: {} {}", self.flag, most.text);
        let (pointer, what, fix) = match (self.asked, &self.text) {
            (Some(asked), _) if asked <= most.amount => return None,
            (Some(_), text) => {
                let text = text.as_deref().unwrap_or_default();
                let what = format!("the policy does not allow {text} of {}", self.noun);
                (self.pointer, what, no_more())
            }
            (None, _) if self.may_be_unsaid || backend == REMOTE => return None,
            (None, _) if !self.is_held => {
                let what = format!(
                    "the policy limits {}, and the backend {backend} cannot hold a run to that",
                    self.noun
                );
                ("/backend", what, "choose another backend".to_owned())
            }
            (None, _) => {
                let what = format!("the run sets no limit of {}, and the policy has one", self.noun);
                (self.pointer, what, no_more())
            }
        };
        Some(Found {
            pointer: pointer.to_owned(),
            what,
            line: most.line,
            rule: format!("allows at most {}", most.text),
            fix,
        })
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
