//! Stamped log bytes of a kubelet → the very bytes the command wrote, from any position on. Pure.
//!
//! The kubelet puts a timestamp and a space before each line and nothing else. A position names the
//! last line begun by its timestamp, by which of the lines of that timestamp it is, and by how many
//! of its bytes were delivered. Reading again from a second before, everything up to there is
//! dropped; so neither equal timestamps, nor equal lines, nor a cut in mid-line lose or repeat a byte.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};
use qwex_runner::{LineTime, LogChunk, LogItem, LogPosition};

use super::pace::SKIPPED;

/// A kubelet's stamp has 20 to 35 bytes.
const STAMP_CAP: usize = 48;
/// Most bytes that are kept of what the kubelet says by itself.
const FOREIGN_CAP: usize = 2048;
/// Most bytes held back while the last known line is looked for.
const HELD_CAP: usize = 1024 * 1024;
/// Both streams of a container share one file, and a stamp is taken before the line is written: lines
/// may be out of order by this much, generously.
const DISORDER: SignedDuration = SignedDuration::from_secs(1);
/// Distinct stamps that are counted before old ones are forgotten.
const COUNTED: usize = 8192;

/// What is known of the pass before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// None, or one that may have been cut anywhere.
    Cut,
    /// It came to the end of the file that it read; `late`: when that was rotated away already, perhaps.
    AtEnd { late: bool },
}

/// Two lines in succession with so much time between them that a whole file may have been there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump {
    /// Before which of the items.
    pub at: usize,
    pub from: Timestamp,
}

/// The last line begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub stamp: Timestamp,
    /// Which of the lines of that stamp, from 1.
    nth: u32,
    /// Bytes of it that were delivered.
    done: u64,
}

impl Mark {
    fn encode(&self) -> String {
        format!("{}/{}/{}", self.stamp, self.nth, self.done)
    }

    /// `None` if it is none of ours.
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mark = Self {
            stamp: parts.next()?.parse().ok()?,
            nth: parts.next()?.parse().ok()?,
            done: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(mark)
    }

    /// `sinceTime` to read again from: whole seconds, because the server compares those, and one
    /// earlier for lines out of order.
    pub fn since(&self) -> String {
        let floor = Timestamp::from_second(self.stamp.as_second() - 1).unwrap_or(Timestamp::MIN);
        floor.to_string()
    }
}

/// Where in the stamped bytes we are.
#[derive(Debug)]
enum Place {
    /// In the stamp of a line, or in words of the kubelet's own.
    Stamp(Vec<u8>),
    Foreign(Vec<u8>),
    /// In a line that is delivered, held or dropped.
    Line(Fate),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deliver,
    Hold,
    Drop,
    /// The line of the mark: so many of its bytes were delivered before.
    Resume(u64),
}

/// Whether the last known line was found again.
#[derive(Debug)]
enum Search {
    /// Nothing to look for, or found.
    Done,
    Seeking {
        mark: Mark,
        /// Lines behind it by time that came before it was found.
        held: Vec<(Timestamp, Vec<u8>)>,
        held_bytes: usize,
    },
}

pub(super) struct Reader {
    offset: u64,
    mark: Option<Mark>,
    search: Search,
    before: Before,
    /// Whether lines of this pass were taken for known ones by their stamps.
    dropped: bool,
    jumps: Vec<Jump>,
    place: Place,
    /// A line whose first byte has not come.
    begun: Option<Timestamp>,
    /// How many lines of a stamp were met, in this pass.
    counts: BTreeMap<Timestamp, u32>,
    bytes: BytesMut,
    lines: Vec<LineTime>,
    items: Vec<LogItem>,
}

impl Reader {
    pub fn new(from: &LogPosition) -> Self {
        let mark = from.mark.as_deref().and_then(Mark::decode);
        let mut reader = Self {
            offset: from.offset,
            mark,
            search: Search::Done,
            before: Before::Cut,
            dropped: false,
            jumps: Vec::new(),
            place: Place::Stamp(Vec::new()),
            begun: None,
            counts: BTreeMap::new(),
            bytes: BytesMut::new(),
            lines: Vec::new(),
            items: Vec::new(),
        };
        reader.restart(Before::Cut);
        reader
    }

    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// A new pass over the log begins: what was delivered is looked for.
    pub fn restart(&mut self, before: Before) {
        self.before = before;
        self.dropped = false;
        self.place = Place::Stamp(Vec::new());
        self.begun = None;
        self.counts.clear();
        self.search = match &self.mark {
            None => Search::Done,
            Some(mark) => Search::Seeking {
                mark: mark.clone(),
                held: Vec::new(),
                held_bytes: 0,
            },
        };
    }

