//! A home for each test, the command under test, and JSON of runs.

use std::path::Path;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use hmac::{Hmac, KeyInit, Mac};
use qwex_core::RunId;
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_qwexctl");

/// A user with an empty home, in an empty directory.
pub struct User {
    home: TempDir,
}

impl User {
    pub fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
        }
    }

    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// `qwexctl` as this user, with nothing else in its environment.
    pub fn qwexctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir())
            .env("PATH", std::env::var("PATH").unwrap())
            .current_dir(self.dir())
            .timeout(LIMIT);
        command
    }

    /// Replaces the record of a pipeline of this user, with this user's mark.
    pub fn put_pipeline(&self, record: &Value) {
        let id = record["id"].as_str().unwrap();
        let json = serde_json::to_string_pretty(record).unwrap();
        let body = json.strip_suffix("\n}").unwrap();
        let key = std::fs::read(self.dir().join(".local/state/qwex/key")).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("qwex pipeline 1\n{id}\n{body}").as_bytes());
        let mark = hex::encode(mac.finalize().into_bytes());
        let path = self.dir().join(".qwex/pipelines").join(id).join("pipeline.json");
        std::fs::write(path, format!("{body},\n  \"mark\": \"{mark}\"\n}}\n")).unwrap();
    }

    /// The same against a server, with a token.
    pub fn at(&self, server: &str, args: &[&str]) -> Command {
        let mut command = self.qwexctl(args);
        command.env("QWEX_SERVER", server).env("QWEX_TOKEN", "qwx_test");
        command
    }
}

/// What a command did.
pub struct Seen {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn seen(mut command: Command) -> Seen {
    let output = command.output().unwrap();
    Seen {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A run as the API gives it, with a field that this client does not know.
pub fn run(id: RunId, status: &str, more: Value) -> Value {
    let mut run = json!({
        "id": id, "name": "train", "project": "default", "labels": {}, "status": status,
        "pending": null, "failure": null,
        "spec": {"command": ["true"], "zeta_of_the_future": 1},
        "backend": null, "attempt": 1, "exit_code": null, "flags": [], "logs": null,
        "created_at": "2026-01-01T00:00:00Z", "created_by": "token:ci", "of_a_newer_server": {"b": 1, "a": 2}
    });
    merge(&mut run, more);
    run
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        into[key] = value;
    }
}

/// Makes another run of the record of one that is over, as if it had yet to begin.
pub fn make_new(run: &mut Value, id: &str) {
    for gone in [
        "exit_code",
        "logs",
        "backend",
        "dispatched_at",
        "started_at",
        "finished_at",
        "usage",
    ] {
        run[gone] = Value::Null;
    }
    run["id"] = id.into();
    run["status"] = "pending".into();
}

/// A row of the list.
pub fn row(id: RunId, status: &str) -> Value {
    let mut row = run(id, status, Value::Null);
    row.as_object_mut().unwrap().remove("spec");
    row
}

pub fn problem(status: u16, code: &str, detail: &str) -> Value {
    json!({
        "type": format!("https://qwex.dev/problems/{code}"), "title": "Something is wrong", "status": status,
        "detail": detail, "instance": "req-42", "code": code, "retryable": false
    })
}

/// Longest wait for anything here; a machine under load is slow.
const LIMIT: Duration = Duration::from_secs(180);

/// Waits for what `look` finds.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The process that keeps a run.
pub fn keeper_of(id: &str) -> Option<nix::unistd::Pid> {
    let is_it = |words: &[u8]| {
        let words = String::from_utf8_lossy(words);
        words.contains("__keep\0") && words.contains(id)
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let found = all
        .map(|entry| entry.path())
        .find(|path| std::fs::read(path.join("cmdline")).is_ok_and(|words| is_it(&words)))?;
    Some(nix::unistd::Pid::from_raw(
        found.file_name()?.to_str()?.parse().ok()?,
    ))
}
