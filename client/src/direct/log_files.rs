//! The log of a kept run as files beside its record: written by its keeper as the backend yields it, read by
//! everyone else. An index per attempt says how far each stream is, so that a keeper that was killed goes on
//! without a hole or a repeat.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use qwex_core::{Attempt, LogSummary, LogVerdict};
use qwex_runner::durable::Durability;
use qwex_runner::{Journal, LogChunk, LogPosition, LogSource, StoreError};
use qwex_runner_local::records;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How often the index of a growing log is written.
const SAVE_EVERY: Duration = Duration::from_millis(200);

/// How far the log of one attempt is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIndex {
    pub sources: Vec<Stored>,
    /// Nothing more will come.
    #[serde(default)]
    pub complete: bool,
    /// What could not be had, in words.
    #[serde(default)]
    pub gaps: Vec<String>,
}

/// One stream of one episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub source: LogSource,
    /// Name of the file, beside the index.
    pub file: String,
    /// Where in the file the stream begins: episodes follow each other.
    pub start: u64,
    pub position: LogPosition,
    #[serde(default)]
    pub ended: bool,
    /// Bytes of the file that a crash of the machine left, while the source is read once more from its begin. They stay
    /// where it cannot give them again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub survived: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl Stored {
    fn has_bytes(&self) -> bool {
        self.position.offset > 0 || self.survived > 0
    }

    /// Where in the file what is known of it ends.
    fn end(&self) -> u64 {
        (self.start + self.position.offset).max(self.survived)
    }
}

fn index_name(attempt: Attempt) -> String {
    format!("log-a{attempt}.json")
}

/// The file of a stream; merged output is stdout's.
pub fn file_name(attempt: Attempt, stream: &str) -> String {
    let stream = if stream == "stderr" { "stderr" } else { "stdout" };
    if attempt == Attempt::FIRST {
        format!("{stream}.log")
    } else {
        format!("{stream}-a{attempt}.log")
    }
}

/// The index of an attempt; empty if nothing is stored yet.
///
/// # Errors
/// It cannot be read.
pub fn read_index(journal: &Journal, attempt: Attempt) -> Result<LogIndex, StoreError> {
    let name = index_name(attempt);
    match journal.read_file(&name)? {
        None => Ok(LogIndex::default()),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::io("read", &journal.path_of(&name), error.into())),
    }
}

/// Stores the index of an attempt whose log nobody writes any more.
///
/// # Errors
/// It cannot be written.
pub fn write_index(journal: &Journal, attempt: Attempt, index: &LogIndex) -> Result<(), StoreError> {
    let json = serde_json::to_vec(index).expect("positions serialise");
    journal.write_file(&index_name(attempt), &json, Durability::Machine)
}

/// Writes the log of one attempt.
#[derive(Debug)]
pub struct LogWriter {
    journal: Journal,
    attempt: Attempt,
    pub index: LogIndex,
    saved_at: Instant,
}

