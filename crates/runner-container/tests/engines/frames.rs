//! The engine's log frames, cut anywhere: an engine made up for the purpose serves random bytes in random pieces.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use futures::StreamExt as _;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use qwex_core::{Attempt, EpisodeId, RunId};
use qwex_runner::{LogItem, LogPosition, LogSource, Watcher as _};
use serde_json::json;

use crate::support::{Bench, Which};

/// A log as a log driver keeps it: stream, nanoseconds of its time, text.
type Messages = Vec<(bool, u32, Vec<u8>)>;

/// What the made-up engine serves next.
#[derive(Debug, Default)]
struct Script {
    body: Vec<u8>,
    pieces: Vec<usize>,
}

type Shared = Arc<Mutex<Script>>;

async fn serve(dir: &std::path::Path) -> Result<Shared> {
    let script = Shared::default();
    let state = json!({ "Status": "exited", "ExitCode": 0, "StartedAt": "2026-11-21T12:00:00Z", "FinishedAt": "2026-11-21T12:00:09Z" });
    let inspect = json!({ "Id": "c", "Name": "/c", "State": state, "Config": { "Labels": {} } });
    let version = json!({ "ApiVersion": "1.41", "Version": "20.10", "Components": [] });
    let answer = move |State(script): State<Shared>, uri: Uri| async move {
        match uri.path().rsplit('/').next() {
            Some("logs") => logs(&script),
            Some("json") => Body::from(inspect.to_string()),
            Some(_) | None => Body::from(version.to_string()),
        }
    };
    let routes = Router::new().fallback(answer).with_state(script.clone());
    let listener = tokio::net::UnixListener::bind(dir.join("s"))?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(script)
}

fn logs(script: &Shared) -> Body {
    let script = script.lock().unwrap();
    let mut rest = script.body.as_slice();
    let mut pieces = Vec::new();
    for size in &script.pieces {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(Ok::<_, std::io::Error>(piece.to_vec()));
        rest = after;
    }
    pieces.push(Ok(rest.to_vec()));
    pieces.retain(|piece| piece.as_ref().is_ok_and(|piece| !piece.is_empty()));
    Body::from_stream(futures::stream::iter(pieces))
}

fn frames(messages: &Messages) -> Vec<u8> {
    let mut body = Vec::new();
    let mut nanos = 0;
    for (stderr, step, text) in messages {
        nanos += u64::from(*step);
        let time = jiff::Timestamp::new(
            1_795_262_920 + i64::try_from(nanos / 1_000_000_000).unwrap(),
            i32::try_from(nanos % 1_000_000_000).unwrap(),
        )
        .unwrap();
        let mut payload = format!("{time} ").into_bytes();
        payload.extend_from_slice(text);
        body.extend_from_slice(&[if *stderr { 2 } else { 1 }, 0, 0, 0]);
        body.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&payload);
    }
    body
}

fn wanted(messages: &Messages, stderr: bool) -> Vec<u8> {
    messages
        .iter()
        .filter(|message| message.0 == stderr)
        .flat_map(|message| message.2.clone())
        .collect()
}

struct Read {
    bytes: Vec<u8>,
    positions: Vec<LogPosition>,
    ended: bool,
}

async fn read(bench: &Bench, stderr: bool, from: LogPosition) -> Read {
    let source = LogSource {
        run_id: RunId::mint(),
        attempt: Attempt::FIRST,
        episode: EpisodeId("c".to_owned()),
        stream: if stderr { "stderr" } else { "stdout" }.to_owned(),
        locator: "c".to_owned(),
    };
    let mut items = bench.backend.read_log(&source, from, true).await.unwrap();
    let mut read = Read {
        bytes: Vec::new(),
        positions: Vec::new(),
        ended: false,
    };
    while let Some(item) = items.next().await {
        match item {
            Ok(LogItem::Chunk(chunk)) => {
                read.bytes.extend_from_slice(&chunk.bytes);
                read.positions.push(chunk.position);
            }
            Ok(LogItem::End) => read.ended = true,
            Ok(LogItem::Gap { message }) => panic!("{message}"),
            Err(_) => break,
        }
    }
    read
}

