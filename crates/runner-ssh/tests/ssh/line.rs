//! The line itself fails: it swallows everything, or breaks after any byte of either direction. Rows I01
//! and I03.

use std::fs;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use qwex_core::{Ending, FailureCode};
use qwex_runner::{Backend, LogItem, LogPosition, Runner, RunnerError, Watcher};
use qwex_runner_ssh::SshConfig;
use qwex_testbed::tcp_proxy::{Cut, Fault, Faults};

use crate::support::{Bench, by_program, code, ending, in_copy_of, shell, through, until};

/// Everything that asks a host has told its caller by then, with the limits below.
const DARK: Duration = Duration::from_secs(60);

fn impatient(config: &mut SshConfig) {
    config.connect_timeout = Duration::from_secs(2);
    config.answer_timeout = Duration::from_secs(2);
}

fn assert_blind<T: std::fmt::Debug>(what: &str, answer: Result<T, RunnerError>) {
    let error = answer.expect_err(what);
    assert!(error.is_blind(), "{what}: {error}");
}

async fn within<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(DARK, answer).await;
    answer.unwrap_or_else(|_| panic!("{what} hangs for {DARK:?}"))
}

/// Follows a stream until it ends or breaks.
async fn to_its_error<T>(stream: &mut BoxStream<'static, Result<T, RunnerError>>) -> Result<(), RunnerError> {
    while stream.try_next().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i01_a_black_hole_blinds_us_and_ends_no_run() {
    let (proxy, bench) = through(impatient).await;
    let path = |name: &str| bench.temp.path().join(name);
    let (go, starts) = (path("go"), path("starts"));
    let work = shell(&format!(
        "echo before; until [ -e {} ]; do sleep 0.05; done; echo in the dark; exit 7",
        go.display()
    ));
    let handle = bench.submit_at_last(&work).await;
    let source = bench.stdout_of(&handle).await;
    let (mut log, first) = until("a first chunk", async || {
        let begin = LogPosition::default();
        let mut log = bench.backend.read_log(&source, begin, true).await.unwrap();
        match log.next().await {
            Some(Ok(LogItem::Chunk(first))) => Some((log, first)),
            Some(Ok(LogItem::Gap { .. } | LogItem::End)) | None => panic!("no first chunk"),
            Some(Err(error)) => {
                assert_blind("the log", Err::<(), _>(error));
                None
            }
        }
    })
    .await;
    assert_eq!(first.bytes, "before\n");
    let mut watch = until("a watch", async || {
        let mut watch = bench.backend.watch(None).await.unwrap();
        watch.next().await.unwrap().ok().map(|_| watch)
    })
    .await;

    proxy.set(Faults::both(Fault::BlackHole));
    let second = shell(&format!("echo x >> {}", starts.display()));
    let ((), (), (), (), ()) = tokio::join!(
        async { assert_blind("observe", within("observe", bench.backend.observe(&handle)).await) },
        async { assert_blind("probe", within("probe", bench.anew().probe()).await) },
        async { assert_blind("submit", within("submit", bench.backend.submit(&second)).await) },
        async {
            assert_blind("the log", within("the log", to_its_error(&mut log)).await);
        },
        async {
            assert_blind("the watch", within("the watch", to_its_error(&mut watch)).await);
        },
    );
    fs::write(go, "").unwrap();
    until("the end over there", async || {
        bench.there(&work).join("end.json").exists().then_some(())
    })
    .await;

    proxy.set(Faults::NONE);
    let seen = until("sight", async || bench.backend.observe(&handle).await.ok()).await;
    assert_eq!(
        ending(&seen).as_ref().and_then(code),
        Some((FailureCode::ExitCode, Some(7)))
    );
    let rest: Vec<_> = until("the rest", async || {
        let from = first.position.clone();
        let rest = bench.backend.read_log(&source, from, true).await.unwrap();
        rest.try_collect().await.ok()
    })
    .await;
    assert!(
        matches!(&rest[..], [LogItem::Chunk(chunk), LogItem::End] if chunk.bytes == "in the dark\n"),
        "{rest:?}"
    );
    // What the line held back may have arrived by now as well.
    let handle = bench.submit_at_last(&second).await;
    let ending = bench.wait_at_last(&handle).await;
    assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
    assert_eq!(fs::read_to_string(starts).unwrap(), "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn i01_nobody_queues_for_a_connection_that_cannot_be_made() {
    let (proxy, bench) = through(impatient).await;
    until("a host", async || bench.backend.probe().await.ok()).await;
    proxy.set(Faults::both(Fault::BlackHole));
    let begun = Instant::now();
    let works: Vec<_> = (0..40).map(|_| shell("true")).collect();
    let submits = works.iter().map(|work| bench.backend.submit(work));
    for answer in within("forty submits", futures::future::join_all(submits)).await {
        assert_blind("submit", answer);
    }
    assert!(begun.elapsed() < DARK);
}

/// What went over the line until a submit was taken.
struct Traffic {
    up: u64,
    down: u64,
    connections: u64,
}

type Change = fn(&mut SshConfig);

/// Submits with files until it is taken, over a line that breaks first, and sees what came of it.
async fn submit_over(change: Change, broken: Option<Faults>) -> Traffic {
    let (proxy, bench) = through(change).await;
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("data"), vec![b'd'; 20_000]).unwrap();
    fs::write(here.path().join("last"), "whole").unwrap();
    let script = "echo x >> \"$STARTS\"; test $(wc -c < data) = 20000 && test $(cat last) = whole";
    let mut work = in_copy_of(here.path(), script);
    let starts = bench.temp.path().join("starts");
    let variable = ("STARTS".to_owned(), starts.display().to_string());
    work.spec.env.extend([variable]);
    if let Some(faults) = broken {
        proxy.set_for_next(faults);
    }
    let handle = bench.submit_at_last(&work).await;
    let counts = proxy.counts();
    let ending = bench.wait_at_last(&handle).await;
    assert!(
        matches!(ending, Ending::Succeeded { .. }),
        "{broken:?}: {ending:?}"
    );
    assert_eq!(fs::read_to_string(starts).unwrap(), "x\n", "{broken:?}");
    let expected = if bench.backend.config().supervisor == qwex_runner_ssh::Supervisor::Script {
        "sh\n"
    } else {
        "bin "
    };
    let mode = fs::read_to_string(bench.there(&work).join("mode")).unwrap();
    assert!(mode.starts_with(expected), "{broken:?}: {mode}");
    no_half_supervisor(&bench);
    no_half_workspace(&bench).await;
    Traffic {
        up: counts.up,
        down: counts.down,
        connections: counts.connections,
    }
}

/// What lies in the cache under the name of a supervisor is one.
fn no_half_supervisor(bench: &Bench) {
    let cache = std::path::Path::new(&bench.backend.config().cache_dir).join("supervisor");
    for dir in fs::read_dir(cache).into_iter().flatten().flatten() {
        let there = fs::metadata(dir.path().join("qwex")).map(|meta| meta.len()).ok();
        let whole = fs::metadata(crate::support::supervisor()).unwrap().len();
        assert!(there.is_none_or(|there| there == whole), "{there:?} of {whole}");
    }
}

/// What arrived in part is removed over there, by whoever took it.
async fn no_half_workspace(bench: &Bench) {
    let cache = std::path::Path::new(&bench.backend.config().cache_dir).join("workspace");
    let half = || {
        let projects = fs::read_dir(&cache).into_iter().flatten().flatten();
        let mut parts = projects.flat_map(|project| fs::read_dir(project.path()).unwrap().flatten());
        parts.any(|part| part.file_name().to_string_lossy().starts_with(".new-"))
    };
    until("half a workspace to go", async || (!half()).then_some(())).await;
}

/// What a submit takes at the least: one that had to be repeated took more, and the points for the cuts would lie behind
/// the end of the others.
async fn undisturbed(change: Change) -> Traffic {
    for _ in 0..20 {
        let traffic = submit_over(change, None).await;
        if traffic.connections == 1 {
            return traffic;
        }
    }
    panic!("no submit gets through at once");
}

/// Breaks the line after so many bytes, in either direction and either way, a few at a time.
async fn break_everywhere(change: Change, points: impl Fn(u64) -> Vec<u64>) {
    let traffic = undisturbed(change).await;
    let cut = |bytes: u64| {
        let how = if bytes.is_multiple_of(2) {
            Cut::Reset
        } else {
            Cut::Close
        };
        Fault::CutAfter { bytes, how }
    };
    let up = points(traffic.up).into_iter().map(|bytes| Faults::up(cut(bytes)));
    let down = points(traffic.down)
        .into_iter()
        .map(|bytes| Faults::down(cut(bytes)));
    let connections: Vec<u64> = futures::stream::iter(up.chain(down))
        .map(async |faults| submit_over(change, Some(faults)).await.connections)
        .buffer_unordered(4)
        .collect()
        .await;
    // No two submits are of the same length to the byte: the last cuts may come too late.
    let broken = connections.iter().filter(|count| **count > 1).count();
    assert!(broken * 4 >= connections.len() * 3, "{connections:?}");
}

/// The banner, the key exchange, the login, and then the whole submit in even steps to its last bytes.
fn steps(all: u64, count: u64) -> Vec<u64> {
    let ends = [0, 1, 22, 800, 2000].into_iter().chain([all - 200, all - 37]);
    let even = (1..count).map(|step| all * step / count);
    ends.chain(even).filter(|bytes| *bytes < all).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i03_a_line_cut_at_any_byte_of_a_submit_starts_once() {
    break_everywhere(impatient, |all| steps(all, 12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i03_a_line_cut_while_the_supervisor_goes_over_starts_once() {
    let change: Change = |config| {
        impatient(config);
        by_program(config);
    };
    break_everywhere(change, |all| steps(all, 3)).await;
}
