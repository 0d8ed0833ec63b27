//! Speaks to the `warden` program, which holds one cluster's processes and removes everything of them when this
//! process ends, even by SIGKILL. Orders go to its standard input one by one, answers and ends of parts come back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::wait;

/// One process of a cluster: how it is called in orders and logs, and how it is started.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) argv: Vec<String>,
    /// `KEY=value`, added to the environment of this process.
    pub(super) env: Vec<String>,
}

/// What the warden has to clean up besides processes and mounts.
pub(super) struct Belongings<'a> {
    pub(super) dir: &'a Path,
    pub(super) logs_to: &'a Path,
    pub(super) cgroup: Option<&'a str>,
    pub(super) bridge: Option<&'a str>,
}

/// How a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) signal: i32,
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Order<'a> {
    Start {
        name: &'a str,
        argv: &'a [String],
        env: &'a [String],
    },
    Signal {
        name: &'a str,
        signal: i32,
    },
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Report {
    Started,
    Signalled,
    Refused { error: String },
    Exited { name: String, code: i32, signal: i32 },
}

type Ends = Arc<Mutex<HashMap<String, End>>>;

struct Line {
    orders: ChildStdin,
    answers: Receiver<Result<(), String>>,
}

/// A running warden. Dropping it takes the whole cluster down and waits until that is done.
pub(super) struct Warden {
    child: Child,
    line: Option<Mutex<Line>>,
    ends: Ends,
}

impl Warden {
    pub(super) fn launch(program: &Path, belongings: &Belongings<'_>) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg("-dir")
            .arg(belongings.dir)
            .arg("-logs-to")
            .arg(belongings.logs_to);
        if let Some(cgroup) = belongings.cgroup {
            command.arg("-private").arg("-cgroup").arg(cgroup);
        }
        if let Some(bridge) = belongings.bridge {
            command.arg("-bridge").arg(bridge);
        }
        let log = File::create(belongings.dir.join("logs/warden.log"))?;
        // Its own group: whoever kills the group of a test must not kill the one that cleans up after it.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().context("failed to start the warden")?;
        let orders = child.stdin.take().context("the warden has no standard input")?;
        let reports = child.stdout.take().context("the warden has no standard output")?;
        let (answered, answers) = channel();
        let ends = Ends::default();
        let seen = Arc::clone(&ends);
        std::thread::spawn(move || listen(reports, &answered, &seen));
        Ok(Self {
            child,
            line: Some(Mutex::new(Line { orders, answers })),
            ends,
        })
    }

    /// Starts a part whose output goes to `logs/<name>.log`.
    pub(super) fn start(&self, part: &Part) -> Result<()> {
        locked(&self.ends).remove(part.name);
        self.order(&Order::Start {
            name: part.name,
            argv: &part.argv,
            env: &part.env,
        })
        .with_context(|| format!("failed to start {}", part.name))
    }

    /// Sends a signal to the part's process.
    pub(super) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.order(&Order::Signal {
            name,
            signal: signal as i32,
        })
        .with_context(|| format!("failed to send {signal} to {name}"))
    }

    /// Starts a part that ends by itself and waits for that.
    pub(super) async fn run(&self, part: &Part, limit: Duration) -> Result<()> {
        self.start(part)?;
        match self.ended(part.name, limit).await? {
            End { code: 0, .. } => Ok(()),
            end => bail!("{} ended with {end:?}", part.name),
        }
    }

    /// Waits until the part is gone.
    pub(super) async fn ended(&self, name: &str, limit: Duration) -> Result<End> {
        Ok(wait::until(limit, &format!("the end of {name}"), || async {
            self.end_of(name)
        })
        .await?)
    }

    /// How the part ended; `None` while it runs.
    pub(super) fn end_of(&self, name: &str) -> Option<End> {
        locked(&self.ends).get(name).copied()
    }

    fn order(&self, order: &Order<'_>) -> Result<()> {
        let mut line = locked(self.line.as_ref().context("the warden was told to leave")?);
        let mut text = serde_json::to_string(order)?;
        text.push('\n');
        line.orders
            .write_all(text.as_bytes())
            .context("the warden is gone")?;
        match line.answers.recv().context("the warden is gone")? {
            Ok(()) => Ok(()),
            Err(error) => bail!(error),
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // Closing its input is the order to leave.
        self.line = None;
        self.child.wait().ok();
    }
}

/// A panic elsewhere while the lock was held leaves nothing half-written here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(reports: ChildStdout, answered: &Sender<Result<(), String>>, ends: &Ends) {
    for line in BufReader::new(reports).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Report::Started | Report::Signalled) => answered.send(Ok(())).unwrap_or_default(),
            Ok(Report::Refused { error }) => answered.send(Err(error)).unwrap_or_default(),
            Ok(Report::Exited { name, code, signal }) => {
                locked(ends).insert(name, End { code, signal });
            }
            Err(error) => eprintln!("testbed: the warden said {line:?}: {error}"),
        }
    }
}
