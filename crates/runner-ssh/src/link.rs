//! The way to a host: a connection that is shared by everything, and remote commands over it, each an
//! `ssh` process of its own. Knows no request and no run.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use qwex_runner::RunnerError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::SshConfig;
use crate::scripts::GO;
use crate::{control, error};

/// Most that is kept of what a remote command says on stderr.
const SAID: u64 = 16 * 1024;
/// The longest line: a record with a command and its environment.
const LONGEST_LINE: u64 = 16 << 20;
/// How long to ask again for a session where all are taken: many may want further connections, one by one.
const CROWDED: Duration = Duration::from_secs(60);
/// Between two such questions, where no further connection can be made either.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);
/// Connections that are tried where the first is there and does not answer.
const MASTERS: usize = 3;

/// What `ssh` ends with when it is the line that failed; our scripts never do.
const LINE_BROKE: i32 = 255;

/// The way to a host.
#[derive(Debug)]
pub struct Link {
    pub config: Arc<SshConfig>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    master: Option<Arc<Session>>,
    /// The last connection that could not be made: whoever waited for it need not try it again.
    failed: Option<(Instant, RunnerError)>,
}

/// A master, and whether it may have died since it was last used.
struct Master {
    session: Arc<Session>,
    used_before: bool,
}

/// Why a remote command did not begin.
enum Not {
    /// The host allows no more sessions on this connection.
    Crowded,
    /// What was said.
    Silent(String),
}

impl Link {
    #[must_use]
    pub fn new(config: Arc<SshConfig>) -> Self {
        Self {
            config,
            held: Mutex::default(),
        }
    }

    /// A master that is there, except one that is of no use; else a new one. Callers that have waited
    /// since before a connection failed share that failure.
    async fn master(&self, useless: Option<&Session>, since: Instant) -> Result<Master, RunnerError> {
        let mut held = self.held.lock().await;
        if let Some((at, error)) = &held.failed
            && *at > since
        {
            return Err(error.clone());
        }
        let useful = |session: &Arc<Session>| {
            let same = useless.is_some_and(|useless| useless.control_socket() == session.control_socket());
            !same && listens(session)
        };
        let shared = || control::resume(&self.config).map(Arc::new).filter(useful);
        let mut known = held.master.clone().filter(useful).or_else(shared);
        if known.is_none() {
            let _turn = control::turn(&self.config, "connect").await;
            known = shared();
            if known.is_none() {
                let made = control::connect(&self.config).await.map(Arc::new);
                return match made {
                    Ok(session) => {
                        held.master = Some(session.clone());
                        Ok(Master {
                            session,
                            used_before: false,
                        })
                    }
                    Err(error) => {
                        held.failed = Some((Instant::now(), error.clone()));
                        Err(error)
                    }
                };
            }
        }
        held.master.clone_from(&known);
        known
            .map(|session| Master {
                session,
                used_before: true,
            })
            .ok_or_else(|| error::connecting(&self.config, ""))
    }

