//! Reads a log to its end as every caller of a backend does: what passes is endured, and reading goes on behind the last
//! chunk. Used by the laws, and by what backends test of logs beyond them.

use std::time::Duration;

use futures::StreamExt;

use super::Verdict;
use crate::backend::Backend;
use crate::error::RunnerError;
use crate::log::{LogItem, LogPosition, LogSource};

/// Before what got no answer is asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// Hands over what is read from a position on, up to the end; gives the position behind it.
///
/// # Errors
/// What the backend says but that it cannot be reached, an end that is not told, and what `take` says.
pub async fn to_the_end(
    backend: &dyn Backend,
    source: &LogSource,
    from: LogPosition,
    mut take: impl FnMut(&LogItem) -> Verdict,
) -> Result<LogPosition, String> {
    let mut at = from;
    // A gap that was told before the reading broke off, with nothing behind it, is told again.
    let mut told = None;
    loop {
        let error = match backend.read_log(source, at.clone(), true).await {
            Err(error) => error,
            Ok(mut items) => loop {
                let item = match items.next().await {
                    Some(Ok(item)) => item,
                    Some(Err(error)) => break error,
                    None => return Err("a log that is followed is closed by End".to_owned()),
                };
                let again = match &item {
                    LogItem::Chunk(chunk) => {
                        at = chunk.position.clone();
                        false
                    }
                    LogItem::Gap { .. } => told.replace(at.clone()).is_some_and(|before| before == at),
                    LogItem::End => false,
                };
                if !again {
                    take(&item)?;
                }
                if item == LogItem::End {
                    return Ok(at);
                }
            },
        };
        endure(&error).await?;
    }
}

async fn endure(error: &RunnerError) -> Verdict {
    if !error.is_blind() {
        return Err(format!("read_log: {error}"));
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// All that was heard of a log whose command emptied it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub gaps: Vec<String>,
    /// The position behind it.
    pub at: LogPosition,
}

impl Heard {
    /// For whoever reads why a law is broken.
    #[must_use]
    pub fn words(&self) -> String {
        let tail = &self.bytes[self.bytes.len().saturating_sub(16)..];
        let tail = String::from_utf8_lossy(tail);
        format!(
            "{} bytes, the last are {tail:?}, gaps {:?}",
            self.bytes.len(),
            self.gaps
        )
    }
}

/// Reads on from a position to the end; `each` hears every item.
///
/// # Errors
/// As [`to_the_end`], and a gap that has another cause.
pub async fn hear(
    backend: &dyn Backend,
    source: &LogSource,
    from: LogPosition,
    mut each: impl FnMut(&LogItem),
) -> Result<Heard, String> {
    let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
    let take = |item: &LogItem| {
        each(item);
        match item {
            LogItem::Chunk(chunk) => bytes.extend_from_slice(&chunk.bytes),
            LogItem::Gap { message } if message.contains("emptied its own log") => gaps.push(message.clone()),
            LogItem::Gap { message } => return Err(format!("another gap: {message}")),
            LogItem::End => {}
        }
        Ok(())
    };
    let at = to_the_end(backend, source, from, take).await?;
    Ok(Heard { bytes, gaps, at })
}

/// What a command writes that empties its own log at once, and one that only writes on to it.
pub const SPOILT: &str = "head -c 5000 /dev/zero | tr '\\0' a; echo x > /dev/stdout";
pub const KEPT: &str = "head -c 5000 /dev/zero | tr '\\0' a; echo x >> /dev/stdout; echo y >&1";

/// A command that waits for whoever reads its log: it empties it once its first 5000 bytes were read, and goes on once
/// what came then was.
pub struct InStep {
    go: [std::path::PathBuf; 2],
    count: usize,
}

impl InStep {
    /// Files in `dir`, which the command sees too, tell it to go on.
    #[must_use]
    pub fn new(dir: &std::path::Path) -> Self {
        Self {
            go: ["one", "two"].map(|name| dir.join(name)),
            count: 0,
        }
    }

    /// What it is, for a shell.
    #[must_use]
    pub fn script(&self) -> String {
        let [one, two] = self
            .go
            .each_ref()
            .map(|file| format!("until [ -e {} ]; do sleep 0.02; done", file.display()));
        format!("head -c 5000 /dev/zero | tr '\\0' a; {one}; echo x > /dev/stdout; {two}; echo y")
    }

    /// Lets it go on after what was read.
    ///
    /// # Panics
    /// The directory cannot be written.
    pub fn note(&mut self, item: &LogItem) {
        if let LogItem::Chunk(chunk) = item {
            self.count += chunk.bytes.len();
        }
        for (file, enough) in self.go.iter().zip([5000, 5002]) {
            if self.count >= enough {
                std::fs::write(file, "").expect("the directory of a test can be written");
            }
        }
    }

    /// Reads all of it from its begin.
    ///
    /// # Errors
    /// As [`hear`].
    pub async fn hear(mut self, backend: &dyn Backend, source: &LogSource) -> Result<Heard, String> {
        hear(backend, source, LogPosition::default(), |item| self.note(item)).await
    }
}
