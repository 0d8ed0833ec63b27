//! The pod behind a log: whether it is still the same, whether its container runs, and its bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_core::EpisodeId;
use qwex_runner::{LogSource, RunnerError};

use super::reader::{Mark, parse_stamp};
use crate::decode::{ContainerStatus, PodView};
use crate::observe::has_run;
use crate::paths;
use crate::rest::{CallError, Rest, target};

/// How long a kubelet may take to report the end that its log stream showed.
const SETTLE: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_secs(3),
    Duration::from_secs(4),
];

/// `namespace/pod/container/restart`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Locator {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub restart: u32,
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            pod,
            container,
            restart,
        } = self;
        write!(f, "{namespace}/{pod}/{container}/{restart}")
    }
}

impl FromStr for Locator {
    type Err = RunnerError;

    fn from_str(text: &str) -> Result<Self, RunnerError> {
        let bad = || RunnerError::NotFound {
            message: format!("{text:?} is no address of a log (namespace/pod/container/restart)"),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let [namespace, pod, container, restart] = parts[..] else {
            return Err(bad());
        };
        let is_name = |name: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
        };
        if ![namespace, pod, container].into_iter().all(is_name) {
            return Err(bad());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
            restart: restart.parse().map_err(|_| bad())?,
        })
    }
}

/// The container whose log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    NotStarted,
    Running,
    Ended,
    /// The pod is not there any more, or another one is.
    Gone(String),
}

/// What one look at the pod tells.
pub(super) struct Seen {
    pub state: State,
    /// When the container whose log it is started, in whole seconds; `None`: it is another one by now, or it is not told.
    pub started_at: Option<Timestamp>,
    /// When it ended, likewise.
    pub ended_at: Option<Timestamp>,
}

impl State {
    fn without_start(self) -> Seen {
        Seen {
            state: self,
            started_at: None,
            ended_at: None,
        }
    }
}

/// An opened log.
pub(super) enum Open {
    Bytes(BoxStream<'static, Result<Bytes, CallError>>),
    /// There is no log of the container: not yet, or where it has ended, never.
    Unreadable(String),
    Gone(String),
}

pub(super) struct PodLog {
    rest: Rest,
    locator: Locator,
    episode: EpisodeId,
}

impl PodLog {
    pub fn new(rest: Rest, source: &LogSource) -> Result<Self, RunnerError> {
        Ok(Self {
            rest,
            locator: source.locator.parse()?,
            episode: source.episode.clone(),
        })
    }

    pub async fn look(&self) -> Result<Seen, RunnerError> {
        let Locator { namespace, pod, .. } = &self.locator;
        let found = match self.rest.get::<PodView>(&paths::pod(namespace, pod)).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                return Ok(State::Gone(self.gone("is gone")).without_start());
            }
            Err(error) => return Err(error.into()),
        };
        if found.metadata.uid != self.episode.0 {
            let why = self.gone("was replaced by another of that name");
            return Ok(State::Gone(why).without_start());
        }
        if !has_run(&found) {
            let state = if found.has_ended() {
                State::Ended
            } else {
                State::NotStarted
            };
            return Ok(state.without_start());
        }
        let main = found.main();
        let restarted = main.is_some_and(|main| main.restart_count > self.locator.restart);
        let running = main.is_some_and(|main| main.state.running.is_some());
        let state = if running && !restarted {
            State::Running
        } else {
            State::Ended
        };
        let main = main.filter(|_| !restarted);
        let ended = main.and_then(|main| main.state.terminated.as_ref());
        Ok(Seen {
            state,
            started_at: main.and_then(ContainerStatus::started_at),
            ended_at: ended.and_then(|ended| ended.finished_at),
        })
    }

    fn gone(&self, what: &str) -> String {
        let Locator { namespace, pod, .. } = &self.locator;
        format!("pod {namespace}/{pod} {what}: what its log held since the last read cannot be had any more")
    }

    /// After a stream that was closed in good order: waits a little for the kubelet's report.
    pub async fn settle(&self) -> Result<Seen, RunnerError> {
        for pause in SETTLE {
            let seen = self.look().await?;
            if seen.state != State::Running {
                return Ok(seen);
            }
            tokio::time::sleep(pause).await;
        }
        self.look().await
    }

    /// Opens the log from a little before the mark. Parameters are written here: their rounding and
    /// the order of bytes matter.
    pub async fn open(&self, follow: bool, mark: Option<&Mark>) -> Result<Open, RunnerError> {
        let since = mark.map(Mark::since);
        let mut query = vec![("timestamps", "true")];
        if follow {
            query.push(("follow", "true"));
        }
        if let Some(since) = &since {
            query.push(("sinceTime", since.as_str()));
        }
        match self.rest.open(&self.url(&query)).await {
            Ok(bytes) => Ok(Open::Bytes(bytes.boxed())),
            Err(error) if error.is_not_found() => Ok(Open::Gone(self.gone("is gone"))),
            // `container "main" in pod "x" is waiting to start`
            Err(error) if error.refusal().is_some_and(|refusal| refusal.code == 400) => Ok(Open::Unreadable(
                format!("the cluster has no log of the container: {error}"),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// The stamp of the newest line.
    pub async fn newest_stamp(&self) -> Result<Option<Timestamp>, RunnerError> {
        self.stamp_by(("tailLines", "1")).await
    }

    /// The stamp of the first line that the node has at hand.
    pub async fn oldest_stamp(&self) -> Result<Option<Timestamp>, RunnerError> {
        self.stamp_by(("limitBytes", "64")).await
    }

    async fn stamp_by(&self, limit: (&str, &str)) -> Result<Option<Timestamp>, RunnerError> {
        let url = self.url(&[("timestamps", "true"), limit]);
        let line = self.rest.get_bytes(&url).await?;
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
        Ok(parse_stamp(&line[..end]))
    }

    fn url(&self, query: &[(&str, &str)]) -> String {
        let Locator {
            namespace,
            pod,
            container,
            ..
        } = &self.locator;
        let mut all = vec![("container", container.as_str())];
        all.extend_from_slice(query);
        target(&format!("{}/log", paths::pod(namespace, pod)), &all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_are_checked() {
        let text = "qwex-default/qwex-1-a1-xyz/main/0";
        assert_eq!(text.parse::<Locator>().unwrap().to_string(), text);
        for bad in [
            "",
            "a/b/c",
            "a/b/c/x",
            "a/../c/0",
            "a/b?x/c/0",
            "a/b/c/0/d",
            "a//c/0",
        ] {
            assert!(bad.parse::<Locator>().is_err(), "{bad}");
        }
    }
}