impl LogWriter {
    /// Goes on where the last writer of this attempt stopped.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn open(journal: Journal, attempt: Attempt) -> Result<Self, StoreError> {
        let mut index = read_index(&journal, attempt)?;
        if !index.complete {
            forget_lost(&journal, &mut index);
        }
        Ok(Self {
            journal,
            attempt,
            index,
            saved_at: Instant::now(),
        })
    }

    /// Number of a source, made known if it is new. Where in its file it begins is known with its first byte.
    pub fn number(&mut self, source: &LogSource) -> usize {
        if let Some(known) = self.index.sources.iter().position(|stored| {
            stored.source.episode == source.episode && stored.source.stream == source.stream
        }) {
            return known;
        }
        let file = file_name(self.attempt, &source.stream);
        self.index.sources.push(Stored {
            source: source.clone(),
            file,
            start: 0,
            position: LogPosition::default(),
            ended: false,
            survived: 0,
        });
        self.index.sources.len() - 1
    }

    /// Whether an earlier episode of the same file still writes.
    #[must_use]
    pub fn must_wait(&self, number: usize) -> bool {
        let file = &self.index.sources[number].file;
        self.index.sources[..number]
            .iter()
            .any(|stored| stored.file == *file && !stored.ended)
    }

    /// Stores bytes behind those of the same source.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, number: usize, chunk: &LogChunk) -> Result<(), StoreError> {
        let stored = &self.index.sources[number];
        if stored.position.offset == 0 && stored.survived == 0 {
            self.index.sources[number].start = self.end_of_others(number);
        }
        let stored = &mut self.index.sources[number];
        let path = self.journal.path_of(&stored.file);
        let broken = |source| StoreError::io("write", &path, source);
        let file = self
            .journal
            .open_file(&stored.file, OFlag::O_WRONLY | OFlag::O_CREAT)?;
        file.write_all_at(&chunk.bytes, stored.start + stored.position.offset)
            .map_err(broken)?;
        stored.position = chunk.position.clone();
        if self.saved_at.elapsed() >= SAVE_EVERY {
            self.save(Durability::Process)?;
        }
        Ok(())
    }

    /// Where the other sources of the same file end. Asked with the first byte of a source and not before: one that was
    /// listed earlier may grow until then.
    fn end_of_others(&self, number: usize) -> u64 {
        let file = &self.index.sources[number].file;
        let others = self.index.sources.iter().enumerate();
        others
            .filter(|(other, stored)| *other != number && stored.file == *file && stored.has_bytes())
            .map(|(_, stored)| stored.end())
            .max()
            .unwrap_or(0)
    }

    /// A source cannot give what comes next: what is behind it comes behind all that is here.
    pub fn gap(&mut self, number: usize, message: String) {
        let stored = &mut self.index.sources[number];
        if stored.position.offset == 0 && stored.survived > stored.start {
            stored.start = stored.survived;
        }
        self.index.gaps.push(message);
    }

    pub fn end(&mut self, number: usize) -> Result<(), StoreError> {
        self.index.sources[number].ended = true;
        self.save(Durability::Process)
    }

    /// Nothing more will come; files and index survive a crash of the machine from here on.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn complete(&mut self) -> Result<(), StoreError> {
        for stored in &self.index.sources {
            let path = self.journal.path_of(&stored.file);
            let file = self
                .journal
                .open_file(&stored.file, OFlag::O_WRONLY | OFlag::O_CREAT)?;
            // Bytes behind the last position are of a writer that was killed before it said so.
            let whole = self
                .index
                .sources
                .iter()
                .filter(|other| other.file == stored.file)
                .map(Stored::end)
                .max()
                .unwrap_or(0);
            file.set_len(whole)
                .and_then(|()| file.sync_all())
                .map_err(|source| StoreError::io("store", &path, source))?;
        }
        self.index.complete = true;
        self.save(Durability::Machine)
    }

    fn save(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.saved_at = Instant::now();
        let json = serde_json::to_vec(&self.index).expect("positions serialise");
        self.journal
            .write_file(&index_name(self.attempt), &json, durability)
    }
}

/// A machine that crashed may have kept the index of a growing log and lost the last of its bytes: what is not there is read
/// once more.
fn forget_lost(journal: &Journal, index: &mut LogIndex) {
    for stored in &mut index.sources {
        let there = std::fs::metadata(journal.path_of(&stored.file)).map_or(0, |meta| meta.len());
        if there < stored.start + stored.position.offset {
            stored.position = LogPosition::default();
            stored.ended = false;
            stored.survived = there;
        }
    }
}

/// The log files of an attempt, stdout first, those that are there.
#[must_use]
pub fn files(journal: &Journal, attempt: Attempt) -> Vec<(&'static str, PathBuf)> {
    let beside = |stream| journal.path_of(&file_name(attempt, stream));
    // The local backend writes the logs of later attempts itself, into the attempt's directory.
    let within = |stream: &str| {
        journal
            .path_of(&format!("a{attempt}"))
            .join(format!("{stream}.log"))
    };
    ["stdout", "stderr"]
        .into_iter()
        .filter_map(|stream| {
            let candidates = [beside(stream), within(stream)];
            let there = candidates.into_iter().find(|path| path.is_file())?;
            Some((stream, there))
        })
        .collect()
}

