//! The logs of a container, stdout and stderr apart, to the byte: through the engine's API, or from podman's own file,
//! whose API does not tell whether the last line had an end.

mod api;
mod cuts;
mod file;
mod lines;

pub use cuts::Cuts;

use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::BoxStream;
use qwex_core::EpisodeId;
use qwex_runner::{LogItem, LogPosition, LogSource, RunnerError};

use crate::backend::Inner;
use crate::engine::Flavor;
use crate::observe::View;

/// The two streams of a command without a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

/// A reader's place: of which container, which stream.
#[derive(Debug, Clone)]
pub struct Subject {
    pub container: String,
    pub stream: Stream,
}

/// The logs of a container whose command was begun.
pub fn sources(view: &View) -> Vec<LogSource> {
    let started = view
        .container
        .as_ref()
        .filter(|container| container.was_started());
    let Some(container) = started else {
        return Vec::new();
    };
    let source = |stream: Stream| LogSource {
        run_id: view.key.run_id,
        attempt: view.key.attempt,
        episode: EpisodeId(container.id.clone()),
        stream: stream.name().to_owned(),
        locator: container.id.clone(),
    };
    Stream::ALL.into_iter().map(source).collect()
}

/// Reads a log from `from`; with `follow` until the container has ended and all was read.
pub async fn read(
    inner: Arc<Inner>,
    source: &LogSource,
    from: LogPosition,
    follow: bool,
) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
    let stream = Stream::named(&source.stream).ok_or_else(|| RunnerError::NotFound {
        message: format!("a container has no log stream {:?}", source.stream),
    })?;
    let subject = Subject {
        container: source.locator.clone(),
        stream,
    };
    let container = subject.inspect(&inner).await?;
    let flavor = inner.link.client().await?.flavor;
    let path = container.log_path.map(PathBuf::from);
    let readable = path.filter(|path| flavor == Flavor::Podman && std::fs::File::open(path).is_ok());
    Ok(match readable {
        Some(path) => file::read(inner, subject, path, from, follow),
        None => api::read(inner, subject, from, follow),
    })
}

impl Subject {
    async fn inspect(&self, inner: &Inner) -> Result<crate::snapshot::Snapshot, RunnerError> {
        let found = inner.inspect(&self.container).await?;
        found.ok_or_else(|| RunnerError::NotFound {
            message: format!(
                "container {} is not there any more, and its log with it",
                self.container
            ),
        })
    }
}
