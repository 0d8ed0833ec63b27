//! What somebody changes in the very moment in which the host reads it for us, and what takes the host long.

use std::fs;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use qwex_core::Ending;
use qwex_runner::{Backend, LogItem, LogPosition, Watcher};
use qwex_testbed::sshd::Sshd;

use crate::support::{Bench, bench_over, host_with, in_copy_of, put_program, shell, until};

/// A host whose programs of these names do `then` once behind their own work, when it is said that they shall.
struct Meddled {
    bench: Bench,
    armed: PathBuf,
    _sshd: Sshd,
    _temp: tempfile::TempDir,
}

impl Meddled {
    async fn with(names: &[&str], then: impl Fn(&Bench, &Path) -> String) -> Self {
        let (temp, sshd) = host_with(&[]).await;
        let bench = bench_over(sshd.config(), |_| {});
        let armed = temp.path().join("armed");
        let then = then(&bench, temp.path());
        for name in names {
            let armed = armed.display();
            let spy = format!("/usr/bin/{name} \"$@\" || exit\nif rm {armed} 2>/dev/null; then {then}; fi");
            put_program(temp.path(), name, &spy);
        }
        Self {
            bench,
            armed,
            _sshd: sshd,
            _temp: temp,
        }
    }

    fn arm(&self) {
        fs::write(&self.armed, "").unwrap();
    }

    async fn has_meddled(&self) {
        until("the meddling", async || (!self.armed.exists()).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_emptied_while_it_is_read_has_a_gap_and_goes_on() {
    // Whatever tells how long it is.
    let there = Meddled::with(&["wc", "stat"], |bench, _| {
        let runs = Path::new(&bench.backend.config().remote_dir).join("runs");
        format!(
            "for log in \"{}\"/*/stdout.log; do : > \"$log\"; done",
            runs.display()
        )
    })
    .await;
    let bench = &there.bench;
    let go = bench.temp.path().join("go");
    let run = shell(&format!(
        "head -c 5000 /dev/zero | tr '\\0' a; until [ -e {} ]; do sleep 0.02; done; echo x",
        go.display()
    ));
    let handle = bench.submit(&run).await;
    let source = bench.stdout_of(&handle).await;
    let begin = LogPosition::default();
    let mut items = bench.backend.read_log(&source, begin, true).await.unwrap();
    let (mut bytes, mut gaps) = (Vec::new(), 0);
    while let Some(item) = items.next().await {
        match item.unwrap() {
            LogItem::Chunk(chunk) => {
                bytes.extend_from_slice(&chunk.bytes);
                if bytes.len() == 5000 {
                    there.arm();
                }
            }
            LogItem::Gap { .. } => {
                gaps += 1;
                there.has_meddled().await;
                fs::write(&go, "").unwrap();
            }
            LogItem::End => break,
        }
    }
    assert_eq!((bytes, gaps), ([&[b'a'; 5000][..], b"x\n"].concat(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_replaced_while_it_is_read_is_one_of_both() {
    let there = Meddled::with(&["wc"], |bench, temp| {
        let cache = Path::new(&bench.backend.config().cache_dir).join("workspace");
        let longer = temp.join("longer");
        format!(
            "for old in {}/*/manifest; do cat \"$old\" > {1}; printf ' ' >> {1}; mv {1} \"$old\"; done",
            cache.display(),
            longer.display()
        )
    })
    .await;
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("in"), "first").unwrap();
    let mut work = in_copy_of(here.path(), "cat in");
    there.bench.run(&work).await;
    work.run_id = qwex_core::RunId::mint();
    there.arm();
    let ending = there.bench.run(&work).await;
    assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
    there.has_meddled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_files_take_long_to_remove_is_removed() {
    // As slow as a tree of a million files.
    let slow =
        "case $* in *.gone-*) until [ -e \"${0%/*}/go\" ]; do sleep 0.02; done ;; esac\nexec /bin/rm \"$@\"";
    let (programs, sshd) = host_with(&[("rm", slow)]).await;
    let go = programs.path().join("go");
    let bench = bench_over(sshd.config(), |_| {});
    let work = shell("true");
    let handle = bench.submit(&work).await;
    bench.wait(&handle).await;
    bench.backend.remove(&handle).await.unwrap();
    assert!(!bench.there(&work).exists());
    let runs = bench.there(&work).parent().unwrap().to_owned();
    let left = || fs::read_dir(&runs).unwrap().count();
    assert_eq!(left(), 1, "it is still going");
    fs::write(go, "").unwrap();
    until("nothing left", async || (left() == 0).then_some(())).await;
}