    /// Takes in bytes as the kubelet sent them.
    pub fn feed(&mut self, mut input: &[u8]) -> Vec<LogItem> {
        while !input.is_empty() {
            input = match &mut self.place {
                Place::Stamp(_) => self.in_stamp(input),
                Place::Foreign(_) => self.in_foreign(input),
                Place::Line(fate) => {
                    let fate = *fate;
                    self.in_line(fate, input)
                }
            };
        }
        self.flush();
        std::mem::take(&mut self.items)
    }

    /// The jumps in what [`Self::feed`] gave last.
    pub fn jumps(&mut self) -> Vec<Jump> {
        std::mem::take(&mut self.jumps)
    }

    /// The pass has ended. `whole`: it was no cut, so what was not found is not there.
    pub fn finish(&mut self, whole: bool) -> Vec<LogItem> {
        if let Place::Foreign(words) | Place::Stamp(words) = &mut self.place {
            let words = std::mem::take(words);
            if whole && !words.is_empty() {
                self.foreign(&words);
            }
        }
        if whole {
            self.give_up(None);
        }
        self.flush();
        std::mem::take(&mut self.items)
    }

    fn in_stamp<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let Place::Stamp(stamp) = &mut self.place else {
            return input;
        };
        let end = input.iter().position(|byte| matches!(byte, b' ' | b'\n'));
        let taken = end.unwrap_or(input.len());
        stamp.extend_from_slice(&input[..taken]);
        let full = std::mem::take(stamp);
        match end.map(|end| input[end]) {
            Some(b' ') => match parse_stamp(&full) {
                Some(stamp) => {
                    self.begin(stamp);
                    &input[taken + 1..]
                }
                None => {
                    self.place = Place::Foreign(full);
                    &input[taken..]
                }
            },
            Some(_) => {
                self.place = Place::Foreign(full);
                &input[taken..]
            }
            None if full.len() > STAMP_CAP => {
                self.place = Place::Foreign(full);
                &input[taken..]
            }
            None => {
                self.place = Place::Stamp(full);
                &input[taken..]
            }
        }
    }

    /// Words that carry no stamp are the kubelet's, such as `unable to retrieve container logs for…`.
    fn in_foreign<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let Place::Foreign(words) = &mut self.place else {
            return input;
        };
        let end = input.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(input.len());
        let room = FOREIGN_CAP.saturating_sub(words.len()).min(taken);
        words.extend_from_slice(&input[..room]);
        let Some(end) = end else { return &[] };
        let words = std::mem::take(words);
        self.foreign(&words);
        self.place = Place::Stamp(Vec::new());
        &input[end + 1..]
    }

    fn foreign(&mut self, words: &[u8]) {
        let words = String::from_utf8_lossy(words).trim().to_owned();
        if !words.is_empty() {
            self.gap(format!("the kubelet said instead of log bytes: {words}"));
        }
    }

    fn gap(&mut self, message: String) {
        self.flush();
        self.items.push(LogItem::Gap { message });
    }

    fn begin(&mut self, stamp: Timestamp) {
        let nth = self.count(stamp);
        self.begun = None;
        let fate = match &self.search {
            Search::Done => Fate::Deliver,
            Search::Seeking { mark, held_bytes, .. } => {
                if stamp == mark.stamp && nth == mark.nth {
                    Fate::Resume(mark.done)
                } else if stamp <= mark.stamp {
                    Fate::Drop
                } else if stamp.duration_since(mark.stamp) > DISORDER || *held_bytes > HELD_CAP {
                    Fate::Deliver
                } else {
                    Fate::Hold
                }
            }
        };
        match fate {
            Fate::Resume(_) => self.search = Search::Done,
            Fate::Deliver => {
                match self.search {
                    Search::Done => self.note_jump(stamp),
                    Search::Seeking { .. } => self.give_up(Some(stamp)),
                }
                self.begin_line(stamp, nth);
            }
            Fate::Hold => {
                if let Search::Seeking { held, .. } = &mut self.search {
                    held.push((stamp, Vec::new()));
                }
            }
            Fate::Drop => self.dropped = true,
        }
        self.place = Place::Line(fate);
    }

    fn count(&mut self, stamp: Timestamp) -> u32 {
        let count = self.counts.entry(stamp).or_insert(0);
        *count += 1;
        let nth = *count;
        if self.counts.len() > COUNTED {
            self.counts = self.counts.split_off(&(stamp - DISORDER));
        }
        nth
    }

    /// The mark moves on with the first byte of the line, not before.
    fn begin_line(&mut self, stamp: Timestamp, nth: u32) {
        self.begun = Some(stamp);
        self.counts.insert(stamp, nth);
    }

    fn note_jump(&mut self, stamp: Timestamp) {
        let Some(from) = self.mark.as_ref().map(|mark| mark.stamp) else {
            return;
        };
        if stamp.duration_since(from) >= SKIPPED {
            self.flush();
            let at = self.items.len();
            self.jumps.push(Jump { at, from });
        }
    }

    /// The last known line is not in the log any more: what came after it, `next` at the latest, is delivered behind a gap,
    /// unless nothing can have been between.
    fn give_up(&mut self, next: Option<Timestamp>) {
        let Search::Seeking { mark, held, .. } = std::mem::replace(&mut self.search, Search::Done) else {
            return;
        };
        let next = held.first().map(|(stamp, _)| *stamp).or(next);
        let adjoins = match self.before {
            Before::Cut => false,
            Before::AtEnd { late: false } => true,
            Before::AtEnd { late: true } => {
                next.is_some_and(|next| next.duration_since(mark.stamp) < SKIPPED)
            }
        };
        // Where the last known line is not, no other is known: what was dropped was written out of order.
        if !adjoins || self.dropped {
            self.gap(rotated(mark.stamp));
        }
        let mut counts = BTreeMap::new();
        for (stamp, line) in held {
            let nth = counts.entry(stamp).and_modify(|count| *count += 1).or_insert(1);
            self.begin_line(stamp, *nth);
            self.deliver(&line);
        }
    }

    fn in_line<'a>(&mut self, fate: Fate, input: &'a [u8]) -> &'a [u8] {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (data, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        match fate {
            Fate::Drop => {}
            Fate::Deliver => self.deliver(data),
            Fate::Hold => self.hold(data),
            Fate::Resume(left) => {
                let known = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                self.deliver(&data[known..]);
                self.place = Place::Line(Fate::Resume(left - known as u64));
            }
        }
        if end.is_some() {
            self.place = Place::Stamp(Vec::new());
        }
        rest
    }

    fn hold(&mut self, data: &[u8]) {
        if let Search::Seeking { held, held_bytes, .. } = &mut self.search
            && let Some((_, line)) = held.last_mut()
        {
            line.extend_from_slice(data);
            *held_bytes += data.len();
        }
    }

    fn deliver(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if let Some(stamp) = self.begun.take() {
            let nth = self.counts.get(&stamp).copied().unwrap_or(1);
            self.mark = Some(Mark { stamp, nth, done: 0 });
            self.lines.push(LineTime {
                at_byte: self.bytes.len(),
                time: stamp,
            });
        }
        self.bytes.extend_from_slice(data);
        self.offset = self.offset.saturating_add(data.len() as u64);
        if let Some(mark) = &mut self.mark {
            mark.done = mark.done.saturating_add(data.len() as u64);
        }
    }

    fn flush(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let bytes: Bytes = self.bytes.split().freeze();
        self.items.push(LogItem::Chunk(LogChunk {
            bytes,
            lines: std::mem::take(&mut self.lines),
            position: LogPosition {
                offset: self.offset,
                mark: self.mark.as_ref().map(Mark::encode),
            },
        }));
    }
}

/// What a gap of that kind says.
pub(super) fn rotated(last: Timestamp) -> String {
    format!("the log was rotated or cut off: lines after {last} may be missing")
}

pub(super) fn parse_stamp(text: &[u8]) -> Option<Timestamp> {
    let is_stamp = text.len() >= 20 && text[0].is_ascii_digit() && text.contains(&b'T');
    is_stamp.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
