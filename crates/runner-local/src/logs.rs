//! Reads the log files of an attempt: raw bytes by offset, so that a reader resumes without a hole or
//! a repeat.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use nix::fcntl::OFlag;
use qwex_runner::durable::Dir;
use qwex_runner::{Key, LineTime, LogChunk, LogItem, LogPosition, LogSource, RunnerError};

use crate::backend::{LocalBackend, failed};
use crate::config::LocalConfig;
use crate::records::{EMPTIED, OutputMode, emptied};
use crate::snapshot::Snapshot;
use crate::supervise;

/// Most bytes of one chunk.
const CHUNK: u64 = 256 * 1024;
const QUICK: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(100);
/// A supervisor that dies without leaving an end is noticed after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A file that was not written to for this long holds old data, not what was written just now.
const OLD: Duration = Duration::from_secs(1);

/// The logs of an attempt whose command was started.
pub fn sources(config: &LocalConfig, snapshot: &Snapshot) -> Vec<LogSource> {
    let Some(start) = &snapshot.start else {
        return Vec::new();
    };
    let key = snapshot.key;
    let streams = snapshot.work.output.streams();
    let source = |stream: &&str| LogSource {
        run_id: key.run_id,
        attempt: key.attempt,
        episode: start.process.episode(),
        stream: (*stream).to_owned(),
        locator: config
            .layout
            .log_path(&config.root, key, stream)
            .display()
            .to_string(),
    };
    streams.iter().map(source).collect()
}

/// Reads a log from `from`; with `follow` until the attempt is over and all was read.
pub fn read(
    backend: LocalBackend,
    source: LogSource,
    from: LogPosition,
    follow: bool,
) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
    let key = Key::new(source.run_id, source.attempt);
    let stream = known_stream(&source.stream).ok_or_else(|| RunnerError::NotFound {
        message: format!("a local run has no log stream {:?}", source.stream),
    })?;
    Ok(Box::pin(async_stream::stream! {
        let mut tail = Tail::new(key, stream);
        tail.go_on_from(&from);
        let mut pause = QUICK;
        loop {
            let read = backend.blocking(move |this| {
                let read = tail.read(this)?;
                Ok((tail, read))
            }).await;
            let (advanced, read) = match read {
                Ok(read) => read,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            tail = advanced;
            match read {
                TailRead::Bytes(chunk) => {
                    pause = QUICK;
                    yield Ok(LogItem::Chunk(chunk));
                }
                TailRead::Emptied => {
                    yield Ok(LogItem::Gap { message: EMPTIED.to_owned() });
                }
                TailRead::End => {
                    yield Ok(LogItem::End);
                    return;
                }
                TailRead::Nothing if follow => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOW);
                }
                TailRead::Nothing => return,
            }
        }
    }))
}

/// The stream's name as we spell it; the caller's never becomes part of a path.
fn known_stream(name: &str) -> Option<&'static str> {
    [OutputMode::Split, OutputMode::Merged]
        .iter()
        .flat_map(|mode| mode.streams())
        .find(|stream| **stream == name)
        .copied()
}

/// A reader's place in one log file. Looks are cheap: the file stays open, and between looks that read
/// every record only the presence of the end is checked.
#[derive(Debug)]
pub struct Tail {
    pub key: Key,
    pub stream: &'static str,
    /// Bytes given so far, and where the next one is in the file: elsewhere once the command has emptied it.
    offset: u64,
    place: u64,
    /// Whether it was told that the command emptied the file.
    told: bool,
    dir: Option<Dir>,
    file: Option<File>,
    looked: Option<Instant>,
}

/// What a look at the file gave.
#[derive(Debug)]
pub enum TailRead {
    Bytes(LogChunk),
    /// The command emptied the file; bytes are missing.
    Emptied,
    /// Nothing more for now.
    Nothing,
    /// Nothing more for ever.
    End,
}

impl Tail {
    /// At the first byte.
    #[must_use]
    pub fn new(key: Key, stream: &'static str) -> Self {
        Self {
            key,
            stream,
            offset: 0,
            place: 0,
            told: false,
            dir: None,
            file: None,
            looked: None,
        }
    }

    /// Reads the next bytes, if there are any.
    pub fn read(&mut self, backend: &LocalBackend) -> Result<TailRead, RunnerError> {
        // Whether it is over must be known before the file is read to its end.
        let silent = self.is_silent(backend)?;
        self.look(backend, silent)
            .map_err(|error| failed("read the log of", self.key, &error))
    }

