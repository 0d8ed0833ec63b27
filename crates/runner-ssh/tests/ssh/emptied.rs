//! A command that empties its own log: that is told, and nothing is given twice.

use futures::StreamExt;
use qwex_runner::{Backend, Handle, LogItem, LogPosition, LogSource, Watcher};

use crate::support::{Bench, LIMIT, program, script, shell, until};

const SPOILT: &str = "head -c 5000 /dev/zero | tr '\\0' a; echo x > /dev/stdout";
const KEPT: &str = "head -c 5000 /dev/zero | tr '\\0' a; echo x >> /dev/stdout; echo y >&1";

/// Reads on from a position to the end: the bytes, the gaps, and the last position.
async fn read(
    backend: &dyn Backend,
    source: &LogSource,
    from: LogPosition,
    mut heard: impl FnMut(&LogItem),
) -> (Vec<u8>, usize, LogPosition) {
    let mut items = backend.read_log(source, from.clone(), true).await.unwrap();
    let (mut bytes, mut gaps, mut at) = (Vec::new(), 0, from);
    while let Some(item) = tokio::time::timeout(LIMIT, items.next()).await.unwrap() {
        let item = item.unwrap();
        heard(&item);
        match item {
            LogItem::Chunk(chunk) => {
                bytes.extend_from_slice(&chunk.bytes);
                at = chunk.position;
            }
            LogItem::Gap { message } => {
                assert!(message.contains("emptied its own log"), "{message}");
                gaps += 1;
            }
            LogItem::End => return (bytes, gaps, at),
        }
    }
    panic!("a log that was followed has an end");
}

async fn source(bench: &Bench, handle: &Handle) -> LogSource {
    until("its log", async || {
        let sources = bench.backend.list_logs(handle).await.unwrap();
        sources.into_iter().find(|source| source.stream == "stdout")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_its_command_emptied_has_a_gap() {
    for bench in [program().await, script().await] {
        for (run, wanted, gaps) in [
            (shell(SPOILT), b"x\n".to_vec(), 1),
            (shell(KEPT), [&[b'a'; 5000][..], b"x\ny\n"].concat(), 0),
        ] {
            let handle = bench.submit(&run).await;
            bench.wait(&handle).await;
            let source = source(&bench, &handle).await;
            let from = LogPosition::default();
            let (bytes, found, _) = read(&bench.backend, &source, from, |_| {}).await;
            assert_eq!((bytes, found), (wanted, gaps), "{:?}", run.spec.command);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_emptied_while_it_is_followed_goes_on_from_its_new_begin() {
    for bench in [program().await, script().await] {
        let go = |name: &str| bench.temp.path().join(name);
        let wait = |name: &str| format!("until [ -e {} ]; do sleep 0.02; done", go(name).display());
        let script = format!(
            "head -c 5000 /dev/zero | tr '\\0' a; {}; echo x > /dev/stdout; {}; echo y",
            wait("one"),
            wait("two")
        );
        let run = shell(&script);
        let handle = bench.submit(&run).await;
        let source = source(&bench, &handle).await;
        let mut count = 0;
        let (bytes, gaps, at) = read(&bench.backend, &source, LogPosition::default(), |item| {
            if let LogItem::Chunk(chunk) = item {
                count += chunk.bytes.len();
            }
            if count >= 5000 {
                std::fs::write(go("one"), "").unwrap();
            }
            if count >= 5002 {
                std::fs::write(go("two"), "").unwrap();
            }
        })
        .await;
        assert_eq!(gaps, 1);
        assert_eq!(bytes, [&[b'a'; 5000][..], b"x\ny\n"].concat());
        // Who stored that position hears neither a byte nor the gap again.
        let again = read(&bench.backend, &source, at.clone(), |_| {}).await;
        assert_eq!(again, (Vec::new(), 0, at));
    }
}
