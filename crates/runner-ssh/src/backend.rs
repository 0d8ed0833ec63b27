//! [`SshBackend`]: another machine as a backend. The traits over the parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use qwex_core::{BackendKind, JobSpec, Observation, SpecProblem};
use qwex_runner::{
    Backend, CancelProgress, Details, Feature, Handle, Key, LogItem, LogPosition, LogSource, Probe, Runner,
    RunnerError, SightingStream, Skew, Submitted, WatchPosition, Watcher, Work,
};

use crate::config::{SshConfig, SshSettings, Supervisor};
use crate::serve::{Binary, Host, Served};
use crate::snapshot::{Snapshot, Stage};
use crate::{cancel, collect, error, install, logs, submit, watch};

/// The word of `--backend`.
pub const NAME: &str = "ssh";

/// What a spec may ask for. Limits of memory, cpu and processes need rights that a login has not; they
/// are refused, because a limit that does not hold is worse than none.
pub const FEATURES: &[Feature] = &[Feature::Outputs, Feature::SeparateStreams];

/// Runs commands on another machine. Cheap to make and to clone: it connects when it is first asked
/// something, and all clones are one.
#[derive(Debug, Clone)]
pub struct SshBackend {
    served: Arc<Served>,
}

impl SshBackend {
    /// As a command line opens it: `address` is what the user calls the host, `subcommand` the hidden one
    /// by which this program supervises.
    ///
    /// # Errors
    /// No host is named, or it cannot be one.
    pub fn open(
        address: Option<&str>,
        subcommand: &str,
        settings: &SshSettings,
    ) -> Result<Self, RunnerError> {
        let host = address.ok_or_else(|| RunnerError::Rejected {
            message:
                "no host is named; say which, as in `--host HOST` with a Host of ~/.ssh/config or user@host"
                    .to_owned(),
        })?;
        Self::new(SshConfig::new(host, subcommand).with(settings))
    }

    /// # Errors
    /// The host, or a directory on it, cannot be one.
    pub fn new(config: SshConfig) -> Result<Self, RunnerError> {
        match config.problem() {
            Some(message) => Err(RunnerError::Rejected { message }),
            None => Ok(Self {
                served: Arc::new(Served::new(Arc::new(config))),
            }),
        }
    }

    /// The host as the user calls it; the same in `backend.address` of a run.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.config().host
    }

    #[must_use]
    pub fn config(&self) -> &SshConfig {
        self.served.config()
    }

    /// The attempt as it stands; `None` if it is not there or another took its place.
    async fn look(&self, handle: &Handle) -> Result<Option<Snapshot>, RunnerError> {
        let key = Key::of(handle);
        let replies = self.served.ask(&[format!("look {}", key.object())]).await?;
        let lines = replies.into_iter().next().unwrap_or_default().lines;
        let snapshot = Snapshot::read(self.config(), key, &lines)?;
        Ok(snapshot.filter(|snapshot| handle.is_about(snapshot.uid().as_ref())))
    }
}

#[async_trait]
impl Runner for SshBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Ssh
    }

    async fn submit(&self, work: &Work) -> Result<Submitted, RunnerError> {
        submit::submit(&self.served, work).await
    }

    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        cancel::cancel(&self.served, handle).await
    }

    async fn release(&self, handle: &Handle) -> Result<(), RunnerError> {
        cancel::release(&self.served, handle).await
    }
}

#[async_trait]
impl Watcher for SshBackend {
    /// The position is only a token: everything is read from the host anew.
    async fn watch(&self, _from: Option<WatchPosition>) -> Result<SightingStream, RunnerError> {
        Ok(watch::stream(self.served.clone()))
    }

    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        Ok(match self.look(handle).await? {
            Some(snapshot) => match &snapshot.stage {
                // A watch waits for the end, which comes by the shared files; who asks now is told.
                Stage::Elsewhere(places) => return Err(error::elsewhere(self.config(), places)),
                Stage::Unattended | Stage::Attended | Stage::Ended(_) | Stage::Lost { .. } => {
                    snapshot.observations(self.config())
                }
            },
            None => vec![watch::gone(Key::of(handle), handle.backend.uid.clone())],
        })
    }

    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        let snapshot = self.look(handle).await?;
        Ok(snapshot.map_or_else(Vec::new, |snapshot| logs::sources(&self.config().host, &snapshot)))
    }

    async fn read_log(
        &self,
        source: &LogSource,
        from: LogPosition,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
        logs::read(self.served.clone(), source, from, follow)
    }
}

#[async_trait]
impl Backend for SshBackend {
    fn name(&self) -> &str {
        NAME
    }

    fn features(&self) -> &[Feature] {
        FEATURES
    }

