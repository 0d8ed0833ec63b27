//! How an attempt ended, from what its container and its record say. Pure: the only place that decides it.

use jiff::Timestamp;
use qwex_core::{Ending, Failure, FailureCode};

use crate::errors::start_exit_code;
use crate::record::{End, EndCause, Stop, StopCause};
use crate::snapshot::Snapshot;

const TERM: i64 = 15;
const KILL: i64 = 9;

/// The verdict on a container that ended. `stop`: what we asked of it while it ran, which is before it ended, whatever the
/// clocks of the two machines say.
pub fn of_container(container: &Snapshot, stop: Option<&Stop>) -> Ending {
    let Some((code, finished_at)) = clean_end(container) else {
        return failed(FailureCode::Lost, lost_message(container), None);
    };
    if !container.was_started() {
        return failed(FailureCode::StartError, start_message(container), Some(code));
    }
    if let Some(stop) = stop {
        return of_stop(stop.cause, code);
    }
    if is_signal(code)
        && container
            .deadline()
            .is_some_and(|deadline| finished_at >= deadline)
    {
        return timed_out(code);
    }
    match code {
        0 => Ending::Succeeded { verified: true },
        _ if container.oom_killed => {
            let message = "out of memory: the kernel killed a process of the container".to_owned();
            failed(FailureCode::Oom, message, Some(code))
        }
        _ => failed(FailureCode::ExitCode, exit_message(container, code), Some(code)),
    }
}

/// The verdict on an attempt whose command never began.
pub fn of_record(end: &End) -> Ending {
    let (code, exit_code) = match end.cause {
        EndCause::Cancelled => {
            return Ending::Stopped {
                message: end.message.clone(),
                exit_code: None,
                signal: None,
            };
        }
        EndCause::Image => (FailureCode::Image, None),
        EndCause::StartError => (FailureCode::StartError, Some(start_exit_code(&end.message))),
        EndCause::Rejected => (FailureCode::Rejected, None),
    };
    failed(code, end.message.clone(), exit_code)
}

/// A container that Docker made and could not start says so itself, also where our record is not at hand.
pub fn of_failed_start(container: &Snapshot) -> Option<Ending> {
    let failed_start = !container.was_started() && !container.error.is_empty();
    let exit_code = start_exit_code(&container.error);
    failed_start.then(|| failed(FailureCode::StartError, start_message(container), Some(exit_code)))
}

/// Exit code and finish time. An engine that was killed, or whose helper was, invents the code (0, 255, -1) but has no
/// time for it: nothing then tells how the command ended. The start is no measure: Docker notes it after a quick command
/// has ended already.
fn clean_end(container: &Snapshot) -> Option<(i64, Timestamp)> {
    let code = container.exit_code.filter(|code| (0..=255).contains(code))?;
    let finished_at = container.finished_at?;
    let in_order = container
        .created_at
        .is_none_or(|created_at| created_at <= finished_at);
    in_order.then_some((code, finished_at))
}

fn lost_message(container: &Snapshot) -> String {
    let id = short(&container.id);
    let told = match container.exit_code {
        Some(code) => format!("exit code {code}"),
        None => "no exit code".to_owned(),
    };
    format!(
        "the engine lost container {id}: it gives {told} without a time at which the command ended (the engine, or its \
         process that watched over the command, was killed meanwhile)"
    )
}

fn of_stop(cause: StopCause, code: i64) -> Ending {
    match cause {
        StopCause::Timeout => timed_out(code),
        StopCause::Cancelled => Ending::Stopped {
            message: format!("stopped on request, exit code {code}"),
            exit_code: to_i32(code),
            signal: sent_signal(code),
        },
    }
}

fn timed_out(code: i64) -> Ending {
    Ending::Failed {
        failure: Failure {
            code: FailureCode::Timeout,
            message: "the run's timeout passed, so it was stopped".to_owned(),
            exit_code: to_i32(code),
            signal: sent_signal(code),
        },
    }
}

/// Where we sent TERM and KILL ourselves, 128+n does mean the signal.
fn sent_signal(code: i64) -> Option<i32> {
    if is_signal(code) { to_i32(code - 128) } else { None }
}

fn is_signal(code: i64) -> bool {
    code == 128 + TERM || code == 128 + KILL
}

/// An engine has one number for "exited with 137" and "killed by signal 9"; both readings are told. podman on cgroup v1
/// does not say that it was for want of memory.
fn exit_message(container: &Snapshot, code: i64) -> String {
    let mut message = format!("exit code {code}");
    if (129..=192).contains(&code) {
        let signal = code - 128;
        message += &format!("; engines say the same of a command that was ended by signal {signal}");
    }
    if code == 128 + KILL && container.memory_limit > 0 {
        let mebibytes = container.memory_limit >> 20;
        message += &format!("; the limit of memory was {mebibytes} MiB, and may be why");
    }
    message
}

fn start_message(container: &Snapshot) -> String {
    if container.error.is_empty() {
        "the engine could not start the command and does not say why".to_owned()
    } else {
        container.error.clone()
    }
}

fn failed(code: FailureCode, message: String, exit_code: Option<i64>) -> Ending {
    Ending::Failed {
        failure: Failure {
            code,
            message,
            exit_code: exit_code.and_then(to_i32),
            signal: None,
        },
    }
}

fn to_i32(code: i64) -> Option<i32> {
    i32::try_from(code).ok()
}

/// A container's id as people know it.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
