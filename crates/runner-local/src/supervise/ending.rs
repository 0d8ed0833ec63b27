//! From what the kernel said to the record of the end, and onto a disk that may be full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::statvfs::fstatvfs;
use qwex_runner::durable::{Dir, Durability};

use super::child::Started;
use crate::oom::OomKills;
use crate::records::{self, END, EndCause, EndRecord};
use crate::sys::{Reaped, Used};

const OUR_GROUP: &str = "its control group killed for memory, which is at its limit";

/// Why we ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Cancel,
    Timeout,
    /// The supervisor was told to stop.
    Stop,
}

/// What remained once nothing of the attempt ran any more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Left {
    /// Processes that outlived the command and were killed.
    pub over: u32,
    /// What all processes used, the command's among them.
    pub used: Used,
}

/// The end of an attempt whose command never ran.
pub fn never_started(cause: EndCause, exit_code: Option<i32>, message: String) -> EndRecord {
    EndRecord {
        cause,
        exit_code,
        signal: None,
        core_dumped: false,
        message,
        start: None,
        ended_at: Timestamp::now(),
        max_rss_bytes: None,
        cpu_ms: None,
        leftovers: 0,
    }
}

/// The end of a command that ran.
pub fn ended(started: Started, reaped: &Reaped, asked: Option<Asked>, left: &Left) -> EndRecord {
    let signal = reaped.status.signal();
    let killed = signal == Some(Signal::SIGKILL as i32);
    let memory = match asked {
        // Whoever of them was killed: a shell tells of it by its exit code only.
        None if !reaped.status.success() && started.held.has_killed() => Some(OUR_GROUP),
        None if killed => started.oom_before.evidence(OomKills::now()),
        None | Some(_) => None,
    };
    let (cause, why) = match (asked, memory) {
        (Some(Asked::Cancel), _) => (EndCause::Cancelled, Some("cancelled: ")),
        (Some(Asked::Timeout), _) => (EndCause::TimedOut, Some("its timeout passed: ")),
        (Some(Asked::Stop), _) => (EndCause::Stopped, Some("its supervisor was told to stop: ")),
        (None, Some(evidence)) => (EndCause::OutOfMemory, Some(evidence)),
        (None, None) => (EndCause::Ended, None),
    };
    let how = describe(reaped.status.code(), signal, reaped.status.core_dumped());
    let message = match (cause, why) {
        (EndCause::OutOfMemory, Some(evidence)) => format!("{how}; {evidence}"),
        (_, Some(why)) => format!("{why}{how}"),
        (_, None) => how,
    };
    EndRecord {
        cause,
        exit_code: reaped.status.code(),
        signal,
        core_dumped: reaped.status.core_dumped(),
        message,
        start: Some(started.record),
        ended_at: Timestamp::now(),
        max_rss_bytes: Some(left.used.max_rss_bytes),
        cpu_ms: u64::try_from(left.used.cpu.as_millis()).ok(),
        leftovers: left.over,
    }
}

/// The same end, with a word on the disk where it is full: a command that fails for that seldom finds room to log it.
pub fn told_if_full(end: EndRecord, dir: &Dir) -> EndRecord {
    let is_full = fstatvfs(dir).is_ok_and(|disk| disk.blocks() > 0 && disk.blocks_available() == 0);
    let has_failed = end.cause == EndCause::Ended && end.exit_code != Some(0);
    if !is_full || !has_failed {
        return end;
    }
    EndRecord {
        message: format!("{}; the disk that its log is on is full", end.message),
        ..end
    }
}

fn describe(exit_code: Option<i32>, signal: Option<i32>, core_dumped: bool) -> String {
    let core = if core_dumped { ", core dumped" } else { "" };
    match (exit_code, signal) {
        (_, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("the command was ended by signal {signal} ({name}{core})"),
            Err(_) => format!("the command was ended by signal {signal}{core}"),
        },
        (Some(code), None) => format!("the command ended with exit code {code}"),
        (None, None) => "the command ended".to_owned(),
    }
}

/// Disk space put aside while there is some, so that the end can be stored when there is none: the end is written over
/// it. Nothing is removed for that, because each file that is removed makes the next ones dearer to make on some file
/// systems (`recently_deleted` of ext4).
pub struct Reserve {
    file: Option<File>,
}

const RESERVE: &str = ".reserve";
/// More than any end record, and a whole block.
const RESERVE_BYTES: usize = 8192;

impl Reserve {
    pub fn set_aside(dir: &Dir) -> Self {
        // Random enough that no file system stores it as a hole.
        let block: Vec<u8> = (0..RESERVE_BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let filled = || {
            let file = dir.open_file(RESERVE, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?;
            file.write_all_at(&block, 0)?;
            io::Result::Ok(file)
        };
        Self { file: filled().ok() }
    }

    /// Makes it the file `name` with these bytes.
    fn become_file(self, dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self
            .file
            .ok_or_else(|| io::Error::other("nothing was put aside"))?;
        file.write_all_at(bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        dir.move_to(RESERVE, dir, name)?;
        dir.sync()
    }
}

/// Stores the end so that it survives a crash of the machine.
pub fn store(dir: &Dir, end: &EndRecord, reserve: Reserve) -> io::Result<()> {
    let bytes = records::bytes_of(end)?;
    reserve.become_file(dir, END, &bytes).or_else(|_| {
        // A file system that writes nothing in place takes the room of what was put aside.
        dir.remove_file(RESERVE)?;
        dir.write(END, &bytes, Durability::Machine)
    })
}
