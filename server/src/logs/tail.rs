//! The bytes of a stream that are read but not archived yet: what live readers of this replica see first.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use qwex_runner::{LineTime, LogPosition};
use tokio::sync::watch;

use super::chunk::Chunk;

#[derive(Debug, Default)]
struct Inner {
    /// Offset of the first byte within the stream.
    start: u64,
    bytes: BytesMut,
    lines: Vec<LineTime>,
    position: LogPosition,
    gap_before: Option<String>,
}

/// Shared by the follower that writes it and by readers. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
}

/// What is to be archived next.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub start: u64,
    pub chunk: Chunk,
    pub position: LogPosition,
    pub gap_before: Option<String>,
}

impl Tail {
    pub fn new(position: LogPosition) -> Self {
        let inner = Inner {
            start: position.offset,
            position,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            changed: Arc::new(watch::channel(0).0),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds bytes at the end. Returns how many wait to be archived.
    pub fn push(&self, chunk: &qwex_runner::LogChunk) -> usize {
        let length = self.with(|inner| {
            let base = inner.bytes.len();
            inner.bytes.extend_from_slice(&chunk.bytes);
            let lines = chunk.lines.iter();
            inner.lines.extend(lines.map(|line| LineTime {
                at_byte: line.at_byte + base,
                time: line.time,
            }));
            inner.position = chunk.position.clone();
            inner.bytes.len()
        });
        self.wake();
        length
    }

    /// Bytes are missing before what comes next.
    pub fn mark_gap(&self, message: &str) {
        self.with(|inner| {
            let text = inner
                .gap_before
                .take()
                .map_or_else(|| message.to_owned(), |old| format!("{old}; {message}"));
            inner.gap_before = Some(text);
        });
    }

    /// A gap behind which no byte came.
    pub fn trailing_gap(&self) -> Option<String> {
        self.with(|inner| {
            if inner.bytes.is_empty() {
                inner.gap_before.clone()
            } else {
                None
            }
        })
    }

    /// All that waits; it stays readable until [`Tail::archived`].
    pub fn ready(&self) -> Option<Ready> {
        self.with(|inner| {
            let chunk = Chunk {
                bytes: inner.bytes.clone().freeze(),
                lines: inner.lines.clone(),
            };
            let ready = Ready {
                start: inner.start,
                chunk,
                position: inner.position.clone(),
                gap_before: inner.gap_before.clone(),
            };
            (!inner.bytes.is_empty()).then_some(ready)
        })
    }

    /// The first `length` bytes are durable.
    pub fn archived(&self, length: usize) {
        self.with(|inner| {
            let _ = inner.bytes.split_to(length.min(inner.bytes.len()));
            inner.start += length as u64;
            inner.lines.retain(|line| line.at_byte >= length);
            for line in &mut inner.lines {
                line.at_byte -= length;
            }
            inner.gap_before = None;
        });
        self.wake();
    }

    /// What lies at and behind an offset; `None` if that is archived already or not read yet.
    pub fn read(&self, from: u64) -> Option<(Chunk, Option<String>)> {
        self.with(|inner| {
            let skip = usize::try_from(from.checked_sub(inner.start)?).ok()?;
            if skip >= inner.bytes.len() {
                return None;
            }
            let chunk = Chunk {
                bytes: inner.bytes.clone().freeze(),
                lines: inner.lines.clone(),
            };
            let gap = inner.gap_before.clone().filter(|_| skip == 0);
            Some((chunk.behind(skip), gap))
        })
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes readers.
    pub fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
