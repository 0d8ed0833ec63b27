//! Requests to the shell that serves us on a host: a few of them run, are kept and shared, and each
//! request and each reply is one trip.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use qwex_runner::RunnerError;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::config::SshConfig;
use crate::install::Sum;
use crate::link::{Link, Pipe};
use crate::{error, scripts};

/// A host allows ten sessions for each connection, and other processes use the same one.
const MOST: usize = 3;
/// Most that one reply may hold: how all runs of a host are, or the list of all files of a large workspace.
const LONGEST_REPLY: usize = 256 << 20;

/// What the host answers to one request.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub lines: Vec<String>,
    pub data: Bytes,
}

impl Reply {
    /// What follows `word` in the line that begins with it.
    #[must_use]
    pub fn find(&self, word: &str) -> Option<&str> {
        self.lines
            .iter()
            .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.lines.iter().any(|line| line == word)
    }
}

/// What a host says of itself.
#[derive(Debug, Clone)]
pub struct Host {
    /// Absolute path of our directory there.
    pub root: String,
    pub system: String,
    pub node: String,
    pub machine: String,
    pub binary: Binary,
    /// Programs that the supervising script needs and that are not there.
    pub missing: Option<String>,
}

/// Whether our supervisor is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binary {
    Ready,
    Absent,
    /// It was there and did not run.
    Bad(String),
}

/// The shells that serve us on a host.
#[derive(Debug)]
pub struct Served {
    pub link: Link,
    sum: Sum,
    idle: Mutex<Vec<Shell>>,
    slots: Semaphore,
    host: Mutex<Option<Host>>,
    /// Held while the supervisor is brought.
    pub bringing: Mutex<()>,
}

/// Why a request was not answered.
pub struct Unanswered {
    pub error: RunnerError,
    /// The shell was gone before it could read the request; a new one may answer.
    pub stale: bool,
}

impl Served {
    #[must_use]
    pub fn new(config: Arc<SshConfig>) -> Self {
        Self {
            sum: Sum::default(),
            link: Link::new(config),
            idle: Mutex::new(Vec::new()),
            slots: Semaphore::new(MOST),
            host: Mutex::new(None),
            bringing: Mutex::new(()),
        }
    }

    #[must_use]
    pub fn config(&self) -> &SshConfig {
        &self.link.config
    }

    /// SHA-256 of our supervisor, `None` without one.
    pub async fn sum(&self) -> Option<String> {
        self.sum.get(self.config()).await
    }

    /// What the host said of itself last.
    pub async fn host(&self) -> Result<Host, RunnerError> {
        if let Some(host) = self.host.lock().await.clone() {
            return Ok(host);
        }
        self.ask(&[]).await?;
        self.host.lock().await.clone().ok_or_else(|| RunnerError::Failed {
            message: format!(
                "{0} says nothing of itself; try `ssh {0} true`",
                self.config().host
            ),
        })
    }

    /// What the host says of itself now.
    pub async fn look_again(&self) -> Result<Host, RunnerError> {
        let replies = self.ask(&[self.hello().await]).await?;
        let told = self.read_host(&replies.into_iter().next().unwrap_or_default())?;
        *self.host.lock().await = Some(told.clone());
        Ok(told)
    }

    async fn hello(&self) -> String {
        let sum = self.sum().await.unwrap_or_else(|| "-".to_owned());
        format!("hello {} {sum}", self.config().places().join(" "))
    }

    fn read_host(&self, reply: &Reply) -> Result<Host, RunnerError> {
        if let Some(message) = reply.find("err") {
            return Err(error::refused(self.config(), message));
        }
        Host::read(reply).ok_or_else(|| {
            let said = reply.lines.join("; ");
            error::refused(
                self.config(),
                &format!("its shell answers in another way ({said}); the login shell there has to run `sh -c COMMAND` as it is"),
            )
        })
    }

    /// Notes that the supervisor was brought there, or why it does not run.
    pub async fn note(&self, binary: Binary) {
        if let Some(host) = self.host.lock().await.as_mut() {
            host.binary = binary;
        }
    }

    /// Asks what may be asked twice; a reply for each request. A reply with `err` is an error.
    pub async fn ask(&self, requests: &[String]) -> Result<Vec<Reply>, RunnerError> {
        match self.ask_once(requests).await {
            Err(unanswered) if unanswered.stale => self
                .ask_once(requests)
                .await
                .map_err(|unanswered| unanswered.error),
            Err(unanswered) => Err(unanswered.error),
            Ok(replies) => Ok(replies),
        }
    }

