//! An engine between a backend and a real one, on a socket of its own: it loses answers, or gives others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The request is carried out, and nothing comes back.
    Answer,
    /// The request never arrives.
    Request,
    /// The request is held until the client hangs up.
    Patience,
    /// Another answer is given to so many requests.
    Other(Answer, usize),
}

/// Status line and body.
type Answer = (&'static str, &'static str);

impl Loss {
    fn requests(self) -> usize {
        match self {
            Self::Answer | Self::Request | Self::Patience => 1,
            Self::Other(_, requests) => requests,
        }
    }
}

/// As podman 4.3 was heard to say it.
const RACE: Answer = (
    "500 Internal Server Error",
    r#"{"cause":"no such process","message":"read /proc/14186/cgroup: no such process","response":500}"#,
);

/// Passes bytes on, but for the first requests of some kind.
pub struct LossyProxy {
    dir: TempDir,
    pub lost: Arc<AtomicUsize>,
}

impl LossyProxy {
    /// Loses the first answer to a request whose first line has `words`.
    pub fn before(upstream: &str, words: &'static str) -> Result<Self> {
        Self::start(upstream, words, Loss::Answer)
    }

    /// Loses the first request whose first line has `words`.
    pub fn swallowing(upstream: &str, words: &'static str) -> Result<Self> {
        Self::start(upstream, words, Loss::Request)
    }

    /// Answers 500 to the first `requests` whose first line has `words`, as podman does about a command that ends just then.
    pub fn racing(upstream: &str, words: &'static str, requests: usize) -> Result<Self> {
        Self::start(upstream, words, Loss::Other(RACE, requests))
    }

    /// Answers in its own words whatever has `words` in its first line.
    pub fn answering(upstream: &str, words: &'static str, answer: Answer) -> Result<Self> {
        Self::start(upstream, words, Loss::Other(answer, usize::MAX))
    }

    /// Leaves the first request whose first line has `words` without an answer.
    pub fn holding(upstream: &str, words: &'static str) -> Result<Self> {
        Self::start(upstream, words, Loss::Patience)
    }

    fn start(upstream: &str, words: &'static str, loss: Loss) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = UnixListener::bind(dir.path().join("s"))?;
        let upstream = upstream.trim_start_matches("unix://").to_owned();
        let lost = Arc::new(AtomicUsize::new(0));
        let counter = lost.clone();
        tokio::spawn(async move {
            while let Ok((down, _)) = listener.accept().await {
                let (upstream, counter) = (upstream.clone(), counter.clone());
                tokio::spawn(async move {
                    // A broken connection is what is wanted here.
                    pass(down, &upstream, (words, loss), &counter).await.ok();
                });
            }
        });
        Ok(Self { dir, lost })
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }
}

/// One connection; bollard makes one for each request.
async fn pass(
    mut down: UnixStream,
    upstream: &str,
    (words, loss): (&str, Loss),
    lost: &AtomicUsize,
) -> Result<()> {
    let mut up = UnixStream::connect(upstream).await?;
    let mut request = vec![0; 64 * 1024];
    let read = down.read(&mut request).await?;
    let line = String::from_utf8_lossy(&request[..read]);
    let line = line.lines().next().unwrap_or_default().to_owned();
    let is_lost = line.contains(words) && lost.fetch_add(1, Ordering::SeqCst) < loss.requests();
    match loss {
        Loss::Request if is_lost => return Ok(()),
        Loss::Patience if is_lost => {
            while down.read(&mut request).await? > 0 {}
            return Ok(());
        }
        Loss::Other((status, body), _) if is_lost => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close");
            let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            down.write_all(answer.as_bytes()).await?;
            down.shutdown().await?;
            return Ok(());
        }
        Loss::Answer | Loss::Request | Loss::Patience | Loss::Other(..) => {}
    }
    up.write_all(&request[..read]).await?;
    if is_lost {
        let mut answer = vec![0; 1024];
        // The rest of the request may still come; the answer says that all was carried out.
        loop {
            tokio::select! {
                more = down.read(&mut request) => up.write_all(&request[..more?]).await?,
                answered = up.read(&mut answer) => {
                    answered?;
                    return Ok(());
                }
            }
        }
    }
    tokio::io::copy_bidirectional(&mut down, &mut up).await?;
    Ok(())
}