/// What is missing in the log of an attempt, in sentences: as its copier noted, and as the supervisor of a process of this
/// machine did.
///
/// # Errors
/// The index cannot be read.
pub fn gaps(journal: &Journal, attempt: Attempt) -> Result<Vec<String>, StoreError> {
    let mut gaps = read_index(journal, attempt)?.gaps;
    let within = journal.path_of(&format!("a{attempt}"));
    let is_emptied = |stream: &&str| within.join(records::emptied(stream)).is_file();
    if ["stdout", "stderr"].iter().any(is_emptied) && !gaps.iter().any(|gap| gap == records::EMPTIED) {
        gaps.push(records::EMPTIED.to_owned());
    }
    Ok(gaps)
}

/// Sums up the log files of all attempts up to `last`.
///
/// # Errors
/// A file cannot be read.
pub fn sum_up(journal: &Journal, last: Attempt) -> Result<LogSummary, StoreError> {
    let (mut hash, mut bytes, mut lines) = (Sha256::new(), 0, 0);
    let mut verdict = LogVerdict::Complete;
    for attempt in (1..=last.0).map(Attempt) {
        if !gaps(journal, attempt)?.is_empty() {
            verdict = LogVerdict::Gap;
        }
        for (_, path) in files(journal, attempt) {
            let broken = |source: io::Error| StoreError::io("read", &path, source);
            let mut file = File::open(&path).map_err(broken)?;
            let mut buffer = vec![0; 256 * 1024];
            let mut ends_a_line = true;
            loop {
                let count = file.read(&mut buffer).map_err(broken)?;
                if count == 0 {
                    break;
                }
                let part = &buffer[..count];
                hash.update(part);
                bytes += count as u64;
                lines += part.iter().filter(|byte| **byte == b'\n').count() as u64;
                ends_a_line = part.ends_with(b"\n");
            }
            lines += u64::from(!ends_a_line);
        }
    }
    Ok(LogSummary {
        verdict,
        bytes,
        lines,
        sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

#[cfg(test)]
mod tests {
    use qwex_core::{EpisodeId, JobSpec, Project, Provenance, RunId};
    use qwex_runner::Store;

    use super::super::runs::{NewRun, recorded};
    use super::*;

    fn chunk(bytes: &'static [u8], offset: u64) -> LogChunk {
        let position = LogPosition {
            offset,
            ..LogPosition::default()
        };
        LogChunk {
            bytes: bytes.into(),
            lines: Vec::new(),
            position,
        }
    }

    #[test]
    fn two_pods_of_an_attempt_follow_each_other_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let run = recorded(NewRun {
            id: RunId::mint(),
            name: None,
            project: Project::new("default").unwrap(),
            labels: std::collections::BTreeMap::new(),
            spec: JobSpec::for_command(["true"]),
            provenance: Provenance::default(),
        });
        let journal = Store::open(dir.path()).unwrap().create(&run).unwrap();
        let mut writer = LogWriter::open(journal.clone(), Attempt::FIRST).unwrap();
        let source = |pod: &str| LogSource {
            run_id: run.id,
            attempt: Attempt::FIRST,
            episode: EpisodeId(pod.to_owned()),
            stream: "stdout".to_owned(),
            locator: pod.to_owned(),
        };
        let first = writer.number(&source("a"));
        writer.append(first, &chunk(b"one\n", 4)).unwrap();
        // Listed while the first one still writes.
        let second = writer.number(&source("b"));
        assert!(writer.must_wait(second));
        writer.append(first, &chunk(b"two\n", 8)).unwrap();
        writer.end(first).unwrap();
        assert!(!writer.must_wait(second));
        writer.append(second, &chunk(b"three\n", 6)).unwrap();
        writer.end(second).unwrap();
        writer.complete().unwrap();
        let stored = std::fs::read(journal.path_of("stdout.log")).unwrap();
        assert_eq!(String::from_utf8(stored).unwrap(), "one\ntwo\nthree\n");
    }
}