    /// As [`Served::ask`], for requests that must not be sent twice as they are.
    pub async fn ask_once(&self, requests: &[String]) -> Result<Vec<Reply>, Unanswered> {
        let since = Instant::now();
        let fresh = |error| Unanswered { error, stale: false };
        let _slot = self.slots.acquire().await.map_err(|_| {
            fresh(RunnerError::Failed {
                message: "the backend is closed".to_owned(),
            })
        })?;
        let kept = self.idle.lock().await.pop();
        let stale = kept.is_some();
        let mut shell = match kept {
            Some(shell) => shell,
            None => self.begin(since).await.map_err(fresh)?,
        };
        let limit = self.config().answer_timeout;
        let answered = tokio::time::timeout(limit, shell.ask(requests)).await;
        let replies = match answered {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => {
                let said = shell.said().await;
                let error = io::Error::new(error.kind(), format!("{error} {}", error::one_line(&said)));
                return Err(Unanswered {
                    error: error::broken(self.config(), &error),
                    stale,
                });
            }
            Err(_) => return Err(fresh(self.late())),
        };
        // A shell that failed at something may be out of step; it is not used again.
        if let Some(message) = replies.iter().find_map(|reply| reply.find("err")) {
            return Err(fresh(error::refused(self.config(), message)));
        }
        self.idle.lock().await.push(shell);
        Ok(replies)
    }

    /// Lets go of shells that wait for the next request, for the sake of others on the same connection.
    pub async fn rest(&self) {
        self.idle.lock().await.clear();
    }

    /// A new shell, and what the host says of itself.
    async fn begin(&self, since: Instant) -> Result<Shell, RunnerError> {
        let hello = format!("{}\n", self.hello().await);
        let pipe = self.link.start(since, &scripts::serve(), &hello).await?;
        let mut shell = Shell(pipe);
        let limit = self.config().answer_timeout;
        let reply = match tokio::time::timeout(limit, shell.reply()).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(error::broken(self.config(), &error));
            }
            Ok(Err(_)) => return Err(error::connecting(self.config(), &shell.said().await)),
            Err(_) => return Err(self.late()),
        };
        let told = self.read_host(&reply)?;
        let mut host = self.host.lock().await;
        // What did not run for this process counts more.
        let binary = host
            .take()
            .map(|known| known.binary)
            .filter(|known| matches!(known, Binary::Bad(_)));
        *host = Some(Host {
            binary: binary.unwrap_or(told.binary.clone()),
            ..told
        });
        Ok(shell)
    }

    fn late(&self) -> RunnerError {
        let limit = self.config().answer_timeout;
        let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        error::broken(self.config(), &error)
    }
}

impl Host {
    fn read(reply: &Reply) -> Option<Self> {
        let mut uname = reply.find("uname")?.split_ascii_whitespace();
        let binary = match reply.find("binary")? {
            "ready" => Binary::Ready,
            "absent" => Binary::Absent,
            bad => Binary::Bad(bad.trim_start_matches("bad").trim().to_owned()),
        };
        Some(Self {
            root: reply.find("root")?.to_owned(),
            system: uname.next()?.to_owned(),
            node: uname.next()?.to_owned(),
            machine: uname.next()?.to_owned(),
            binary,
            missing: reply.find("missing").map(str::to_owned),
        })
    }
}

/// Of a host out of its mind, whose words would take all memory there is.
fn too_much() -> io::Error {
    let most = LONGEST_REPLY >> 20;
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it answers one question with more than {most} MiB"),
    )
}

/// One shell on the host.
#[derive(Debug)]
struct Shell(Pipe);

impl Shell {
    /// Sends all requests, then reads a reply to each.
    async fn ask(&mut self, requests: &[String]) -> io::Result<Vec<Reply>> {
        let mut sent = String::new();
        for request in requests {
            sent.push_str(request);
            sent.push('\n');
        }
        self.0.write(sent.as_bytes()).await?;
        let mut replies = Vec::with_capacity(requests.len());
        for _ in requests {
            replies.push(self.reply().await?);
        }
        Ok(replies)
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = Reply::default();
        let mut left = LONGEST_REPLY;
        let mut take = |bytes: usize| {
            left = left.checked_sub(bytes).ok_or_else(too_much)?;
            io::Result::Ok(())
        };
        loop {
            let line = self.0.line().await?;
            take(line.len() + size_of::<String>())?;
            if line == "." {
                return Ok(reply);
            }
            if let Some(length) = line.strip_prefix("data ") {
                let length: usize = length.trim().parse().map_err(io::Error::other)?;
                take(length)?;
                let mut data = vec![0; length];
                self.0.stdout.read_exact(&mut data).await?;
                reply.data = Bytes::from(data);
            } else if let Some(short) = line.strip_prefix("short ") {
                let short: usize = short.trim().parse().map_err(io::Error::other)?;
                reply.data.truncate(reply.data.len().saturating_sub(short));
            } else {
                reply.lines.push(line);
            }
        }
    }

    async fn said(self) -> String {
        self.0.said().await
    }
}
