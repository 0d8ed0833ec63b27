//! A run of this directory, whole: what is sent to a server that is to keep it as well.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use qwex_api::log::LogStreamInfo;
use qwex_api::record::RunRecord;
use qwex_core::{Attempt, LogVerdict, Run};
use qwex_runner::{Journal, StoreError};

use super::error::DirectError;
use super::history::History;
use super::log_files;
use super::runs::Direct;

type Result<T> = std::result::Result<T, DirectError>;

const BUFFER: u64 = 256 * 1024;

/// A run with its history, and where the bytes of its log lie.
pub struct Whole {
    pub record: RunRecord,
    pub log: LogBytes,
}

/// Parts of files, one behind the other. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogBytes(Arc<[Part]>);

#[derive(Debug, Clone)]
struct Part {
    path: PathBuf,
    start: u64,
    length: u64,
}

impl Direct {
    /// All of a run that is over and whose log is summed up.
    ///
    /// # Errors
    /// Files beside its record cannot be read, or hold another log than was summed up.
    pub fn whole(&self, run: &Run) -> Result<Whole> {
        let journal = self.journal(run.id)?;
        let mut streams = streams(&journal, run)?;
        let history = History::read(&journal)?;
        if let Some(history) = &history {
            streams = in_order(&journal, &history.log_streams, streams)?;
        }
        let bytes: u64 = streams.iter().map(|(info, _)| info.bytes).sum();
        let sealed = run.logs.as_ref().map_or(0, |logs| logs.bytes);
        if bytes != sealed {
            let message = format!("its log files hold {bytes} bytes, and {sealed} were summed up at its end");
            return Err(damaged(&journal, message).into());
        }
        let (infos, parts): (Vec<LogStreamInfo>, Vec<Part>) = streams.into_iter().unzip();
        let history = history.unwrap_or_else(|| History::outline(run, infos));
        Ok(Whole {
            record: RunRecord {
                project: None,
                run: run.clone(),
                attempts: history.attempts,
                events: history.events,
                log_streams: history.log_streams,
            },
            log: LogBytes(parts.into()),
        })
    }
}

fn damaged(journal: &Journal, message: String) -> StoreError {
    StoreError::Damaged {
        path: journal.path_of("."),
        message,
    }
}

/// Every stream of every attempt in the order in which the summary took them, with its part of a file.
fn streams(journal: &Journal, run: &Run) -> Result<Vec<(LogStreamInfo, Part)>> {
    let mut found = Vec::new();
    for attempt in (1..=run.attempt.0).map(Attempt) {
        let index = log_files::read_index(journal, attempt)?;
        let gaps = log_files::gaps(journal, attempt)?;
        let message = (!gaps.is_empty()).then(|| gaps.join("; "));
        let verdict = if message.is_some() {
            LogVerdict::Gap
        } else {
            LogVerdict::Complete
        };
        for (stream, path) in log_files::files(journal, attempt) {
            let length = path
                .metadata()
                .map_err(|source| StoreError::io("read", &path, source))?
                .len();
            for (episode, stream, start, length) in split(run, attempt, &index, (stream, &path, length)) {
                let info = LogStreamInfo {
                    ordinal: u32::try_from(found.len()).unwrap_or(u32::MAX),
                    attempt,
                    episode,
                    stream,
                    bytes: length,
                    // Counted by who takes them.
                    lines: 0,
                    verdict: Some(verdict),
                    sha256: None,
                    message: message.clone(),
                };
                let part = Part {
                    path: path.clone(),
                    start,
                    length,
                };
                found.push((info, part));
            }
        }
    }
    Ok(found)
}

/// The episodes that wrote a file, each with its stream, start and length: as its writer noted, else all of it is one.
fn split(
    run: &Run,
    attempt: Attempt,
    index: &log_files::LogIndex,
    (stream, path, length): (&str, &std::path::Path, u64),
) -> Vec<(String, String, u64, u64)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let mut noted: Vec<_> = index
        .sources
        .iter()
        .filter(|stored| Some(stored.file.as_str()) == name)
        .collect();
    noted.sort_by_key(|stored| stored.start);
    let sum: u64 = noted.iter().map(|stored| stored.position.offset).sum();
    if !noted.is_empty() && sum == length {
        return noted
            .into_iter()
            .map(|stored| {
                let source = &stored.source;
                let episode = source.episode.0.clone();
                (
                    episode,
                    source.stream.clone(),
                    stored.start,
                    stored.position.offset,
                )
            })
            .collect();
    }
    let uid = run.backend.as_ref().and_then(|backend| backend.uid.as_ref());
    let episode = match uid.filter(|_| attempt == run.attempt) {
        // A process and its object are one.
        Some(uid) => uid.to_string(),
        None => run.id.object_name(attempt),
    };
    vec![(episode, stream.to_owned(), 0, length)]
}

/// The streams in the order in which a server keeps them.
fn in_order(
    journal: &Journal,
    told: &[LogStreamInfo],
    found: Vec<(LogStreamInfo, Part)>,
) -> Result<Vec<(LogStreamInfo, Part)>> {
    told.iter()
        .map(|info| {
            let key = |one: &LogStreamInfo| (one.attempt, one.episode.clone(), one.stream.clone());
            let part = found
                .iter()
                .find(|(other, _)| key(other) == key(info) && other.bytes == info.bytes)
                .map(|(_, part)| part.clone());
            let missing = || {
                let message = format!(
                    "the log of {} in attempt {} is not whole",
                    info.stream, info.attempt
                );
                damaged(journal, message)
            };
            Ok((info.clone(), part.ok_or_else(missing)?))
        })
        .collect()
}

impl LogBytes {
    /// The bytes from the first one on, read as they are asked for.
    pub fn read(&self) -> impl Iterator<Item = io::Result<Bytes>> + Send + use<> {
        let parts = self.0.clone();
        let mut at = 0;
        let mut open: Option<(File, u64)> = None;
        std::iter::from_fn(move || {
            loop {
                let part = parts.get(at)?;
                let (file, left) = match &mut open {
                    Some(open) => open,
                    None => match part.open() {
                        Ok(file) => open.insert((file, part.length)),
                        Err(error) => return Some(Err(error)),
                    },
                };
                if *left == 0 {
                    (at, open) = (at + 1, None);
                    continue;
                }
                let wanted = usize::try_from((*left).min(BUFFER)).unwrap_or(0);
                let mut bytes = vec![0; wanted];
                return Some(file.read_exact(&mut bytes).map(|()| {
                    *left -= wanted as u64;
                    bytes.into()
                }));
            }
        })
    }
}

impl Part {
    fn open(&self) -> io::Result<File> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(file)
    }
}
