//! Copies the log of one attempt from its backend into the files beside the run's record, live and to the last byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use qwex_core::BackendKind;
use qwex_runner::{Backend, Handle, Journal, LogItem, LogSource, RunnerError};
use tokio::sync::Notify;

use super::error::DirectError;
use super::keeper::note;
use super::log_files::LogWriter;

type Result<T> = std::result::Result<T, DirectError>;

/// A source that nobody told of is found after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
/// How often the rest of a log is asked for after the end before it is given up as a gap.
const TRIES: u32 = 20;
/// The rest of a log that still grows behind the end of its run is left.
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);

pub struct CopyLogs {
    backend: Arc<dyn Backend>,
    handle: Handle,
    writer: Arc<Mutex<LogWriter>>,
}

impl CopyLogs {
    /// Goes on where the last one stopped.
    ///
    /// # Errors
    /// The index of the log cannot be read.
    pub fn open(backend: Arc<dyn Backend>, journal: &Journal, handle: Handle) -> Result<Self> {
        let writer = LogWriter::open(journal.clone(), handle.attempt)?;
        Ok(Self {
            backend,
            handle,
            writer: Arc::new(Mutex::new(writer)),
        })
    }

    /// The local backend writes these very files itself.
    fn is_written_elsewhere(&self) -> bool {
        self.backend.kind() == BackendKind::Local
    }

    /// Copies what comes for as long as it is polled; `news` says that there may be a new source.
    ///
    /// # Errors
    /// A file cannot be written.
    pub async fn follow(&mut self, news: &Notify) -> Result<()> {
        if self.is_written_elsewhere() {
            return std::future::pending().await;
        }
        let mut begun = Vec::new();
        let mut copies = FuturesUnordered::new();
        loop {
            for source in self.sources().await {
                let number = lock(&self.writer).number(&source);
                if !begun.contains(&number) {
                    begun.push(number);
                    copies
                        .push(follow_one(self.backend.clone(), self.writer.clone(), source, number).boxed());
                }
            }
            tokio::select! {
                () = news.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                Some(copied) = copies.next(), if !copies.is_empty() => copied?,
            }
        }
    }

    async fn sources(&self) -> Vec<LogSource> {
        match self.backend.list_logs(&self.handle).await {
            Ok(sources) => sources,
            Err(error) => {
                note(&format!("logs cannot be listed: {error}"));
                Vec::new()
            }
        }
    }

    /// Copies what is left after the end, and closes the log. What cannot be had is a gap, told in words.
    ///
    /// # Errors
    /// A file cannot be written.
    pub async fn rest(self) -> Result<()> {
        if !self.is_written_elsewhere() {
            for source in self.all_sources().await {
                let number = lock(&self.writer).number(&source);
                self.rest_of(&source, number).await?;
            }
        }
        lock(&self.writer).complete()?;
        Ok(())
    }

    /// Those that the backend has, and those that it had.
    async fn all_sources(&self) -> Vec<LogSource> {
        let mut listed = Err(RunnerError::Failed {
            message: "nobody asked".to_owned(),
        });
        for _ in 0..TRIES {
            listed = self.backend.list_logs(&self.handle).await;
            match &listed {
                Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
                Ok(_) | Err(_) => break,
            }
        }
        let mut sources: Vec<LogSource> = lock(&self.writer)
            .index
            .sources
            .iter()
            .map(|stored| stored.source.clone())
            .collect();
        match listed {
            Ok(now) => {
                let fresh: Vec<LogSource> = now
                    .into_iter()
                    .filter(|source| !sources.contains(source))
                    .collect();
                sources.extend(fresh);
            }
            Err(error) => self.gap(format!("the logs cannot be listed: {error}")),
        }
        sources
    }

