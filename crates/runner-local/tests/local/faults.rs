//! Rows G01 to G06 of the fault list: processes that end at the wrong moment, or will not end.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qwex_core::{Ending, FailureCode, RunId};
use qwex_runner::{CancelProgress, Handle, Work};
use qwex_runner_local::identity::{Life, ProcessId};
use qwex_runner_local::survivors::{self, Mark};

use crate::support::{Bench, embedded, embedded_with, laptop, shell, skip, supervisor, until, work};

fn lost_message(ending: Ending) -> String {
    match ending {
        Ending::Failed { failure } if failure.code == FailureCode::Lost => failure.message,
        other => panic!("not lost: {other:?}"),
    }
}

/// The process that a record of the attempt names.
fn process(bench: &Bench, work: &Work, record: &str) -> ProcessId {
    let record: serde_json::Value = serde_json::from_str(&bench.file(work, record)).unwrap();
    record["process"].as_str().unwrap().parse().unwrap()
}

fn kill_9(process: &ProcessId) {
    kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    until("the end of a killed process", || {
        (process.life() == Life::Dead).then_some(())
    });
}

fn survivors_of(work: &Work) -> Vec<ProcessId> {
    survivors::find(&Mark {
        run_id: work.run_id,
        attempt: work.attempt,
        supervisor: None,
        command: None,
    })
}

fn cancel(bench: &Bench, handle: &Handle) {
    until("the end of the cancel", || {
        let progress = bench.backend.cancel_sync(handle).unwrap();
        (progress == CancelProgress::Stopped).then_some(())
    });
}

#[test]
fn g01_a_reboot_makes_a_run_lost_and_leaves_strangers_alone() {
    let bench = embedded();
    let run = work(&["sleep", "300"]);
    let handle = bench.submit(&run);
    let command = process(&bench, &run, "start.json");
    let dir = bench.backend.config().root.join(run.object_name());
    for name in ["supervisor.json", "start.json"] {
        let record = std::fs::read_to_string(dir.join(name)).unwrap();
        let other_boot = record.replace(&command.boot_id, "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
        std::fs::write(dir.join(name), other_boot).unwrap();
    }
    let handle = Handle {
        backend: qwex_core::BackendInfo {
            uid: None,
            ..handle.backend
        },
        ..handle
    };
    assert!(lost_message(bench.wait(&handle)).contains("reboot"));
    assert_eq!(
        bench.backend.cancel_sync(&handle).unwrap(),
        CancelProgress::Stopped
    );
    assert_eq!(
        command.life(),
        Life::Alive,
        "whoever has the pid after a reboot is a stranger"
    );
    assert!(command.signal(Signal::SIGKILL).unwrap());
}

#[test]
fn g01_who_got_the_pid_of_a_dead_supervisor_is_not_taken_for_it() {
    let bench = embedded();
    let run = work(&["sleep", "300"]);
    let handle = bench.submit(&run);
    let command = process(&bench, &run, "start.json");
    kill_9(&process(&bench, &run, "supervisor.json"));
    let mut stranger = Killed(sleeper());
    let pid = i32::try_from(stranger.0.id()).unwrap();
    // Same boot, a number that is alive, another start time.
    let reused = ProcessId {
        pid,
        ..process(&bench, &run, "supervisor.json")
    };
    let dir = bench.backend.config().root.join(run.object_name());
    let record = format!("{{\"process\":\"{reused}\",\"started_at\":\"2026-01-01T00:00:00Z\"}}\n");
    std::fs::write(dir.join("supervisor.json"), record).unwrap();
    let handle = Handle {
        backend: qwex_core::BackendInfo {
            uid: None,
            ..handle.backend
        },
        ..handle
    };
    lost_message(bench.wait(&handle));
    cancel(&bench, &handle);
    assert_eq!(command.life(), Life::Dead);
    assert!(
        stranger.0.try_wait().unwrap().is_none(),
        "the stranger still runs"
    );
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn g01_a_number_that_is_given_out_again_is_another_process() {
    // Others may be quicker, and keep the number for long: then the next one that has died.
    let Some((dead, mut stranger)) = (0..50).find_map(|_| dead_and_its_heir()) else {
        skip("cannot choose the next pid; run the tests as root");
        return;
    };
    assert_eq!(dead.life(), Life::Dead);
    assert!(!dead.signal(Signal::SIGKILL).unwrap());
    assert!(
        stranger.0.try_wait().unwrap().is_none(),
        "the stranger still runs"
    );
}

/// A process that has ended, and another that has its number.
fn dead_and_its_heir() -> Option<(ProcessId, Killed)> {
    let mut first = Killed(sleeper());
    let dead = ProcessId::of(i32::try_from(first.0.id()).unwrap()).unwrap();
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    // Start times are told in ticks of 10 ms; no machine goes through all pids within one.
    let ended = Instant::now();
    until("a later tick", || {
        (ended.elapsed() > Duration::from_millis(30)).then_some(())
    });
    // The kernel gives out numbers in order from here on.
    (0..10).find_map(|_| {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (dead.pid - 1).to_string()).ok()?;
        let next = Killed(sleeper());
        (next.0.id() == dead.pid.unsigned_abs()).then(|| (dead.clone(), next))
    })
}

fn sleeper() -> std::process::Child {
    Command::new("sleep").arg("300").spawn().unwrap()
}

#[test]
fn g02_a_client_killed_at_a_hundred_points_leaves_a_run_that_ends_as_it_should() {
    let bench = laptop();
    let root = &bench.backend.config().root;
    for point in 0..100_u32 {
        let count = root.join(format!("count-{point}"));
        let script = format!("echo once >> {}; exit 7", count.display());
        let mut run = shell(&script);
        let mut client = Command::new(&supervisor()[0])
            .arg("run")
            .arg(root)
            .args([&run.run_id.to_string(), &script])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(point) * 150));
        client.kill().unwrap();
        client.wait().unwrap();
        // Whoever comes back submits again, and finds what is there.
        run.spec.working_dir = None;
        let handle = bench.submit(&run);
        match bench.wait(&handle) {
            Ending::Failed { failure } => assert_eq!(failure.exit_code, Some(7), "point {point}"),
            other => panic!("point {point}: {other:?}"),
        }
        assert_eq!(
            std::fs::read_to_string(&count).unwrap(),
            "once\n",
            "point {point}"
        );
    }
}

