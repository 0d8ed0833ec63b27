//! How runs end is told as it was.

use futures::future::join_all;
use qwex_core::{FailureCode, RunState, RunStatus};

use super::{Subject, Verdict, expect, hold};

fn failure(end: &RunState) -> Option<FailureCode> {
    end.failure.as_ref().map(|failure| failure.code)
}

pub async fn exit_code_zero(subject: &Subject) -> Verdict {
    let (_, end) = subject.run(subject.work(&["true"])).await?;
    expect("status", end.status, RunStatus::Succeeded)?;
    expect("exit code", end.exit_code, Some(0))?;
    hold(
        "started_at and finished_at are set and in order",
        end.started_at.is_some() && end.started_at <= end.finished_at,
    )
}

pub async fn exit_code_three(subject: &Subject) -> Verdict {
    let (_, end) = subject.run(subject.shell("exit 3")).await?;
    expect("status", end.status, RunStatus::Failed)?;
    expect("failure", failure(&end), Some(FailureCode::ExitCode))?;
    expect("exit code", end.exit_code, Some(3))
}

/// The smallest, one in the middle, and the largest, which ssh has for itself.
pub async fn other_exit_codes(subject: &Subject) -> Verdict {
    let runs = [1, 42, 255].map(|code| async move {
        let (_, end) = subject.run(subject.shell(&format!("exit {code}"))).await?;
        expect("failure", failure(&end), Some(FailureCode::ExitCode))?;
        expect("exit code", end.exit_code, Some(code))
    });
    join_all(runs).await.into_iter().collect()
}

/// 127 by the command's own will is an exit code like any other.
pub async fn exit_code_127(subject: &Subject) -> Verdict {
    let (_, end) = subject.run(subject.shell("exit 127")).await?;
    expect("failure", failure(&end), Some(FailureCode::ExitCode))?;
    expect("exit code", end.exit_code, Some(127))
}

pub async fn program_not_found(subject: &Subject) -> Verdict {
    let (_, end) = subject.run(subject.work(&["no-such-program-here"])).await?;
    expect("failure", failure(&end), Some(FailureCode::StartError))?;
    let message = end.failure.map(|failure| failure.message).unwrap_or_default();
    hold(
        &format!("the message names the program: {message}"),
        message.contains("no-such-program-here"),
    )
}

/// What may end a command, by the numbers of Linux.
const SIGNALS: [(&str, i32); 10] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("TERM", 15),
];

pub async fn killed_by_a_signal(subject: &Subject) -> Verdict {
    signalled(subject, ("KILL", 9)).await
}

/// So nothing that stands before the command leaves it deaf to one of them, as a shell's `&` does to INT and QUIT and
/// `nohup` to HUP.
pub async fn each_signal(subject: &Subject) -> Verdict {
    let runs = SIGNALS.map(|signal| async move {
        let told = signalled(subject, signal).await;
        told.map_err(|broken| format!("{}: {broken}", signal.0))
    });
    join_all(runs).await.into_iter().collect()
}

/// The command sends it to itself. A first process of a container does not feel its own signals, so that it then says
/// it by exit code; any other that does not feel it has exit code 1.
async fn signalled(subject: &Subject, (name, number): (&str, i32)) -> Verdict {
    let script = format!(
        "ulimit -c 0; kill -s {name} $$; [ $$ = 1 ] && exit {}",
        128 + number
    );
    let (_, end) = subject.run(subject.shell(&script)).await?;
    let failure = end.failure.ok_or("a command that a signal ended has failed")?;
    match failure.code {
        FailureCode::Signal => expect("signal", failure.signal, Some(number)),
        _ => {
            subject.otherwise("as exit code 128+N");
            expect("exit code", failure.exit_code, Some(128 + number))
        }
    }
}

pub async fn timeout(subject: &Subject) -> Verdict {
    let mut work = subject.work(&["sleep", "300"]);
    work.spec.timeout = Some(qwex_core::Span::from_secs(1));
    let (_, end) = subject.run(work).await?;
    expect("failure", failure(&end), Some(FailureCode::Timeout))
}

/// A run ends with its command, whatever the command left behind.
pub async fn background_processes_do_not_hold_it(subject: &Subject) -> Verdict {
    let (_, end) = subject.run(subject.shell("sleep 300 & exit 0")).await?;
    expect("status", end.status, RunStatus::Succeeded)
}
