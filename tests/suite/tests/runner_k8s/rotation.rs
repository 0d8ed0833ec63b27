//! What a node's rotation of logs does to whoever follows one: nothing as long as the reader keeps up, and what a late
//! reader misses is a gap. What was rotated away before the first line was read is not looked at here.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::StreamExt as _;
use qwex_runner::{LogItem, LogPosition, LogSource, Watcher as _};
use qwex_testbed::cluster::Spec;
use qwex_testbed::{Cluster, require, wait};
use serde_json::json;

use crate::rig::{Rig, shell};

const LIMIT: Duration = Duration::from_secs(180);
/// Bytes of a line: a number of eight digits, zeros, a newline.
const LINE: usize = 1024;

/// What came of a log of numbered lines.
#[derive(Debug, Default)]
struct Heard {
    /// The number of the line that comes next, if none is missing; none before the first one.
    next: Option<u64>,
    /// Lines that are missing, in places where a gap says so and where none does.
    told: u64,
    untold: u64,
    gaps: Vec<String>,
    /// Whether a gap stands before the line that comes next.
    behind_gap: bool,
    line: Vec<u8>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.take_line(&line)?;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<()> {
        ensure!(line.len() == LINE, "a line of {} bytes", line.len());
        let number: u64 = std::str::from_utf8(&line[..8])?.parse()?;
        ensure!(
            self.next.is_none_or(|next| number >= next),
            "line {number} behind {:?}",
            self.next
        );
        self.miss(number);
        self.next = Some(number + 1);
        Ok(())
    }

    fn miss(&mut self, until: u64) {
        let lines = until - self.next.unwrap_or(until);
        match std::mem::take(&mut self.behind_gap) {
            true => self.told += lines,
            false => self.untold += lines,
        }
    }
}

/// Reads on after each cut, as a keeper does.
async fn hear(rig: &Rig, source: &LogSource, lines: u64, per_chunk: Duration) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut position = LogPosition::default();
    loop {
        let mut items = wait::until_ok(LIMIT, "the log", || {
            rig.backend.read_log(source, position.clone(), true)
        })
        .await?;
        while let Some(item) = items.next().await {
            let Ok(item) = item else { break };
            match item {
                LogItem::Chunk(chunk) => {
                    heard.take(&chunk.bytes)?;
                    position = chunk.position;
                    tokio::time::sleep(per_chunk).await;
                }
                LogItem::Gap { message } => {
                    heard.gaps.push(message);
                    heard.behind_gap = true;
                }
                LogItem::End => {
                    heard.miss(lines);
                    return Ok(heard);
                }
            }
        }
    }
}

/// A node that rotates as early and as often as a kubelet can.
async fn rig() -> Result<(Cluster, Rig)> {
    let spec = Spec::real("rotates")
        .kubelet_config("containerLogMaxSize", json!("1Mi"))
        .kubelet_config("containerLogMonitorInterval", json!("3s"));
    let cluster = Cluster::start(spec).await?;
    let rig = Rig::on(&cluster).await?;
    Ok((cluster, rig))
}

/// So many bursts of so many lines, with a pause behind each.
fn script(bursts: u64, lines: u64, pause: &str) -> String {
    format!(
        "zeros=$(printf %0{}d 0); i=0; while [ $i -lt {bursts} ]; do \
         awk -v zeros=$zeros -v from=$((i*{lines})) \
         'BEGIN {{ for (i = from; i < from + {lines}; i++) printf \"%08d%s\\n\", i, zeros }}'; \
         i=$((i+1)); sleep {pause}; done",
        LINE - 9
    )
}

/// Three runs that are followed at once, each with 40,000 lines.
async fn three_followed(rig: &Rig) -> Result<Vec<Heard>> {
    let listener = rig.listen();
    let works: Vec<_> = (0..3).map(|_| shell(&script(100, 400, "0.2"))).collect();
    for work in &works {
        rig.submit(work).await?;
    }
    let all = works.iter().map(|work| {
        let (rig, listener) = (&rig, &listener);
        async move { hear(rig, &listener.log_of(work).await?, 40_000, Duration::ZERO).await }
    });
    futures::future::join_all(all).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn d04_a_reader_that_keeps_up_misses_nothing_however_often_a_node_rotates() -> Result<()> {
    require!(Root, Go, Containerd);
    let (_cluster, rig) = rig().await?;
    // A machine that stands still for seconds makes a reader late, which a gap tells; it does not always.
    for _ in 0..3 {
        let all = three_followed(&rig).await?;
        for heard in &all {
            assert_eq!((heard.next, heard.untold), (Some(40_000), 0), "{heard:?}");
        }
        if all.iter().any(|heard| heard.told == 0) {
            return Ok(());
        }
    }
    bail!("nobody kept up, three times")
}

#[tokio::test(flavor = "multi_thread")]
async fn d04_what_a_late_reader_misses_is_a_gap() -> Result<()> {
    require!(Root, Go, Containerd);
    let (_cluster, rig) = rig().await?;
    let listener = rig.listen();
    // Faster than it is read: whole files come and go meanwhile.
    let work = shell(&script(25, 4_000, "0.5"));
    rig.submit(&work).await?;
    let source = listener.log_of(&work).await?;
    let heard = hear(&rig, &source, 100_000, Duration::from_millis(25)).await?;
    assert!(heard.told > 0, "the reader kept up: {heard:?}");
    assert_eq!(heard.untold, 0, "{heard:?}");
    Ok(())
}