#[test]
fn g03_a_killed_supervisor_is_told_with_the_command_it_left_and_the_way_to_end_it() {
    let bench = embedded();
    let run = work(&["sleep", "300"]);
    let handle = bench.submit(&run);
    let command = process(&bench, &run, "start.json");
    kill_9(&process(&bench, &run, "supervisor.json"));
    let message = lost_message(bench.wait(&handle));
    assert!(message.contains(&command.to_string()), "{message}");
    assert!(message.contains("cancel"), "{message}");
    assert_eq!(command.life(), Life::Alive);
    cancel(&bench, &handle);
    assert_eq!(command.life(), Life::Dead);
    let again = bench.backend.submit_sync(&run).unwrap();
    assert!(again.adopted, "a lost attempt is not started a second time");
    lost_message(bench.wait(&handle));
}

#[test]
fn g03_a_supervisor_killed_at_any_point_never_starts_twice_and_never_lies() {
    let bench = embedded();
    for point in 0..40_u32 {
        let count = bench.backend.config().root.join(format!("count-{point}"));
        let run = shell(&format!("echo once >> {}; exit 7", count.display()));
        let handle = bench.submit(&run);
        std::thread::sleep(Duration::from_micros(u64::from(point) * 100));
        let supervisor: ProcessId = handle.backend.uid.clone().unwrap().0.parse().unwrap();
        supervisor.signal(Signal::SIGKILL).unwrap();
        let ending = bench.wait(&handle);
        bench.submit(&run);
        until("the end of what it left", || {
            survivors_of(&run).is_empty().then_some(())
        });
        let times = std::fs::read_to_string(&count)
            .unwrap_or_default()
            .lines()
            .count();
        assert!(times <= 1, "point {point}: started {times} times");
        match ending {
            Ending::Failed { failure } if failure.code == FailureCode::Lost => {}
            Ending::Failed { failure } => {
                assert_eq!((failure.exit_code, times), (Some(7), 1), "point {point}");
            }
            other => panic!("point {point}: {other:?}"),
        }
    }
}