    fn validate(&self, spec: &JobSpec) -> Vec<SpecProblem> {
        let mut problems = qwex_runner::backend::unsupported(self.name(), FEATURES, spec);
        let invalid = submit::problems(spec)
            .into_iter()
            .map(|(pointer, detail)| SpecProblem {
                pointer,
                code: "invalid",
                detail,
            });
        problems.extend(invalid);
        problems
    }

    async fn probe(&self) -> Result<Probe, RunnerError> {
        let limit = self.config().connect_timeout + self.config().answer_timeout;
        let host = match tokio::time::timeout(limit, self.served.host()).await {
            Ok(host) => host?,
            Err(_) => {
                return Err(error::connecting(
                    self.config(),
                    &format!("no answer within {limit:?}"),
                ));
            }
        };
        Ok(Probe {
            version: None,
            detail: format!(
                "{}: {} {} {}, runs in {}/runs",
                self.config().host,
                host.node,
                host.system,
                host.machine,
                host.root
            ),
            notes: notes(self.config(), &host),
            skew: self.skew().await?,
        })
    }

    async fn details(&self, handle: &Handle) -> Result<Details, RunnerError> {
        let snapshot = self.look(handle).await?;
        let usage = match snapshot.map(|snapshot| snapshot.stage) {
            Some(Stage::Ended(end)) => end.usage(),
            Some(Stage::Unattended | Stage::Attended | Stage::Elsewhere(_) | Stage::Lost { .. }) | None => {
                None
            }
        };
        Ok(Details {
            image_digest: None,
            host: Some(self.served.host().await?.node),
            usage,
        })
    }

    async fn collect(
        &self,
        handle: &Handle,
        workspace: &Path,
        outputs: &[String],
    ) -> Result<Vec<PathBuf>, RunnerError> {
        collect::collect(&self.served, handle, workspace, outputs).await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), RunnerError> {
        cancel::remove(&self.served, handle).await
    }
}

impl SshBackend {
    /// The host's clock against ours, over a line that is there already; `None`: it has no `date` that we can read.
    async fn skew(&self) -> Result<Option<Skew>, RunnerError> {
        let before = Timestamp::now();
        let replies = self.served.ask(&["clock".to_owned()]).await?;
        let after = Timestamp::now();
        let told = replies.first().and_then(|reply| reply.find("clock"));
        Ok(told
            .and_then(read_clock)
            .map(|(theirs, step)| Skew::of(theirs, before, after).told_in(step)))
    }
}

/// Seconds since 1970 as `date +%s.%N` tells them, and the step that it tells them in: not every `date` knows parts of a
/// second.
fn read_clock(told: &str) -> Option<(Timestamp, SignedDuration)> {
    let (seconds, part) = told.split_once('.').unwrap_or((told, ""));
    let seconds: i64 = seconds.parse().ok()?;
    match part.parse() {
        Ok(nanoseconds) if part.len() == 9 => {
            let theirs = Timestamp::new(seconds, nanoseconds).ok()?;
            Some((theirs, SignedDuration::ZERO))
        }
        Ok(_) | Err(_) => {
            let theirs = Timestamp::from_second(seconds).ok()?;
            Some((theirs, SignedDuration::from_secs(1)))
        }
    }
}

/// What a person may want to know of how runs are supervised there.
fn notes(config: &SshConfig, host: &Host) -> Vec<String> {
    let why = match (&config.supervisor, install::foreign(host), &host.binary) {
        (Supervisor::Script, _, _) => Some("the configuration says so".to_owned()),
        (Supervisor::Program { .. }, Some(foreign), _) => Some(foreign),
        (Supervisor::Program { .. }, None, Binary::Bad(why)) => Some(why.clone()),
        (Supervisor::Program { .. }, None, Binary::Ready | Binary::Absent) => None,
    };
    let script = why.map(|why| {
        format!(
            "runs are supervised by a shell script ({why}): an end by signal N is told as exit code 128+N, and of \
             what was used the processor time alone"
        )
    });
    let missing = host.missing.as_ref().map(|missing| {
        format!("`{missing}` is missing, which the script needs; install it (util-linux has it)")
    });
    script.into_iter().chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_as_each_date_tells_it() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (exact, coarse) = (SignedDuration::ZERO, SignedDuration::from_secs(1));
        for (told, read) in [
            (
                "1767225600.500000000",
                Some((at("2026-01-01T00:00:00.5Z"), exact)),
            ),
            ("1767225600.%N", Some((at("2026-01-01T00:00:00Z"), coarse))),
            ("1767225600.N", Some((at("2026-01-01T00:00:00Z"), coarse))),
            ("1767225600.", Some((at("2026-01-01T00:00:00Z"), coarse))),
            ("1767225600", Some((at("2026-01-01T00:00:00Z"), coarse))),
            ("", None),
            (".5", None),
            ("date: bad", None),
            ("99999999999999999.0", None),
        ] {
            assert_eq!(read_clock(told), read, "{told}");
        }
    }
}
