//! What a power failure must find on disk, seen from outside with `strace`: the order of syncs, renames and starts.

use std::process::Command;

use crate::support::{BINARY, User};

/// Where the first line with all of `words` is.
fn line(trace: &str, words: &[&str]) -> usize {
    trace
        .lines()
        .position(|line| words.iter().all(|word| line.contains(word)))
        .unwrap_or_else(|| panic!("nothing with {words:?} in:\n{trace}"))
}

/// Where a sync of this path is that comes after line `after`.
fn synced(trace: &str, path: &str, after: usize) -> usize {
    let found = trace.lines().enumerate().skip(after).find(|(_, line)| {
        let what = line
            .split_once("fsync(")
            .and_then(|(_, what)| what.split_once('<'));
        what.is_some_and(|(_, what)| what.starts_with(path) && what[path.len()..].starts_with(['>', '.']))
    });
    found
        .map(|(at, _)| at)
        .unwrap_or_else(|| panic!("{path} is not synced after line {after} of:\n{trace}"))
}

#[test]
fn g07_no_command_starts_before_its_run_and_its_attempt_are_on_disk() {
    let user = User::new();
    let trace = user.dir().join("trace");
    let calls = "trace=execve,fsync,rename,renameat,renameat2";
    let done = Command::new("strace")
        .args(["-f", "-y", "-qq", "-s", "300", "-e", calls, "-o"])
        .arg(&trace)
        .args([BINARY, "run", "--backend", "local", "-d", "--", "/bin/echo"])
        .env_clear()
        .env("HOME", user.dir())
        .env("PATH", std::env::var("PATH").unwrap())
        .current_dir(user.dir())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let trace = std::fs::read_to_string(trace).unwrap();
    let home = user.dir().canonicalize().unwrap();
    let runs = home.join(".qwex/runs").display().to_string();
    let run = format!("{runs}/{}", String::from_utf8(done.stdout).unwrap().trim());
    let attempt = format!("{run}/a1");

    let starts = line(&trace, &["execve(\"/bin/echo\""]);
    let recorded = line(&trace, &["rename", "\"run.json\""]);
    let placed = line(&trace, &["rename", "\"a1\""]);
    let attended = line(&trace, &["rename", "\"supervisor.json\""]);
    for (what, at, limit) in [
        (
            "the record's bytes",
            synced(&trace, &format!("{run}/.run.json"), 0),
            recorded,
        ),
        ("the run's name", synced(&trace, &runs, recorded), starts),
        (
            "the attempt's and the record's names",
            synced(&trace, &run, placed.max(recorded)),
            attended,
        ),
        (
            "who supervises",
            synced(&trace, &format!("{attempt}/.supervisor.json"), 0),
            attended,
        ),
        (
            "what is in the attempt",
            synced(&trace, &attempt, attended),
            starts,
        ),
    ] {
        assert!(at < limit, "{what} is synced too late in:\n{trace}");
    }
    let work = line(&trace, &["fsync(", "/.work.json."]);
    assert!(work < placed, "the work is synced too late in:\n{trace}");
}