    async fn rest_of(&self, source: &LogSource, number: usize) -> Result<()> {
        let mut tries = 0;
        let until = Instant::now() + LONGEST_REST;
        let position = || lock(&self.writer).index.sources[number].position.clone();
        while !lock(&self.writer).index.sources[number].ended {
            let before = position();
            let copied = copy(self.backend.as_ref(), &self.writer, source, number, false).await;
            // Only tries in vain count: a long log may come in many pieces.
            tries = if position() == before { tries + 1 } else { 0 };
            match copied {
                Ok(true) => lock(&self.writer).end(number)?,
                Err(DirectError::Runner(error)) if !error.is_retryable() || tries >= TRIES => {
                    self.gap(format!("the end of {} cannot be read: {error}", source.stream));
                    lock(&self.writer).end(number)?;
                }
                Ok(false) if tries >= TRIES || Instant::now() >= until => {
                    self.gap(format!("{} never came to an end", source.stream));
                    lock(&self.writer).end(number)?;
                }
                Ok(false) | Err(DirectError::Runner(_)) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn gap(&self, message: String) {
        note(&message);
        lock(&self.writer).index.gaps.push(message);
    }
}

fn lock(writer: &Mutex<LogWriter>) -> MutexGuard<'_, LogWriter> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows a source to its end, through every cut.
async fn follow_one(
    backend: Arc<dyn Backend>,
    writer: Arc<Mutex<LogWriter>>,
    source: LogSource,
    number: usize,
) -> Result<()> {
    while lock(&writer).must_wait(number) {
        tokio::time::sleep(PAUSE).await;
    }
    while !lock(&writer).index.sources[number].ended {
        match copy(backend.as_ref(), &writer, &source, number, true).await {
            Ok(true) => lock(&writer).end(number)?,
            Ok(false) => tokio::time::sleep(PAUSE).await,
            Err(DirectError::Runner(error)) => {
                note(&format!("{}: {error}", source.stream));
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Copies from where the writer stands. True: the source has ended and every byte is here.
async fn copy(
    backend: &dyn Backend,
    writer: &Mutex<LogWriter>,
    source: &LogSource,
    number: usize,
    follow: bool,
) -> Result<bool> {
    let from = lock(writer).index.sources[number].position.clone();
    let mut items = backend.read_log(source, from, follow).await?;
    while let Some(item) = items.next().await {
        match item? {
            LogItem::Chunk(chunk) => lock(writer).append(number, &chunk)?,
            LogItem::Gap { message } => {
                note(&message);
                lock(writer).gap(number, message);
            }
            LogItem::End => return Ok(true),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use qwex_runner::Watcher;

    use super::super::log_files;
    use super::super::scripted::{Bench, bench_with, run, scripted};
    use super::*;

    #[tokio::test]
    async fn a_line_that_breaks_again_and_again_costs_no_byte_as_long_as_some_come() {
        let mut backend = scripted(vec![Ok(())], vec![]);
        backend.log = "x".repeat(TRIES as usize + 2);
        let all = backend.log.clone();
        let run = run();
        let bench = bench_with(backend, &run);
        let handle = bench.drive.handle(&run);
        let copying = CopyLogs::open(bench.backend.clone(), &bench.drive.journal, handle).unwrap();
        copying.rest().await.unwrap();
        let index = log_files::read_index(&bench.drive.journal, run.attempt).unwrap();
        assert_eq!(index.gaps, Vec::<String>::new());
        let stored = std::fs::read_to_string(bench.drive.journal.path_of("stdout.log")).unwrap();
        assert_eq!(stored, all);
    }

    /// A run of whose log "0123" is here and eight bytes should be.
    async fn after_a_crash(log: &str) -> (Bench, Handle, qwex_core::Run) {
        let mut backend = scripted(vec![Ok(())], vec![]);
        backend.log = log.to_owned();
        let run = run();
        let bench = bench_with(backend, &run);
        let handle = bench.drive.handle(&run);
        let source = bench.backend.list_logs(&handle).await.unwrap().remove(0);
        let position = qwex_runner::LogPosition {
            offset: 8,
            ..Default::default()
        };
        let index = log_files::LogIndex {
            sources: vec![log_files::Stored {
                source,
                file: "stdout.log".to_owned(),
                start: 0,
                position,
                ended: false,
                survived: 0,
            }],
            ..Default::default()
        };
        log_files::write_index(&bench.drive.journal, run.attempt, &index).unwrap();
        std::fs::write(bench.drive.journal.path_of("stdout.log"), "0123").unwrap();
        (bench, handle, run)
    }

    #[tokio::test]
    async fn bytes_that_a_crash_of_the_machine_took_are_read_once_more() {
        let (bench, handle, _) = after_a_crash("0123456789").await;
        let copying = CopyLogs::open(bench.backend.clone(), &bench.drive.journal, handle).unwrap();
        copying.rest().await.unwrap();
        let file = bench.drive.journal.path_of("stdout.log");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn what_a_crash_of_the_machine_left_stays_where_nobody_has_it_any_more() {
        for (comes, wanted) in [("", "0123"), ("89", "012389")] {
            let (bench, _, run) = after_a_crash("gone").await;
            let mut writer = LogWriter::open(bench.drive.journal.clone(), run.attempt).unwrap();
            writer.gap(0, "the object is gone".to_owned());
            if !comes.is_empty() {
                let chunk = qwex_runner::LogChunk {
                    bytes: comes.into(),
                    lines: Vec::new(),
                    position: qwex_runner::LogPosition {
                        offset: 2,
                        ..Default::default()
                    },
                };
                writer.append(0, &chunk).unwrap();
            }
            writer.end(0).unwrap();
            writer.complete().unwrap();
            let file = bench.drive.journal.path_of("stdout.log");
            assert_eq!(std::fs::read_to_string(file).unwrap(), wanted);
        }
    }
}
