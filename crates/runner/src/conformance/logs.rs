//! Logs are byte-exact, and a reader resumes without a hole or a repeat.

use futures::StreamExt;
use qwex_core::{BackendKind, RunStatus};

use super::read_on::{self, Heard};
use super::{Subject, Submission, Verdict, expect, hold};
use crate::backend::Feature;
use crate::log::{LogChunk, LogItem, LogPosition, LogSource};

/// The log that the command's standard output is in.
async fn source(subject: &Subject, submission: &Submission) -> Result<LogSource, String> {
    source_that(subject, submission, |stream| stream != "stderr").await
}

async fn source_that(
    subject: &Subject,
    submission: &Submission,
    wanted: impl Fn(&str) -> bool,
) -> Result<LogSource, String> {
    let find = async {
        loop {
            let sources = subject
                .asking("list_logs", || subject.backend.list_logs(&submission.handle))
                .await?;
            if let Some(source) = sources.into_iter().find(|source| wanted(&source.stream)) {
                return Ok(source);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    subject.within("a log", find).await?
}

/// Bytes, and the position after each chunk.
struct Read {
    bytes: Vec<u8>,
    positions: Vec<LogPosition>,
    line_starts: Vec<usize>,
}

async fn read(subject: &Subject, source: &LogSource, from: LogPosition) -> Result<Read, String> {
    let mut read = Read {
        bytes: Vec::new(),
        positions: Vec::new(),
        line_starts: Vec::new(),
    };
    let take = |chunk: &LogChunk| {
        let before = read.bytes.len();
        read.line_starts
            .extend(chunk.lines.iter().map(|line| before + line.at_byte));
        read.bytes.extend_from_slice(&chunk.bytes);
        read.positions.push(chunk.position.clone());
        Ok(())
    };
    each_chunk(subject, source, from, take).await?;
    Ok(read)
}

/// Hands over chunk by chunk what is read from a position on to the end.
async fn each_chunk(
    subject: &Subject,
    source: &LogSource,
    from: LogPosition,
    mut take: impl FnMut(&LogChunk) -> Verdict,
) -> Verdict {
    let take = |item: &LogItem| match item {
        LogItem::Chunk(chunk) => take(chunk),
        LogItem::Gap { message } => Err(format!("the log has a gap: {message}")),
        LogItem::End => Ok(()),
    };
    let all = read_on::to_the_end(subject.backend.as_ref(), source, from, take);
    subject.within("the end of the log", all).await?.map(drop)
}

/// The whole log of an attempt.
pub async fn read_all(subject: &Subject, submission: &Submission) -> Result<Vec<u8>, String> {
    let source = source(subject, submission).await?;
    Ok(read(subject, &source, LogPosition::default()).await?.bytes)
}

async fn writes(subject: &Subject, script: &str, wanted: &[u8]) -> Verdict {
    let submission = subject.submit(subject.shell(script)).await?;
    same(&read_all(subject, &submission).await?, wanted)
}

fn same(found: &[u8], wanted: &[u8]) -> Verdict {
    if found != wanted {
        let at = found.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        return Err(format!(
            "the log has {} bytes, {} were written; they differ from byte {at} on",
            found.len(),
            wanted.len()
        ));
    }
    Ok(())
}

/// NUL, invalid UTF-8, carriage returns, empty lines, no newline at the end.
pub async fn byte_exact(subject: &Subject) -> Verdict {
    let script = r"printf 'a\000b\377\376\n\n\rc\nlast without newline'";
    writes(subject, script, b"a\0b\xff\xfe\n\n\rc\nlast without newline").await
}

/// Line ends of Windows stay. Only on Kubernetes one carriage return before a newline may be lost: containerd leaves it
/// out when it writes a container's log, where no reader can find it again.
pub async fn windows_line_ends(subject: &Subject) -> Verdict {
    let wanted: &[u8] = b"one\r\ntwo\r\n";
    let submission = subject.submit(subject.shell(r"printf 'one\r\ntwo\r\n'")).await?;
    let found = read_all(subject, &submission).await?;
    if subject.backend.kind() == BackendKind::K8s && found == b"one\ntwo\n" {
        subject.otherwise("one carriage return before a newline is lost by the cluster's container runtime");
        return Ok(());
    }
    same(&found, wanted)
}

pub async fn a_line_of_a_megabyte(subject: &Subject) -> Verdict {
    let script = "head -c 1000000 /dev/zero | tr '\\000' x; echo; echo after";
    let mut wanted = vec![b'x'; 1_000_000];
    wanted.extend_from_slice(b"\nafter\n");
    writes(subject, script, &wanted).await
}

/// Bytes of a large log, as many lines of [`LINE`] bytes.
pub const LARGE: u64 = 100 * 1024 * 1024;
/// A number of eight digits, zeros, a newline.
const LINE: usize = 1024;

/// Read while it is written, every byte compared: a hash of all of it would say less.
pub async fn a_hundred_megabytes(subject: &Subject) -> Verdict {
    let (bytes, why) = &subject.large_log;
    let lines = bytes / LINE as u64;
    let script = format!(
        "zeros=$(printf %0{}d 0); \
         awk -v zeros=$zeros 'BEGIN {{ for (i = 0; i < {lines}; i++) printf \"%08d%s\\n\", i, zeros }}'",
        LINE - 9
    );
    let submission = subject.submit(subject.shell(&script)).await?;
    let source = source(subject, &submission).await?;
    let mut log = Numbered::default();
    each_chunk(subject, &source, LogPosition::default(), |chunk| log.take(chunk)).await?;
    expect("bytes", log.bytes, lines * LINE as u64)?;
    expect("beginnings of lines", log.beginnings, lines)?;
    let end = subject.wait(&submission, false).await?;
    expect("status", end.status, RunStatus::Succeeded)?;
    if let Some(why) = why {
        subject.otherwise(why);
    }
    Ok(())
}

/// Numbered lines, held against what they must be as they come.
#[derive(Default)]
struct Numbered {
    bytes: u64,
    beginnings: u64,
    /// The line that the next byte belongs to.
    line: Vec<u8>,
    within: usize,
}

impl Numbered {
    fn take(&mut self, chunk: &LogChunk) -> Verdict {
        let mut rest = chunk.bytes.as_ref();
        while !rest.is_empty() {
            if self.within == self.line.len() {
                let number = self.bytes / LINE as u64;
                self.line = format!("{number:08}{:0>1$}\n", "", LINE - 9).into_bytes();
                self.within = 0;
            }
            let wanted = &self.line[self.within..];
            let (now, later) = rest.split_at(wanted.len().min(rest.len()));
            if now != &wanted[..now.len()] {
                let found = String::from_utf8_lossy(&now[..now.len().min(16)]);
                return Err(format!(
                    "other bytes than written from byte {} on: {found:?}",
                    self.bytes
                ));
            }
            self.within += now.len();
            self.bytes += now.len() as u64;
            rest = later;
        }
        self.beginnings += chunk.lines.len() as u64;
        expect("the position behind a chunk", chunk.position.offset, self.bytes)
    }
}

/// Reading on from the position behind any chunk gives exactly the rest.
pub async fn from_any_position_the_rest(subject: &Subject) -> Verdict {
    let script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; printf end";
    let (submission, _) = subject.run(subject.shell(script)).await?;
    let source = source(subject, &submission).await?;
    let whole = read(subject, &source, LogPosition::default()).await?;
    let starts = whole.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let starts: Vec<usize> = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
    expect("the first bytes of lines", &whole.line_starts, &starts)?;
    for position in &whole.positions {
        let rest = read(subject, &source, position.clone()).await?;
        let offset = usize::try_from(position.offset).map_err(|error| error.to_string())?;
        let wanted = whole.bytes.get(offset..).unwrap_or_default();
        hold(
            &format!(
                "from {position:?}: {} bytes instead of {}",
                rest.bytes.len(),
                wanted.len()
            ),
            rest.bytes == wanted,
        )?;
    }
    Ok(())
}

/// The first line can be read while the command still runs.
pub async fn followed_live(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.shell("echo first; sleep 300")).await?;
    let source = source(subject, &submission).await?;
    let mut stream = subject
        .backend
        .read_log(&source, LogPosition::default(), true)
        .await
        .map_err(|error| format!("read_log: {error}"))?;
    let first = subject.within("the first line", stream.next()).await?;
    subject.cancel(&submission.handle).await?;
    match first {
        Some(Ok(LogItem::Chunk(chunk))) => {
            expect("the first line", chunk.bytes.as_ref(), b"first\n".as_slice())
        }
        other => Err(format!("wanted a chunk, found {other:?}")),
    }
}

/// A command that writes nothing has a log that ends.
pub async fn empty(subject: &Subject) -> Verdict {
    writes(subject, "true", b"").await
}

/// Each stream holds what was written to it and nothing else.
pub async fn streams_apart(subject: &Subject) -> Verdict {
    if subject.lacks(Feature::SeparateStreams) {
        return Ok(());
    }
    let (submission, _) = subject.run(subject.shell("echo out; echo err >&2")).await?;
    for (stream, wanted) in [("stdout", b"out\n"), ("stderr", b"err\n")] {
        let source = source_that(subject, &submission, |name| name == stream).await?;
        let read = read(subject, &source, LogPosition::default()).await?;
        expect(stream, read.bytes.as_slice(), wanted.as_slice())?;
    }
    Ok(())
}

/// Written, emptied, written on; with time in between for whoever reads it meanwhile.
const EMPTIES: &str = "head -c 5000 /dev/zero | tr '\\000' a; sleep 1; echo x > /dev/stdout; sleep 1; echo y";

/// Where its output goes to a file, a command can empty its own log. What nobody had read by then is lost, and that is
/// told; but nothing that was read before is given again. Where it goes through a pipe, nothing is lost at all.
pub async fn emptied_by_its_command(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.shell(EMPTIES)).await?;
    let source = source(subject, &submission).await?;
    let live = hear(subject, &source, LogPosition::default()).await?;
    let kept = live.bytes.strip_suffix(b"x\ny\n");
    let kept = kept.ok_or_else(|| format!("it does not end with what was written last: {}", live.words()))?;
    hold(
        &format!("nothing comes twice: {}", live.words()),
        kept.len() <= 5000 && kept.iter().all(|byte| *byte == b'a'),
    )?;
    // A script hears of it from who reads along, and the others are not told.
    let is_untold = subject.backend.kind() == BackendKind::Ssh && live.gaps.is_empty() && kept.is_empty();
    hold(
        &format!("what is lost is told, once: {}", live.words()),
        live.gaps.len() == 1 || (live.gaps.is_empty() && kept.len() == 5000) || is_untold,
    )?;
    expect("the position behind it", live.at.offset, live.bytes.len() as u64)?;
    let nothing = hear(subject, &source, live.at.clone()).await?;
    hold(
        &format!("behind the end there is nothing: {}", nothing.words()),
        nothing.bytes.is_empty() && nothing.gaps.is_empty(),
    )?;
    let late = hear(subject, &source, LogPosition::default()).await?;
    if live.gaps.is_empty() && !is_untold {
        subject.otherwise("its command writes into a pipe, which it cannot empty: nothing is lost");
        hold("and nothing is lost for who comes late", late.gaps.is_empty())?;
        return same(&late.bytes, &live.bytes);
    }
    if subject.backend.kind() == BackendKind::Ssh && late.gaps.is_empty() {
        subject.otherwise("only who reads along is told, where the command wrote on");
    } else {
        expect("gaps for who comes late", late.gaps.len(), live.gaps.len())?;
    }
    hold(
        &format!("who comes late hears what is left: {}", late.words()),
        late.bytes == live.bytes || late.bytes == b"x\ny\n",
    )
}

async fn hear(subject: &Subject, source: &LogSource, from: LogPosition) -> Result<Heard, String> {
    let heard = read_on::hear(subject.backend.as_ref(), source, from, |_| {});
    subject.within("the end of the log", heard).await?
}
