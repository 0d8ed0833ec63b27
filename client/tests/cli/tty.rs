//! What only a terminal shows: Ctrl-C, questions, escaped control bytes.

use std::process::Command;

use nix::sys::wait::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

use crate::support::{BINARY, User, seen};

const LIMIT: Option<u64> = Some(180_000);

fn on_terminal(user: &User, args: &[&str]) -> PtySession {
    let mut command = Command::new(BINARY);
    command
        .args(args)
        .env_clear()
        .env("HOME", user.dir())
        .env("PATH", std::env::var("PATH").unwrap())
        .env("TERM", "dumb")
        .current_dir(user.dir());
    spawn_command(command, LIMIT).unwrap()
}

fn exit_code(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

fn status(user: &User) -> String {
    let seen = seen(user.qwexctl(&["ps", "--no-headers"]));
    seen.out.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

const SLOW: &[&str] = &["run", "--", "sh", "-c", "echo begun; exec sleep 600"];

#[test]
fn ctrl_c_detaches_and_says_how_to_come_back() {
    let user = User::new();
    let mut session = on_terminal(&user, SLOW);
    session.exp_string("begun").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("the run goes on").unwrap();
    session.exp_string("qwexctl attach").unwrap();
    session.exp_string("qwexctl logs -f").unwrap();
    session.exp_string("qwexctl cancel").unwrap();
    session.exp_eof().unwrap();
    assert_eq!(exit_code(&session), 130);
    assert_eq!(status(&user), "running");
    assert_eq!(seen(user.qwexctl(&["cancel", "@latest"])).code, 0);
}

#[test]
fn a_second_ctrl_c_offers_to_cancel() {
    let user = User::new();
    let mut session = on_terminal(&user, SLOW);
    session.exp_string("begun").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("within 2 s").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("Cancel run").unwrap();
    session.send_line("y").unwrap();
    session.exp_eof().unwrap();
    assert_eq!(exit_code(&session), 9);
    assert_eq!(status(&user), "cancelled");
}

#[test]
fn whoever_says_no_keeps_the_run() {
    let user = User::new();
    let mut session = on_terminal(&user, SLOW);
    session.exp_string("begun").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("within 2 s").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("[y/N]").unwrap();
    session.send_line("").unwrap();
    session.exp_eof().unwrap();
    assert_eq!(exit_code(&session), 130);
    assert_eq!(status(&user), "running");
    assert_eq!(seen(user.qwexctl(&["cancel", "@latest"])).code, 0);
}

#[test]
fn cancel_on_interrupt_cancels_at_the_first() {
    let user = User::new();
    let mut words = SLOW.to_vec();
    words.insert(1, "--cancel-on-interrupt");
    let mut session = on_terminal(&user, &words);
    session.exp_string("begun").unwrap();
    session.send_control('c').unwrap();
    session.exp_eof().unwrap();
    assert_eq!(exit_code(&session), 9);
    assert_eq!(status(&user), "cancelled");
}

#[test]
fn control_bytes_are_escaped_unless_raw() {
    let user = User::new();
    let mut session = on_terminal(&user, &["run", "--", "printf", r"\033]0;title\007\n"]);
    session.exp_string(r"\x1b]0;title\x07").unwrap();
    session.exp_eof().unwrap();
    let mut raw = on_terminal(&user, &["logs", "--raw", "@latest"]);
    raw.exp_string("\u{1b}]0;title").unwrap();
    raw.exp_eof().unwrap();
}
