//! A host that has the programs of busybox alone, as a small device or container has: the script supervises there.

use std::fs;
use std::process::Command;

use futures::StreamExt;
use qwex_core::{Ending, FailureCode};
use qwex_runner::{Backend, LogItem, LogPosition, Runner, Watcher};
use qwex_testbed::sshd::Sshd;

use crate::support::{Bench, bench_over, code, in_copy_of, shell};

/// `None` without busybox, which the clusters of the testbed need as well.
async fn small_host() -> Option<(tempfile::TempDir, Sshd, Bench)> {
    let programs = tempfile::tempdir().unwrap();
    let mut install = Command::new("busybox");
    install.args(["--install", "-s"]).arg(programs.path());
    if !install.status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no busybox; install busybox-static");
        return None;
    }
    let path = format!("SetEnv PATH={}", programs.path().display());
    let sshd = Sshd::start_with(&path).await.unwrap();
    let bench = bench_over(sshd.config(), |_| {});
    Some((programs, sshd, bench))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_over_and_come_back() {
    let Some((_programs, _sshd, bench)) = small_host().await else {
        return;
    };
    let here = tempfile::tempdir().unwrap();
    for (name, text) in [("in", "first"), ("a b", "odd"), ("gone", "x")] {
        fs::write(here.path().join(name), text).unwrap();
    }
    let send = async |script: &str| bench.succeed(&in_copy_of(here.path(), script)).await;
    send("grep -qx first in && grep -qx odd 'a b' && test -e gone").await;
    fs::write(here.path().join("in"), "second").unwrap();
    fs::remove_file(here.path().join("gone")).unwrap();
    let handle =
        send("grep -qx second in && ! test -e gone && mkdir -p out/deep && echo 1 > 'out/deep/r s' && ln -s deep out/l")
            .await;
    let outputs = ["out".to_owned()];
    let mut brought = bench
        .backend
        .collect(&handle, here.path(), &outputs)
        .await
        .unwrap();
    brought.sort();
    assert_eq!(brought, ["out/deep/r s", "out/l"].map(std::path::PathBuf::from));
    assert_eq!(fs::read(here.path().join("out/deep/r s")).unwrap(), b"1\n");
    bench.backend.remove(&handle).await.unwrap();

    // As many as go into one command of a tar that takes no list, and too many for it.
    let name = "n".repeat(100);
    let many = |count| {
        format!("mkdir out && i=0 && while [ $i -lt {count} ]; do : > out/{name}$i; i=$((i + 1)); done")
    };
    fs::remove_dir_all(here.path().join("out")).unwrap();
    let handle = send(&many(2000)).await;
    let brought = bench.backend.collect(&handle, here.path(), &outputs).await;
    assert_eq!(brought.unwrap().len(), 2000);
    let takes_lists = bench.on_host("tar -cf /dev/null -T /dev/null");
    fs::remove_dir_all(here.path().join("out")).unwrap();
    let handle = send(&many(12_000)).await;
    match bench.backend.collect(&handle, here.path(), &outputs).await {
        Ok(brought) => assert!(takes_lists && brought.len() == 12_000),
        Err(error) => assert!(!takes_lists && error.to_string().contains("GNU tar"), "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_whole_and_a_run_is_timed_and_ended() {
    let Some((_programs, _sshd, bench)) = small_host().await else {
        return;
    };
    let run =
        shell("i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo line $i; done; printf 'a\\000b'; exit 3");
    let handle = bench.submit(&run).await;
    assert_eq!(
        code(&bench.wait(&handle).await),
        Some((FailureCode::ExitCode, Some(3)))
    );
    let source = bench.stdout_of(&handle).await;
    let wanted: String = (1..=300).map(|n| format!("line {n}\n")).collect();
    let wanted = wanted + "a\0b";
    for offset in [0, 1, 1000, wanted.len() as u64] {
        let from = LogPosition { offset, mark: None };
        let items = bench.backend.read_log(&source, from, true).await.unwrap();
        let items: Vec<LogItem> = items.map(Result::unwrap).collect().await;
        let mut bytes = Vec::new();
        for item in &items {
            if let LogItem::Chunk(chunk) = item {
                bytes.extend_from_slice(&chunk.bytes);
            }
        }
        assert_eq!(bytes, wanted.as_bytes()[usize::try_from(offset).unwrap()..]);
        assert!(matches!(items.last(), Some(LogItem::End)), "{items:?}");
    }

    let mut late = shell("trap '' TERM; sleep 300; sleep 300");
    late.spec.timeout = Some("1s".parse().unwrap());
    let ending = bench.run(&late).await;
    assert_eq!(code(&ending).map(|(code, _)| code), Some(FailureCode::Timeout));

    let endless = shell("while :; do :; done");
    let handle = bench.submit(&endless).await;
    bench.has_started(&handle).await;
    bench.backend.cancel(&handle).await.unwrap();
    let ending = bench.wait(&handle).await;
    assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
    let usage = bench.backend.details(&handle).await.unwrap().usage;
    assert!(usage.unwrap().cpu_ms.is_some());
}
