//! A command that empties its own log, beyond what the laws of every backend say of it.

use qwex_runner::conformance::read_on::{Heard, InStep, KEPT, SPOILT, hear};
use qwex_runner::{Handle, LogPosition, LogSource, Watcher};

use crate::support::{Bench, LIMIT, embedded, laptop, shell, until};

/// Reads on from a position to the end.
async fn read(bench: &Bench, source: &LogSource, from: LogPosition) -> Heard {
    let heard = hear(&bench.backend, source, from, |_| {});
    tokio::time::timeout(LIMIT, heard).await.unwrap().unwrap()
}

async fn source(bench: &Bench, handle: &Handle) -> LogSource {
    loop {
        let sources = bench.backend.list_logs(handle).await.unwrap();
        if let Some(source) = sources.into_iter().next() {
            return source;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_log_that_its_command_emptied_has_a_gap() {
    let spoilt = shell(SPOILT);
    let written_on = shell("head -c 5000 /dev/zero; sleep 0.3; echo x > /dev/stdout; echo y");
    let repeated = shell("echo one > /dev/stdout; sleep 2.2; echo two > /dev/stdout");
    let kept = shell(KEPT);
    for bench in [embedded(), laptop()] {
        for (run, wanted, gaps) in [
            (&spoilt, b"x\n".to_vec(), 1),
            (&written_on, b"x\ny\n".to_vec(), 1),
            (&repeated, b"two\n".to_vec(), 1),
            (&kept, [&[b'a'; 5000][..], b"x\ny\n"].concat(), 0),
        ] {
            let handle = bench.submit(run);
            bench.wait(&handle);
            let source = source(&bench, &handle).await;
            let heard = read(&bench, &source, LogPosition::default()).await;
            let found = (heard.bytes, heard.gaps.len());
            assert_eq!(found, (wanted, gaps), "{:?}", run.spec.command);
        }
    }
}

#[tokio::test]
async fn a_log_that_is_emptied_while_it_is_followed_goes_on_from_its_new_begin() {
    let bench = embedded();
    let step = InStep::new(bench.dir());
    let handle = bench.submit(&shell(&step.script()));
    let source = source(&bench, &handle).await;
    let heard = step.hear(&bench.backend, &source);
    let heard = tokio::time::timeout(LIMIT, heard).await.unwrap().unwrap();
    assert_eq!(heard.gaps.len(), 1, "{}", heard.words());
    assert_eq!(heard.bytes, [&[b'a'; 5000][..], b"x\ny\n"].concat());
    assert_eq!(heard.at.offset, 5004);
    // Who stored that position hears neither a byte nor the gap again.
    let again = read(&bench, &source, heard.at.clone()).await;
    assert!(again.bytes.is_empty() && again.gaps.is_empty(), "{again:?}");
    assert_eq!(again.at, heard.at);
}

#[test]
fn who_follows_a_run_from_its_terminal_is_told() {
    let bench = laptop();
    let run = shell(SPOILT);
    let handle = bench.submit(&run);
    bench.wait(&handle);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut follow = bench.backend.follow_sync(&handle);
    until("the end", || follow.to_the_end(&mut out, &mut err).ok());
    assert_eq!(out, b"x\n");
    let err = String::from_utf8(err).unwrap();
    assert!(err.contains("stdout: the command emptied its own log"), "{err}");
}
