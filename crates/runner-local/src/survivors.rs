//! Finds the processes of an attempt, also those that left its process group and its session.
//!
//! Three marks: descent from the supervisor (which is a subreaper, so that orphans come to it), the
//! process group of the command, and `QWEX_RUN_ID` with `QWEX_ATTEMPT` in the environment. A
//! supervisor of another run, started from within this one, is none of them, nor is what it runs.

use std::collections::{HashMap, HashSet};
use std::io;

use nix::sys::signal::Signal;
use qwex_core::{Attempt, RunId};

use crate::identity::{Life, ProcessId, Stat, boot_id};

pub const RUN_ID: &str = "QWEX_RUN_ID";
pub const ATTEMPT: &str = "QWEX_ATTEMPT";
/// In the environment of every supervisor: the object it watches.
pub const SUPERVISES: &str = "QWEX_SUPERVISES";

/// As often nothing must be found before nothing is there.
const LOOKS: usize = 3;

/// By what the processes of an attempt are known.
#[derive(Debug, Clone)]
pub struct Mark {
    pub run_id: RunId,
    pub attempt: Attempt,
    /// The supervisor while it lives; itself it is never found.
    pub supervisor: Option<i32>,
    /// The command; its number is the process group's too.
    pub command: Option<ProcessId>,
}

/// Every process of the attempt that runs now, without this process.
#[must_use]
pub fn find(mark: &Mark) -> Vec<ProcessId> {
    // A process that forks and ends while we read is in neither half of what we read.
    (0..LOOKS)
        .map(|_| look(mark))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

fn look(mark: &Mark) -> Vec<ProcessId> {
    let table = process_table();
    let command = mark
        .command
        .as_ref()
        .filter(|command| command.life() == Life::Alive);
    let mut found: HashSet<i32> = command.iter().map(|command| command.pid).collect();
    for root in mark.supervisor.into_iter().chain(found.clone()) {
        found.extend(descendants(&table, root));
    }
    let own = nix::unistd::getpid().as_raw();
    // Once its leader is gone, the number of a group may be a stranger's.
    let group = command.map(|command| command.pid);
    for stat in &table {
        let in_group = group == Some(stat.group) && carries(stat.pid, mark) != Some(false);
        if in_group || carries(stat.pid, mark) == Some(true) {
            found.insert(stat.pid);
        }
    }
    table
        .iter()
        .filter(|stat| found.contains(&stat.pid) && stat.pid != own && Some(stat.pid) != mark.supervisor)
        .map(|stat| ProcessId {
            boot_id: boot_id().to_owned(),
            pid: stat.pid,
            start_ticks: stat.start_ticks,
        })
        .collect()
}

/// Signals every process of the attempt; returns how many there were.
pub fn signal(mark: &Mark, signal: Signal) -> usize {
    let all = find(mark);
    for process in &all {
        if let Err(error) = process.signal(signal) {
            tracing::warn!(%process, %signal, %error, "cannot signal a process of the run");
        }
    }
    all.len()
}

fn process_table() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::read)
        .filter(|stat| !stat.is_over())
        .collect()
}

/// All below `root`, but not other supervisors and what is below them.
fn descendants(table: &[Stat], root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for stat in table {
        children.entry(stat.parent).or_default().push(stat.pid);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if !is_supervisor(*child) {
                found.push(*child);
                next.push(*child);
            }
        }
    }
    found
}

/// Whether a process is the supervisor of a run, ours or another.
#[must_use]
pub fn is_supervisor(pid: i32) -> bool {
    environ(pid).is_ok_and(|env| env.iter().any(|entry| entry.starts_with(&key(SUPERVISES))))
}

/// Whether the environment names this attempt; `None` where it names none or cannot be read.
fn carries(pid: i32, mark: &Mark) -> Option<bool> {
    let env = environ(pid).ok()?;
    if env.iter().any(|entry| entry.starts_with(&key(SUPERVISES))) {
        return Some(false);
    }
    let run_id = value(&env, RUN_ID)?;
    let attempt = value(&env, ATTEMPT)?;
    let ours = run_id == mark.run_id.to_string().as_bytes() && attempt == mark.attempt.to_string().as_bytes();
    Some(ours)
}

fn environ(pid: i32) -> io::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ"))?;
    Ok(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn value<'a>(env: &'a [Vec<u8>], name: &str) -> Option<&'a [u8]> {
    env.iter()
        .find_map(|entry| entry.strip_prefix(key(name).as_slice()))
}

fn key(name: &str) -> Vec<u8> {
    format!("{name}=").into_bytes()
}
