//! A command that empties its own log, beyond what the laws of every backend say of it.

use qwex_runner::LogPosition;
use qwex_runner::conformance::read_on::{InStep, KEPT, SPOILT, hear};

use crate::support::{LIMIT, program, script, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_its_command_emptied_has_a_gap() {
    for bench in [program().await, script().await] {
        for (run, wanted, gaps) in [
            (shell(SPOILT), b"x\n".to_vec(), 1),
            (shell(KEPT), [&[b'a'; 5000][..], b"x\ny\n"].concat(), 0),
        ] {
            let handle = bench.submit(&run).await;
            bench.wait(&handle).await;
            let source = bench.stdout_of(&handle).await;
            let heard = hear(&bench.backend, &source, LogPosition::default(), |_| {});
            let heard = tokio::time::timeout(LIMIT, heard).await.unwrap().unwrap();
            assert_eq!(heard.gaps.len(), gaps, "{}", heard.words());
            assert_eq!(heard.bytes, wanted, "{}", heard.words());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_emptied_while_it_is_followed_goes_on_from_its_new_begin() {
    for bench in [program().await, script().await] {
        let step = InStep::new(bench.temp.path());
        let handle = bench.submit(&shell(&step.script())).await;
        let source = bench.stdout_of(&handle).await;
        let heard = step.hear(&bench.backend, &source);
        let heard = tokio::time::timeout(LIMIT, heard).await.unwrap().unwrap();
        assert_eq!(heard.gaps.len(), 1, "{}", heard.words());
        assert_eq!(heard.bytes, [&[b'a'; 5000][..], b"x\ny\n"].concat());
        // Who stored that position hears neither a byte nor the gap again.
        let again = hear(&bench.backend, &source, heard.at.clone(), |_| {});
        let again = tokio::time::timeout(LIMIT, again).await.unwrap().unwrap();
        assert!(again.bytes.is_empty() && again.gaps.is_empty(), "{again:?}");
        assert_eq!(again.at, heard.at);
    }
}