    fn look(&mut self, backend: &LocalBackend, silent: bool) -> io::Result<TailRead> {
        if self.notices_emptied(backend, silent)? {
            return Ok(TailRead::Emptied);
        }
        Ok(match self.next_chunk(backend)? {
            Some(chunk) => TailRead::Bytes(chunk),
            None if silent => TailRead::End,
            None => TailRead::Nothing,
        })
    }

    /// Goes on where a reader stopped. A mark is the place in a file that the command had emptied.
    fn go_on_from(&mut self, from: &LogPosition) {
        let mark = from.mark.as_ref().and_then(|mark| mark.parse().ok());
        self.offset = from.offset;
        self.place = mark.unwrap_or(from.offset);
        self.told = mark.is_some();
    }

    /// Whether the command has emptied the file and that was not told: it is shorter than what was read of it, or
    /// (once it is `over`) the supervisor says so. The next byte is then the first of what is there.
    pub fn notices_emptied(&mut self, backend: &LocalBackend, over: bool) -> io::Result<bool> {
        let size = match self.take_file(backend)? {
            Some(file) => {
                let size = file.metadata()?.len();
                self.file = Some(file);
                size
            }
            None => return Ok(false),
        };
        let is_shorter = size < self.place;
        if is_shorter {
            self.place = 0;
        }
        let noted = over && !self.told && {
            let dir = backend.inner.config.layout.open(&backend.inner.root, self.key)?;
            dir.map_or(Ok(false), |dir| dir.has(&emptied(self.stream)))?
        };
        self.told |= is_shorter || noted;
        Ok(is_shorter || noted)
    }

    fn take_file(&mut self, backend: &LocalBackend) -> io::Result<Option<File>> {
        match self.file.take() {
            Some(file) => Ok(Some(file)),
            None => self.open(backend),
        }
    }

    fn is_silent(&mut self, backend: &LocalBackend) -> Result<bool, RunnerError> {
        let ended = match &self.dir {
            Some(dir) => supervise::has_end(dir).map_err(|error| failed("read", self.key, &error))?,
            None => false,
        };
        if !ended && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return Ok(false);
        }
        self.looked = Some(Instant::now());
        let inner = &backend.inner;
        let snapshot = inner.snapshot(self.key)?.ok_or_else(|| RunnerError::NotFound {
            message: format!("run {} has no directory any more", self.key.run_id),
        })?;
        self.dir = inner
            .config
            .layout
            .open(&inner.root, self.key)
            .map_err(|error| failed("read", self.key, &error))?;
        Ok(snapshot.is_silent())
    }

    /// The bytes from here on, at most [`CHUNK`]; `None` at the end of the file.
    pub fn next_chunk(&mut self, backend: &LocalBackend) -> io::Result<Option<LogChunk>> {
        let Some(mut file) = self.take_file(backend)? else {
            return Ok(None);
        };
        let chunk = self.chunk_of(&mut file);
        self.file = Some(file);
        chunk
    }

    fn open(&self, backend: &LocalBackend) -> io::Result<Option<File>> {
        let inner = &backend.inner;
        let Some(dir) = inner.config.layout.open_logs(&inner.root, self.key)? else {
            return Ok(None);
        };
        match dir.open_file(&format!("{}.log", self.stream), OFlag::O_RDONLY) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn chunk_of(&mut self, file: &mut File) -> io::Result<Option<LogChunk>> {
        if file.metadata()?.len() <= self.place {
            return Ok(None);
        }
        let starts_line = self.starts_line(file)?;
        file.seek(SeekFrom::Start(self.place))?;
        let mut bytes = Vec::new();
        file.by_ref().take(CHUNK).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.offset += bytes.len() as u64;
        self.place += bytes.len() as u64;
        let lines = LineTime::of_lines(&bytes, starts_line, time_of(file)?);
        Ok(Some(LogChunk {
            bytes: Bytes::from(bytes),
            lines,
            position: LogPosition {
                offset: self.offset,
                mark: self.told.then(|| self.place.to_string()),
            },
        }))
    }

    /// Whether the byte at the offset is the first of its line.
    fn starts_line(&self, file: &mut File) -> io::Result<bool> {
        let Some(before) = self.place.checked_sub(1) else {
            return Ok(true);
        };
        let mut byte = [0];
        file.seek(SeekFrom::Start(before))?;
        Ok(file.read(&mut byte)? == 0 || byte == [b'\n'])
    }
}

/// Now, or when the file was last written to if that is long ago.
fn time_of(file: &File) -> io::Result<Timestamp> {
    let modified = file.metadata()?.modified()?;
    let age = modified.elapsed().unwrap_or_default();
    if age < OLD {
        return Ok(Timestamp::now());
    }
    Timestamp::try_from(modified).map_err(io::Error::other)
}