#[test]
fn g04_what_a_command_leaves_behind_holds_neither_its_end_nor_its_log() {
    let bench = embedded();
    for script in [
        "sleep 300 & echo done",
        "setsid sleep 300 & echo done",
        "(setsid sh -c 'sleep 300 & exit' &) ; echo done",
        "env -i setsid -f sleep 300; echo done",
    ] {
        let run = shell(script);
        let begun = Instant::now();
        let handle = bench.submit(&run);
        assert_eq!(
            bench.wait(&handle),
            Ending::Succeeded { verified: true },
            "{script}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{script} took {:?}",
            begun.elapsed()
        );
        let (mut out, mut err) = (Vec::new(), Vec::new());
        bench
            .backend
            .follow_sync(&handle)
            .to_the_end(&mut out, &mut err)
            .unwrap();
        assert_eq!(out, b"done\n", "{script}");
        assert_eq!(survivors_of(&run), [], "{script}");
    }
}

#[test]
fn g05_nothing_of_a_cancelled_run_is_left_whatever_it_did_to_escape() {
    let bench = embedded();
    let script = "trap '' TERM INT HUP
        setsid sh -c \"trap '' TERM; while true; do sleep 1; done\" &
        setsid -f sh -c \"trap '' TERM; sleep 300; sleep 300\"
        env -i setsid -f sleep 300
        echo ready
        while true; do sleep 1; done";
    let run = shell(script);
    let handle = bench.submit(&run);
    bench.file(&run, "output.log");
    let sup: ProcessId = handle.backend.uid.clone().unwrap().0.parse().unwrap();
    let mark = Mark {
        run_id: run.run_id,
        attempt: run.attempt,
        supervisor: Some(sup.pid),
        command: None,
    };
    let all = until("five processes", || {
        let all = survivors::find(&mark);
        (all.len() >= 5).then_some(all)
    });
    cancel(&bench, &handle);
    assert!(matches!(
        bench.wait(&handle),
        Ending::Stopped { signal: Some(9), .. }
    ));
    for process in all {
        assert_eq!(process.life(), Life::Dead, "{process}");
    }
}

#[test]
fn g05_escapees_of_a_run_without_supervisor_are_found_by_their_environment() {
    let bench = embedded();
    let run = shell("setsid -f sh -c \"trap '' TERM; while true; do sleep 1; done\"; echo ready; sleep 300");
    let handle = bench.submit(&run);
    bench.file(&run, "output.log");
    kill_9(&process(&bench, &run, "supervisor.json"));
    // One that is just becoming another program shows no environment.
    until("both that it left", || {
        (survivors_of(&run).len() >= 2).then_some(())
    });
    cancel(&bench, &handle);
    assert_eq!(survivors_of(&run), []);
}

