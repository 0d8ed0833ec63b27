//! Streams over connections that are cut: what comes out has no hole and no repeat.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use qwex_core::RunId;
use serde_json::{Value, json};

use crate::support::{User, problem, run, seen};

/// A server of single answers: each connection gets one reply, whole or cut.
struct Scripted {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What a connection gets.
struct Reply {
    kind: &'static str,
    body: String,
    /// The connection ends without the end of the body.
    cut: bool,
}

impl Scripted {
    /// `answer` is asked for every request line, with how many log requests came before.
    fn start(answer: impl Fn(&str, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let request = head(&connection);
                let before = {
                    let mut seen = seen.lock().unwrap();
                    let logs = |line: &&String| line.contains("/logs");
                    let before = seen.iter().filter(logs).count();
                    seen.push(request.clone());
                    before
                };
                let reply = answer(&request, before);
                send(&mut connection, &reply);
            }
        });
        Self { address, requests }
    }

    fn log_requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .filter(|line| line.contains("/logs"))
            .cloned()
            .collect()
    }
}

fn head(connection: &TcpStream) -> String {
    let mut lines = BufReader::new(connection).lines().map(|line| line.unwrap());
    let first = lines.next().unwrap_or_default();
    // The rest of the head must be read, or closing resets the connection before the reply was read.
    lines.find(String::is_empty);
    first
}

fn send(connection: &mut TcpStream, reply: &Reply) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        reply.kind
    );
    let chunk = format!("{:x}\r\n{}\r\n", reply.body.len(), reply.body);
    let end = if reply.cut { "" } else { "0\r\n\r\n" };
    // A client that has left is its own affair.
    connection
        .write_all(format!("{head}{chunk}{end}").as_bytes())
        .ok();
}

fn sse(body: impl Into<String>, cut: bool) -> Reply {
    Reply {
        kind: "text/event-stream",
        body: body.into(),
        cut,
    }
}

fn line(cursor: &str, content: Value) -> String {
    let mut line = json!({"cursor": cursor, "attempt": 1, "stream": "output", "at": "2026-01-01T00:00:00Z"});
    for (key, value) in content.as_object().unwrap() {
        line[key] = value.clone();
    }
    format!("event: line\nid: {cursor}\ndata: {line}\n\n")
}

fn text(cursor: &str, text: &str) -> String {
    line(cursor, json!({ "text": text }))
}

fn end(id: RunId) -> String {
    let run = run(
        id,
        "failed",
        json!({"exit_code": 5, "failure": {"code": "exit_code", "message": "exit code 5"}}),
    );
    format!("event: end\ndata: {}\n\n", json!({ "run": run }))
}

/// Two lines, a cut in the middle of the third, then from there to the end.
fn cut_once(id: RunId) -> Scripted {
    Scripted::start(move |request, before| {
        if request.contains("/events") {
            return sse(end(id), false);
        }
        match before {
            0 => {
                let third = text("c3", "three");
                sse(
                    format!(
                        "{}: beat\n\n{}{}",
                        text("c1", "one"),
                        text("c2", "two"),
                        &third[..third.len() - 1]
                    ),
                    true,
                )
            }
            _ => sse(format!("{}{}", text("c3", "three"), end(id)), false),
        }
    })
}

#[test]
fn a_followed_log_goes_on_where_it_was_cut() {
    let id = RunId::mint();
    let server = cut_once(id);
    let seen = seen(User::new().at(
        &server.address,
        &["logs", "-f", "-n", "7", "--exit-status", &id.to_string()],
    ));
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (5, "one\ntwo\nthree\n"),
        "{}",
        seen.err
    );
    assert!(seen.err.contains("reconnecting"), "{}", seen.err);
    let requests = server.log_requests();
    assert!(
        requests[0].contains("tail=7") && !requests[0].contains("cursor"),
        "{requests:?}"
    );
    assert!(
        requests[1].contains("cursor=c2") && !requests[1].contains("tail"),
        "{requests:?}"
    );
}

#[test]
fn attach_survives_a_cut_and_gives_the_exit_code() {
    let id = RunId::mint();
    let server = cut_once(id);
    let seen = seen(User::new().at(&server.address, &["attach", &id.to_string()]));
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (5, "one\ntwo\nthree\n"),
        "{}",
        seen.err
    );
    assert!(
        seen.err.contains("failed: exit_code: exit code 5"),
        "{}",
        seen.err
    );
}

