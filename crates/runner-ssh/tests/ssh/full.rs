//! A host whose disk is full, at every level of fullness: a command runs whole or not at all, and whatever is there can be
//! ended and removed.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use qwex_core::Ending;
use qwex_runner::{Backend, CancelProgress, Handle, Runner, RunnerError, Watcher, Work};
use qwex_runner_ssh::SshConfig;
use qwex_testbed::sshd::Sshd;

use crate::support::{
    Bench, bench_over, by_program, ending, handle, host_with, in_copy_of, script, unheard, until, work,
};

/// A small file system of its own, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where no disk can be mounted. Only a host that starts later sees it.
    fn mounted(size: &str) -> Option<Self> {
        let temp = tempfile::Builder::new().prefix("qd").tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(temp.path());
        if mount.status().unwrap().success() {
            return Some(Self(temp));
        }
        eprintln!("SKIPPED: cannot mount a small disk; run the tests as root");
        None
    }

    /// As [`bench_over`], with its runs on this disk.
    fn bench(&self, sshd: &Sshd) -> Bench {
        self.bench_with(sshd, |_| {})
    }

    fn bench_with(&self, sshd: &Sshd, change: impl FnOnce(&mut SshConfig)) -> Bench {
        bench_over(sshd.config(), |config| {
            config.remote_dir = self.0.path().join("there").display().to_string();
            change(config);
        })
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Leaves so much room and no more.
    fn fill_but(&self, bytes: u64) {
        let mut file = File::create(self.ballast()).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        let all = file.metadata().unwrap().len();
        file.set_len(all.saturating_sub(bytes)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

/// A command of some kilobytes, that writes down what it was given.
fn wordy(out: &std::path::Path) -> (Work, String) {
    let given: Vec<String> = (0..40).map(|n| format!("{n} {}", "w".repeat(140))).collect();
    let script = format!("printf '%s\\n' \"$@\" >> {}", out.display());
    let mut words = vec!["sh", "-c", &script, "sh"];
    words.extend(given.iter().map(String::as_str));
    (work(&words), given.join("\n") + "\n")
}

async fn cancelled(bench: &Bench, handle: &Handle) {
    until("the end of the cancel", async || {
        (bench.backend.cancel(handle).await.unwrap() == CancelProgress::Stopped).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g08_on_a_full_host_a_command_runs_whole_or_not_at_all_and_can_be_ended() {
    let Some(disk) = SmallDisk::mounted("size=512k") else {
        return;
    };
    let sshd = Sshd::start().await.unwrap();
    let bench = disk.bench(&sshd);
    bench.backend.probe().await.unwrap();
    let (mut refused, mut ran) = (0, 0);
    for level in 0..20_u64 {
        let out = bench.temp.path().join(format!("out-{level}"));
        let (work, given) = wordy(&out);
        disk.fill_but(level * 4096);
        let handle = match bench.backend.submit(&work).await {
            Ok(submitted) => {
                ran += 1;
                handle(&work, &submitted)
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, RunnerError::Failed { .. }), "{level}: {error:?}");
                assert!(error.to_string().contains("full"), "{level}: {error}");
                let handle = unheard(&work, &bench);
                if bench.there(&work).exists() && level % 2 == 0 {
                    // As full as it is, it can be ended, and its end is told.
                    cancelled(&bench, &handle).await;
                    let end = ending(&bench.backend.observe(&handle).await.unwrap());
                    assert!(matches!(end, Some(Ending::Stopped { .. })), "{level}: {end:?}");
                    bench.backend.remove(&handle).await.unwrap();
                    assert!(!out.exists(), "{level}");
                    continue;
                }
                fs::remove_file(disk.ballast()).unwrap();
                bench.submit(&work).await
            }
        };
        bench.wait(&handle).await;
        assert_eq!(fs::read_to_string(&out).unwrap_or_default(), given, "{level}");
        cancelled(&bench, &handle).await;
        bench.backend.remove(&handle).await.unwrap();
        assert!(!bench.there(&work).exists(), "{level}");
    }
    assert!(refused > 2 && ran > 2, "{refused} were refused, {ran} ran");
}

/// Where `tar` takes no list of names, so that something has to be written first.
#[tokio::test(flavor = "multi_thread")]
async fn g08_outputs_of_a_full_host_come_once_there_is_room() {
    let Some(disk) = SmallDisk::mounted("size=512k,nr_inodes=200") else {
        return;
    };
    let tar = "for word; do case $word in -T | --null) exit 64 ;; esac; done\nexec /usr/bin/tar \"$@\"";
    let (_programs, sshd) = host_with(&[("tar", tar)]).await;
    let bench = disk.bench(&sshd);
    let here = tempfile::tempdir().unwrap();
    let handle = bench
        .succeed(&in_copy_of(here.path(), "mkdir out && echo 42 > out/model"))
        .await;
    let mut fillers = Vec::new();
    while let Ok(filler) = tempfile::Builder::new().prefix("full").tempfile_in(disk.0.path()) {
        fillers.push(filler);
    }
    let outputs = ["out".to_owned()];
    let collect = || bench.backend.collect(&handle, here.path(), &outputs);
    let error = collect().await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("disk may be full"), "{error}");
    assert!(!error.to_string().contains("too many"), "{error}");
    drop(fillers);
    assert_eq!(collect().await.unwrap(), [PathBuf::from("out/model")]);
    assert_eq!(fs::read_to_string(here.path().join("out/model")).unwrap(), "42\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn g08_a_command_that_failed_on_a_full_disk_says_so() {
    let Some(disk) = SmallDisk::mounted("size=512k") else {
        return;
    };
    let sshd = Sshd::start().await.unwrap();
    let here = tempfile::tempdir().unwrap();
    let supervised: [fn(&mut SshConfig); 2] = [|_| {}, by_program];
    for change in supervised {
        let bench = disk.bench_with(&sshd, change);
        let failed = async |script: &str| match bench.run(&in_copy_of(here.path(), script)).await {
            Ending::Failed { failure } => failure,
            other => panic!("{other:?}"),
        };
        let full = failed("head -c 4000000 /dev/zero > big || exit 4").await;
        assert_eq!(full.exit_code, Some(4), "{full:?}");
        assert!(full.message.ends_with("is full"), "{full:?}");
        for run in fs::read_dir(disk.0.path().join("there/runs")).unwrap() {
            fs::remove_dir_all(run.unwrap().path()).unwrap();
        }
        let not_full = failed("exit 5").await;
        assert_eq!(not_full.exit_code, Some(5), "{not_full:?}");
        assert!(!not_full.message.contains("full"), "{not_full:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_no_supervisor_can_begin_can_be_ended_and_removed() {
    let bench = script().await;
    bench.backend.probe().await.unwrap();
    for torn in [false, true] {
        let work = work(&["true"]);
        let there = bench.there(&work);
        fs::create_dir(&there).unwrap();
        fs::write(there.join("work.json"), "{}\n").unwrap();
        fs::write(there.join("mode"), "bin 0 supervise\n").unwrap();
        if torn {
            // As one that found no room to say who it is.
            fs::write(there.join("supervisor.json"), "").unwrap();
        }
        let handle = unheard(&work, &bench);
        assert!(bench.backend.remove(&handle).await.is_err());
        cancelled(&bench, &handle).await;
        let end = ending(&bench.backend.observe(&handle).await.unwrap());
        assert!(matches!(end, Some(Ending::Stopped { .. })), "{end:?}");
        bench.backend.remove(&handle).await.unwrap();
        assert!(!there.exists());
    }
}