#[test]
fn g05_a_run_started_from_within_a_run_is_its_own() {
    let bench = laptop();
    let root = bench.backend.config().root.clone();
    let inner = RunId::mint();
    let program = supervisor()[0].to_string_lossy().into_owned();
    // The outer command goes before the inner run ends.
    let script = format!(
        "{program} run {} {inner} 'sleep 1; exit 5' & sleep 0.3; exit 0",
        root.display()
    );
    let outer = shell(&script);
    assert_eq!(bench.run(&outer), Ending::Succeeded { verified: true });
    let mut run = shell("sleep 1; exit 5");
    run.run_id = inner;
    let handle = bench.submit(&run);
    match bench.wait(&handle) {
        Ending::Failed { failure } => assert_eq!(failure.exit_code, Some(5), "{failure:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn g06_signal_and_exit_code_are_stored_apart() {
    let bench = embedded();
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28];
    let real_time = [34, 40, 64];
    for number in (1..=31).chain(real_time).filter(|n| !harmless.contains(n)) {
        let run = shell(&format!("ulimit -c 0; kill -{number} $$; sleep 5"));
        match bench.run(&run) {
            Ending::Failed { failure } => {
                assert_eq!(failure.code, FailureCode::Signal, "signal {number}: {failure:?}");
                assert_eq!((failure.exit_code, failure.signal), (None, Some(number)));
            }
            other => panic!("signal {number}: {other:?}"),
        }
    }
    // What a shell makes of a signal is an exit code.
    match bench.run(&shell("sh -c 'kill -9 $$'; exit $?")) {
        Ending::Failed { failure } => {
            assert_eq!(
                (failure.code, failure.exit_code),
                (FailureCode::ExitCode, Some(137))
            );
            assert_eq!(failure.signal, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn g06_the_command_feels_every_signal_whatever_its_starter_ignores() {
    let bench = laptop();
    let client = format!(
        "trap '' HUP TERM INT; exec {} run {} {} 'grep -E \"^Sig(Blk|Ign)\" /proc/self/status'",
        supervisor()[0].display(),
        bench.backend.config().root.display(),
        RunId::mint()
    );
    let shown = Command::new("sh").args(["-c", &client]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let masks: Vec<u64> = shown
        .lines()
        .map(|line| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap())
        .collect();
    // 32 and 33 belong to the C library, which ignores them in all that it spawns.
    let of_the_c_library = (1 << 31) | (1 << 32);
    assert_eq!(masks.len(), 2, "{shown}");
    assert!(masks.iter().all(|mask| mask & !of_the_c_library == 0), "{shown}");
}

/// A control group with 64 MiB of memory, below our own.
struct SmallMemory(std::path::PathBuf);

impl SmallMemory {
    fn made() -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = |line: &str| line.rsplit(':').next().unwrap_or_default().to_owned();
        let v1 = own.lines().find(|line| line.contains(":memory:")).map(path);
        let v2 = own.lines().find(|line| line.starts_with("0::")).map(path);
        let (root, path, limit) = match (v1, v2) {
            (Some(path), _) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            (None, Some(path)) => ("/sys/fs/cgroup", path, "memory.max"),
            (None, None) => return None,
        };
        let group = format!("{root}{path}/qwex-test-{}", std::process::id());
        std::fs::create_dir(&group).ok()?;
        let group = Self(group.into());
        std::fs::write(group.0.join(limit), "64M").ok()?;
        Some(group)
    }
}

impl Drop for SmallMemory {
    fn drop(&mut self) {
        until("an empty control group", || std::fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn a_command_killed_for_memory_is_told_apart_from_one_that_was_killed() {
    let Some(group) = SmallMemory::made() else {
        skip("cannot make a control group; run the tests as root");
        return;
    };
    let enter = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", group.0.display());
    let bench = embedded_with(|config| {
        let inside = ["sh".into(), "-c".into(), enter.into()];
        config.supervisor = inside.into_iter().chain(supervisor()).collect();
    });
    match bench.run(&shell("exec tail /dev/zero")) {
        Ending::Failed { failure } => {
            assert_eq!(
                (failure.code, failure.signal),
                (FailureCode::Oom, Some(9)),
                "{failure:?}"
            );
            assert!(failure.message.contains("control group"), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    match bench.run(&shell("kill -9 $$")) {
        Ending::Failed { failure } => assert_eq!(failure.code, FailureCode::Signal),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ended_supervisors_are_reaped_and_outlive_a_group_kill_of_their_starter() {
    let bench = laptop();
    let root = &bench.backend.config().root;
    let run = shell("sleep 0.5; exit 7");
    let mut client = Command::new(&supervisor()[0])
        .arg("run")
        .arg(root)
        .args([&run.run_id.to_string(), "sleep 0.5; exit 7"])
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let dir = root.join(run.run_id.to_string()).join("a1");
    until("the start", || dir.join("start.json").exists().then_some(()));
    let group = Pid::from_raw(i32::try_from(client.id()).unwrap());
    nix::sys::signal::killpg(group, Signal::SIGKILL).unwrap();
    client.wait().unwrap();
    let handle = bench.submit(&run);
    match bench.wait(&handle) {
        Ending::Failed { failure } => assert_eq!(failure.exit_code, Some(7)),
        other => panic!("{other:?}"),
    }
}
