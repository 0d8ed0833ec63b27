//! What lies between two machines goes wrong, and what comes from a caller is hostile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use qwex_core::{Ending, FailureCode};
use qwex_runner::{Backend, CancelProgress, Runner, RunnerError, Transfer, Watcher, Workspace};
use qwex_runner_ssh::{SshBackend, SshSettings};

use crate::support::{
    bench_over, bench_with, code, host_config, host_with, in_copy_of, program, script, shell, unheard, until,
    work,
};

#[tokio::test(flavor = "multi_thread")]
async fn i01_a_dropped_link_ends_no_run() {
    let bench = script().await;
    let go = bench.temp.path().join("go");
    let handle = bench
        .submit(&shell(&format!(
            "until [ -e {} ]; do sleep 0.05; done; exit 7",
            go.display()
        )))
        .await;
    let masters = fs::read_dir(bench.temp.path().join("c")).unwrap().flatten();
    for master in masters.filter(|entry| entry.path().join("master").exists()) {
        let mut exit = std::process::Command::new("ssh");
        exit.arg("-S")
            .arg(master.path().join("master"))
            .args(["-O", "exit", "none"]);
        assert!(exit.output().unwrap().status.success());
    }
    let seen = bench.backend.observe(&handle).await.unwrap();
    assert!(crate::support::ending(&seen).is_none(), "{seen:?}");
    fs::write(go, "").unwrap();
    assert_eq!(
        code(&bench.wait(&handle).await),
        Some((FailureCode::ExitCode, Some(7)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn i02_exit_255_is_the_programs_own() {
    for bench in [program().await, script().await] {
        let ending = bench.run(&shell("exit 255")).await;
        assert_eq!(code(&ending), Some((FailureCode::ExitCode, Some(255))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i03_many_submits_from_many_places_start_once() {
    for bench in [program().await, script().await] {
        let starts = bench.temp.path().join("starts");
        let work = shell(&format!("echo x >> {}; sleep 0.2", starts.display()));
        let others: Vec<_> = (0..6).map(|_| bench.anew()).collect();
        let submits = others.iter().map(|backend| backend.submit(&work));
        let submitted = futures::future::join_all(submits).await;
        let uids: Vec<_> = submitted
            .into_iter()
            .map(|submitted| submitted.unwrap().backend.uid)
            .collect();
        assert!(
            uids.iter().all(|uid| uid.is_some() && *uid == uids[0]),
            "{uids:?}"
        );
        let handle = bench.submit(&work).await;
        bench.wait(&handle).await;
        assert_eq!(fs::read_to_string(starts).unwrap(), "x\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i04_words_variables_and_directories_are_data() {
    let odd = "a b\n$(touch pwned);'\"`\\\\ & | > x \u{e9} * ~ -n\t!";
    for bench in [program().await, script().await] {
        let dir = bench.temp.path().join("d $(touch pwned2) ;'\"\n x");
        fs::create_dir(&dir).unwrap();
        let mut work = work(&[
            "sh",
            "-c",
            "printf '%s|' \"$@\" \"$ODD\" > out",
            odd,
            odd,
            "",
            "-e",
        ]);
        work.spec.env.insert("ODD".to_owned(), odd.to_owned());
        work.spec.working_dir = Some(dir.display().to_string());
        let ending = bench.run(&work).await;
        assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
        assert_eq!(
            fs::read_to_string(dir.join("out")).unwrap(),
            format!("{odd}||-e|{odd}|")
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        for name in ["A;touch x", "$(x)", "A B", "1A", ""] {
            let mut work = shell("true");
            work.spec.env.insert(name.to_owned(), String::new());
            assert!(!bench.backend.validate(&work.spec).is_empty(), "{name:?}");
            assert!(matches!(
                bench.backend.submit(&work).await,
                Err(RunnerError::Rejected { .. })
            ));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i05_another_host_key_is_refused_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let swapped = temp.path().join("known_hosts");
    let config = fs::read_to_string(host_config().await).unwrap();
    let known = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("UserKnownHostsFile "));
    let known = PathBuf::from(known.unwrap());
    // A key that is well formed and not the host's: the client's own.
    let other = fs::read_to_string(known.with_file_name("client_key.pub")).unwrap();
    fs::write(&swapped, format!("testbed {other}")).unwrap();
    let file = temp.path().join("config");
    let text = config.replace(&known.display().to_string(), &swapped.display().to_string());
    fs::write(&file, text).unwrap();
    let bench = bench_over(file, |_| {});
    let begun = Instant::now();
    let error = bench.backend.submit(&shell("true")).await.unwrap_err();
    assert!(matches!(error, RunnerError::Unauthorized { .. }), "{error}");
    assert!(
        error.to_string().contains("host key of testbed is not the one"),
        "{error}"
    );
    // Not once the time for an answer is up.
    assert!(begun.elapsed() < bench.backend.config().connect_timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_goes_over_once_and_outputs_come_back() {
    let bench = script().await;
    let here = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = here.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(".gitignore", "ignored\n");
    write("ignored", "x");
    write("in/a b", "first");
    write("in/gone", "x");
    symlink("in/a b", here.path().join("link")).unwrap();
    symlink("/etc/passwd", here.path().join("out-link")).unwrap();
    let send = async |script: &str| {
        let work = in_copy_of(here.path(), script);
        (bench.succeed(&work).await, work)
    };
    send("test ! -e ignored && test ! -L out-link && cat link && echo spoilt > 'in/a b'").await;
    fs::remove_file(here.path().join("in/gone")).unwrap();
    let (handle, work) =
        send("grep -x first link && test ! -e in/gone && mkdir -p out/deep && echo 1 > out/deep/r.json && echo 2 > other && ln -s /etc out/leak.d").await;
    let outputs = ["out/deep".to_owned()];
    let brought = bench
        .backend
        .collect(&handle, here.path(), &outputs)
        .await
        .unwrap();
    assert_eq!(brought, [Path::new("out/deep/r.json")]);
    assert_eq!(
        fs::read_to_string(here.path().join("out/deep/r.json")).unwrap(),
        "1\n"
    );
    // What leads out is never taken, however often it is asked for.
    let leak = bench
        .backend
        .collect(&handle, here.path(), &["out/leak.d".to_owned()])
        .await
        .unwrap_err();
    assert!(matches!(leak, RunnerError::Rejected { .. }), "{leak:?}");
    assert!(leak.to_string().contains("absolute path"), "{leak}");
    assert!(leak.to_string().contains("`outputs`"), "{leak}");
    assert!(!here.path().join("out/leak.d").is_symlink());
    for _ in 0..2 {
        bench.backend.remove(&handle).await.unwrap();
        assert!(!bench.there(&work).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_run_there_gives_way_to_the_script() {
    let bench = bench_with(|config| {
        config.supervisor = qwex_runner_ssh::Supervisor::Program {
            path: "/bin/true".into(),
            subcommand: "supervise".to_owned(),
        };
    })
    .await;
    let ending = bench.run(&shell("exit 0")).await;
    assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
    let probe = bench.backend.probe().await.unwrap();
    assert!(probe.notes[0].contains("does not run there"), "{probe:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_outright_is_lost_and_its_command_can_be_ended() {
    let bench = script().await;
    let work = shell("sleep 300");
    let handle = bench.submit(&work).await;
    until("its start", async || {
        bench.there(&work).join("start.json").exists().then_some(())
    })
    .await;
    let uid = handle.backend.uid.clone().unwrap().0;
    let pid = uid.split('/').nth(1).unwrap();
    let kill = format!("kill -9 {pid}");
    assert!(bench.on_host(&kill));
    assert_eq!(code(&bench.wait(&handle).await), Some((FailureCode::Lost, None)));
    until("nothing of it", async || {
        match bench.backend.cancel(&handle).await.unwrap() {
            qwex_runner::CancelProgress::Stopped => Some(()),
            qwex_runner::CancelProgress::Stopping { .. } => None,
        }
    })
    .await;
}

#[test]
fn a_host_that_is_an_option_is_none() {
    let open = |host| SshBackend::open(host, "supervise", &SshSettings::default());
    for host in ["", "-oProxyCommand=touch x", "a b", "a\n"] {
        assert!(open(Some(host)).is_err(), "{host:?}");
    }
    assert!(open(None).unwrap_err().to_string().contains("--host"));
    assert_eq!(open(Some("me@build1")).unwrap().address(), "me@build1");
    let nowhere = SshSettings {
        remote_dir: Some(String::new()),
        ..SshSettings::default()
    };
    let error = SshBackend::open(Some("build1"), "supervise", &nowhere).unwrap_err();
    assert!(error.to_string().contains("remote_dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i03_a_submit_that_arrives_after_a_cancel_starts_nothing() {
    for bench in [program().await, script().await] {
        let here = tempfile::tempdir().unwrap();
        let ran = bench.temp.path().join("ran");
        let mut work = shell(&format!("echo x >> {}", ran.display()));
        for send in [false, true] {
            work.run_id = qwex_core::RunId::mint();
            work.workspace = send.then(|| Workspace {
                dir: here.path().to_owned(),
                send: Transfer::Everything,
            });
            for _ in 0..2 {
                let progress = bench.backend.cancel(&unheard(&work, &bench)).await.unwrap();
                assert_eq!(progress, CancelProgress::Stopped);
            }
            // It was on its way all the time.
            let submitted = bench.backend.submit(&work).await.unwrap();
            assert!(submitted.adopted, "{submitted:?}");
            let handle = crate::support::handle(&work, &submitted);
            let ending = bench.wait(&handle).await;
            assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
            assert!(!ran.exists());
            bench.backend.remove(&handle).await.unwrap();
            // What was known by its UID and removed is not made again.
            bench.backend.cancel(&handle).await.unwrap();
            assert!(!bench.there(&work).exists());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_outputs_come_back() {
    let bench = script().await;
    // Their names alone are more than all that lies between two ends of a connection holds, and so are they.
    let name = "n".repeat(200);
    let script =
        format!("mkdir out && i=0 && while [ $i -lt 25000 ]; do echo $i > out/{name}$i; i=$((i + 1)); done");
    let here = tempfile::tempdir().unwrap();
    let handle = bench.succeed(&in_copy_of(here.path(), &script)).await;
    let outputs = ["out".to_owned()];
    let collected = bench.backend.collect(&handle, here.path(), &outputs);
    // They take long to be written on a busy machine; what hangs does so for ever.
    let brought = tokio::time::timeout(crate::support::LIMIT * 4, collected)
        .await
        .unwrap();
    assert_eq!(brought.unwrap().len(), 25000);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_variables_stand_in_nobodys_command_line() {
    // The first program that the script starts; whatever is in its words was in everybody's sight.
    let spy = "printf '%s|' \"$@\" >> \"${0%/*}/seen\"; exec /usr/bin/setsid \"$@\"";
    let (programs, sshd) = host_with(&[("setsid", spy)]).await;
    let bench = bench_over(sshd.config(), |_| {});
    let out = bench.temp.path().join("out");
    let names = [
        "TOKEN",
        "d",
        "count",
        "undo",
        "variables",
        "each",
        "_qwex_left",
        "LC_ODD",
    ];
    let shown: Vec<String> = names.iter().map(|name| format!("printenv {name}")).collect();
    for command in ["sh", "./a=b"] {
        let dir = bench.temp.path().join("d");
        fs::create_dir_all(&dir).unwrap();
        fs::copy("/bin/sh", dir.join("a=b")).unwrap();
        let script = format!(
            "({}) > {}; printf '%s|' \"$@\" >> {}",
            shown.join("; "),
            out.display(),
            out.display()
        );
        let mut work = work(&[command, "-c", &script, "sh", "X=1", "two words", ""]);
        work.spec.working_dir = Some(dir.display().to_string());
        for name in names {
            work.spec.env.insert(name.to_owned(), format!("secret of {name}"));
        }
        let ending = bench.run(&work).await;
        assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
        let told: Vec<String> = names.iter().map(|name| format!("secret of {name}\n")).collect();
        assert_eq!(
            fs::read_to_string(&out).unwrap(),
            told.concat() + "X=1|two words||"
        );
    }
    let seen = fs::read_to_string(programs.path().join("seen")).unwrap();
    assert!(seen.contains("two words|"), "{seen}");
    for name in ["TOKEN", "d", "count", "undo", "variables", "each"] {
        assert!(!seen.contains(&format!("secret of {name}|")), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_tells_the_processor_time_of_the_command_and_not_its_own() {
    let bench = script().await;
    let used = async |script: &str, cancels: bool| {
        let handle = bench.submit(&shell(script)).await;
        if cancels {
            bench.has_started(&handle).await;
            bench.backend.cancel(&handle).await.unwrap();
        }
        bench.wait(&handle).await;
        let usage = bench.backend.details(&handle).await.unwrap().usage.unwrap();
        assert_eq!(usage.max_memory_bytes, None);
        usage.cpu_ms.unwrap()
    };
    // A child of the command counts as well.
    let busy = "(i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done); true";
    let busy = used(busy, false).await;
    assert!((20..60_000).contains(&busy), "{busy} ms");
    // What it takes to look for everything of a run on the whole host is nothing of the run.
    let idle = used("trap '' TERM; sleep 300; sleep 300", true).await;
    assert!(idle < busy / 2, "{idle} ms of {busy} ms");
}