#[test]
fn a_log_that_is_only_read_goes_on_too() {
    let id = RunId::mint();
    let server = cut_once(id);
    let seen = seen(User::new().at(&server.address, &["logs", &id.to_string()]));
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (0, "one\ntwo\nthree\n"),
        "{}",
        seen.err
    );
}

#[test]
fn a_server_that_closes_its_streams_in_order_is_asked_again() {
    let id = RunId::mint();
    let server = Scripted::start(move |_, before| match before {
        0 => sse(text("c1", "one"), false),
        1 => sse("", false),
        _ => sse(format!("{}{}", text("c2", "two"), end(id)), false),
    });
    let seen = seen(User::new().at(&server.address, &["logs", "-f", &id.to_string()]));
    assert_eq!((seen.code, seen.out.as_str()), (0, "one\ntwo\n"), "{}", seen.err);
    assert!(server.log_requests()[2].contains("cursor=c1"));
}

/// Read to there and no further, it would pass for the whole log.
#[test]
fn a_log_that_the_server_cannot_give_is_no_whole_log() {
    let id = RunId::mint();
    let lost = problem(500, "internal", "a part of the log is lost");
    let body = format!("{}event: error\ndata: {lost}\n\n", text("c1", "one"));
    let server = Scripted::start(move |request, _| {
        let is_log = request.contains("/logs");
        sse(if is_log { body.clone() } else { end(id) }, false)
    });
    let id = id.to_string();
    for args in [vec!["logs", &id], vec!["logs", "-f", &id]] {
        let seen = seen(User::new().at(&server.address, &args));
        assert!(
            seen.code != 0 && seen.out == "one\n",
            "{} {}",
            seen.code,
            seen.out
        );
        assert!(seen.err.contains("a part of the log is lost"), "{}", seen.err);
    }
}

#[test]
fn bytes_parts_gaps_and_filters() {
    let id = RunId::mint();
    let body = [
        line("c1", json!({"base64": "//4A"})),
        line("c2", json!({"text": "ha", "partial": true})),
        line("c3", json!({"text": "lf"})),
        line("c4", json!({"gap": "12 bytes are lost"})),
        line("c5", json!({"text": "no newline", "partial": true})),
    ]
    .concat();
    let server = Scripted::start(move |_, _| sse(format!("{body}{}", end(id)), false));
    let user = User::new();
    let id = id.to_string();
    let output = user.at(&server.address, &["logs", &id]).output().unwrap();
    assert_eq!(output.stdout, b"\xff\xfe\0\nhalf\nno newline");
    assert!(String::from_utf8_lossy(&output.stderr).contains("12 bytes are lost"));
    let grep = seen(user.at(&server.address, &["logs", "--grep", "^half$", &id]));
    assert_eq!(grep.out, "half\n");
    let times = seen(user.at(&server.address, &["logs", "-t", "--grep", "newline", &id]));
    assert_eq!(times.out, "2026-01-01T00:00:00Z no newline");
    let objects = seen(user.at(&server.address, &["logs", "-o", "jsonl", &id]));
    assert_eq!(objects.out.lines().count(), 5);
}

#[test]
fn a_download_is_checked_against_the_sealed_hash() {
    let id = RunId::mint();
    let hash = |text: &'static str, sha256: &'static str| {
        Scripted::start(move |request, _| {
            if request.contains("/logs") {
                return Reply {
                    kind: "text/plain",
                    body: text.to_owned(),
                    cut: false,
                };
            }
            let logs = json!({"verdict": "complete", "bytes": 4, "lines": 1, "sha256": sha256});
            let run = run(id, "succeeded", json!({"exit_code": 0, "logs": logs}));
            Reply {
                kind: "application/json",
                body: run.to_string(),
                cut: false,
            }
        })
    };
    let sealed = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
    let user = User::new();
    let words = ["logs", "--download", "out.log", &id.to_string()];
    let good = hash("foo\n", sealed);
    let seen_good = seen(user.at(&good.address, &words));
    assert_eq!(
        (seen_good.code, seen_good.out.as_str()),
        (0, "out.log\n"),
        "{}",
        seen_good.err
    );
    assert_eq!(std::fs::read(user.dir().join("out.log")).unwrap(), b"foo\n");
    let bad = hash("fox\n", sealed);
    let seen_bad = seen(user.at(&bad.address, &["logs", "--download", "bad.log", &id.to_string()]));
    assert_eq!(seen_bad.code, 1);
    assert!(
        seen_bad.err.contains("log_mismatch") && !user.dir().join("bad.log").exists(),
        "{}",
        seen_bad.err
    );
}