/// Whole, cut at a byte, and from every position on.
async fn check(bench: &Bench, script: &Shared, messages: &Messages, pieces: Vec<usize>, cut: usize) {
    let body = frames(messages);
    let serve = |body: Vec<u8>| {
        *script.lock().unwrap() = Script {
            body,
            pieces: pieces.clone(),
        };
    };
    for stderr in [false, true] {
        let wanted = wanted(messages, stderr);
        serve(body.clone());
        let whole = read(bench, stderr, LogPosition::default()).await;
        assert!(whole.ended && whole.bytes == wanted, "whole");
        for position in &whole.positions {
            let rest = read(bench, stderr, position.clone()).await;
            let offset = usize::try_from(position.offset).unwrap();
            assert_eq!(rest.bytes, wanted[offset..], "from {position:?}");
        }
        let at = cut % (body.len() + 1);
        serve(body[..at].to_vec());
        let part = read(bench, stderr, LogPosition::default()).await;
        assert!(
            wanted.starts_with(&part.bytes),
            "what comes of a cut stream is its beginning"
        );
        serve(body.clone());
        let from = part.positions.last().cloned().unwrap_or_default();
        let rest = read(bench, stderr, from).await;
        assert_eq!([part.bytes, rest.bytes].concat(), wanted, "no hole and no repeat");
    }
}

#[test]
fn h05_frames_cut_anywhere_lose_and_repeat_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = runtime.block_on(serve(dir.path())).unwrap();
    let bench = Which::Docker.bench_at(&format!("unix://{}", dir.path().join("s").display()), "none");
    // Equal times are common, and steps of more than a second happen.
    let step = prop_oneof![Just(0_u32), 1..1000_u32, 400_000_000..1_500_000_000_u32];
    let text = prop::collection::vec(any::<u8>(), 0..60);
    let messages = prop::collection::vec((any::<bool>(), step, text), 0..24);
    let strategy = (
        messages,
        prop::collection::vec(1..40_usize, 0..30),
        any::<usize>(),
    );
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&strategy, |(messages, pieces, cut)| {
            runtime.block_on(check(&bench, &script, &messages, pieces, cut));
            Ok(())
        })
        .unwrap();
}

/// What an engine that is none, or one that breaks off anywhere, may send: heads that promise gigabytes, streams that
/// there are not, messages without their time.
#[test]
fn h05_any_frames_from_any_position_are_read_or_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = runtime.block_on(serve(dir.path())).unwrap();
    let bench = Which::Docker.bench_at(&format!("unix://{}", dir.path().join("s").display()), "none");
    let head = (0..4_u8, prop_oneof![0..40_u32, any::<u32>()]);
    let frame = (head, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()).prop_map(
        |((stream, length), payload, stamped)| {
            let time: &[u8] = if stamped { b"2026-11-21T12:00:00Z " } else { b"" };
            [
                [stream, 0, 0, 0].as_slice(),
                length.to_be_bytes().as_slice(),
                time,
                &payload,
            ]
            .concat()
        },
    );
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(frame, 0..6).prop_map(|frames| frames.concat()),
    ];
    let offset = prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)];
    let mark = proptest::option::of(prop_oneof!["\\PC{0,20}", "2026-11-21T12:00:00Z@[0-9]{1,21}"]);
    let strategy = (body, prop::collection::vec(1..40_usize, 0..10), offset, mark);
    let mut runner = TestRunner::new(Config {
        cases: 96,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&strategy, |(body, pieces, offset, mark)| {
            *script.lock().unwrap() = Script { body, pieces };
            let read = async {
                read(&bench, false, LogPosition { offset, mark }).await;
            };
            let limited = async { tokio::time::timeout(crate::support::LIMIT, read).await };
            prop_assert!(runtime.block_on(limited).is_ok(), "reading ends");
            Ok(())
        })
        .unwrap();
}