    /// Starts one of our scripts, hands it `first` and sees that it has begun. `since`: when the caller
    /// began to want it.
    pub async fn start(&self, since: Instant, line: &str, first: &str) -> Result<Pipe, RunnerError> {
        let until = Instant::now() + CROWDED;
        let mut master = self.master(None, since).await?;
        let mut masters = 1;
        loop {
            let crowded = match self.begin(&master.session, line, first).await? {
                Ok(pipe) => return Ok(pipe),
                Err(Not::Crowded) if Instant::now() < until => true,
                Err(Not::Crowded) => return Err(error::crowded(&self.config)),
                Err(Not::Silent(_)) if master.used_before && masters < MASTERS => false,
                Err(Not::Silent(said)) => return Err(error::connecting(&self.config, &said)),
            };
            match self.master(Some(&master.session), since).await {
                Ok(other) => {
                    master = other;
                    masters += usize::from(!crowded);
                }
                Err(_) if crowded => tokio::time::sleep(CROWDED_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn begin(
        &self,
        session: &Session,
        line: &str,
        first: &str,
    ) -> Result<Result<Pipe, Not>, RunnerError> {
        let mut pipe = open(&self.config, session, line)?;
        // What comes before the word is of the user's login shell.
        let hears = async {
            pipe.write(first.as_bytes()).await?;
            while pipe.line().await? != GO {}
            io::Result::Ok(())
        };
        let limit = self.config.answer_timeout;
        Ok(match tokio::time::timeout(limit, hears).await {
            Ok(Ok(())) => Ok(pipe),
            Ok(Err(_)) => {
                let said = pipe.said().await;
                let crowded = said.contains("refused by peer") || said.contains("open failed");
                Err(if crowded { Not::Crowded } else { Not::Silent(said) })
            }
            Err(_) => Err(Not::Silent(format!("no answer within {limit:?}"))),
        })
    }

    /// A script of ours with no input; what it writes, if it ends well. `None`: it writes more than so many bytes.
    pub async fn output(&self, line: &str, most: usize) -> Result<Option<Vec<u8>>, RunnerError> {
        let mut pipe = self.start(Instant::now(), line, "").await?;
        pipe.stdin = None;
        let mut out = Vec::new();
        loop {
            // However long it takes: only a host that goes silent is given up.
            let read = tokio::time::timeout(self.config.answer_timeout * 3, pipe.stdout.read_buf(&mut out));
            match read.await {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) if out.len() > most => return Ok(None),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error::broken(&self.config, &error)),
                Err(_) => return Err(error::broken(&self.config, &io::ErrorKind::TimedOut.into())),
            }
        }
        pipe.end(&self.config).await?;
        Ok(Some(out))
    }
}

/// What would do harm to a remote command if the user's configuration said otherwise. Without a live
/// master `ssh` would make a connection of its own: that has to fail.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ControlMaster=no",
    "ProxyCommand=false",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "LogLevel=ERROR",
];

/// Starts a remote command over a master.
fn open(config: &SshConfig, session: &Session, line: &str) -> Result<Pipe, RunnerError> {
    let mut command = Command::new("ssh");
    if let Some(file) = &config.config_file {
        command.arg("-F").arg(file);
    }
    command.arg("-S").arg(session.control_socket());
    for option in OPTIONS {
        command.args(["-o", option]);
    }
    command
        .args(["--", &config.host, line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| RunnerError::Failed {
        message: format!("the ssh program cannot be started; is it installed? {error}"),
    })?;
    let missing = || RunnerError::Failed {
        message: "the ssh program gave no pipes".to_owned(),
    };
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let said = tokio::spawn(async move {
        let mut text = Vec::new();
        let mut stderr = stderr.take(SAID);
        stderr.read_to_end(&mut text).await.ok();
        tokio::io::copy(stderr.get_mut(), &mut tokio::io::sink())
            .await
            .ok();
        String::from_utf8_lossy(&text).into_owned()
    });
    Ok(Pipe {
        stdin: Some(stdin),
        stdout: BufReader::with_capacity(256 * 1024, stdout),
        child,
        said,
    })
}

/// Whether somebody still listens behind the socket of a master.
fn listens(session: &Session) -> bool {
    UnixStream::connect(session.control_socket()).is_ok()
}

/// A remote command that runs.
#[derive(Debug)]
pub struct Pipe {
    pub stdin: Option<ChildStdin>,
    pub stdout: BufReader<ChildStdout>,
    child: Child,
    said: JoinHandle<String>,
}

impl Pipe {
    /// Sends it something.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(bytes).await?;
        stdin.flush().await
    }

    /// The next line of its output, without the end of the line.
    pub async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stdout).take(LONGEST_LINE);
        limited.read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ended without an answer",
            ));
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Waits for the end; an error unless the command ended well.
    pub async fn end(mut self, config: &SshConfig) -> Result<(), RunnerError> {
        self.stdin = None;
        let status = self.child.wait().await;
        let said = self.said.await.unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) if status.code() == Some(LINE_BROKE) => Err(error::connecting(config, &said)),
            Ok(status) => Err(error::refused(
                config,
                &format!("{} ({status})", error::one_line(&said)),
            )),
            Err(error) => Err(error::broken(config, &error)),
        }
    }

    /// What it says on stderr, after its output ended or nothing more is wanted of it.
    pub async fn said(self) -> String {
        drop(self.stdin);
        drop(self.child);
        let said = tokio::time::timeout(Duration::from_secs(1), self.said).await;
        said.map(Result::unwrap_or_default).unwrap_or_default()
    }
}
