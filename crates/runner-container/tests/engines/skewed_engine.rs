//! An engine between a backend and a real one, on a socket of its own, whose clock is minutes off: every time that it
//! tells of a container or of itself is shifted.

use anyhow::Result;
use jiff::ToSpan as _;
use jiff::civil::DateTime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// `2026-01-01T00:00`, which is what changes of a time when it is shifted by minutes.
const TO_THE_MINUTE: usize = 16;

pub struct SkewedEngine {
    dir: TempDir,
}

impl SkewedEngine {
    /// Passes on what `upstream` says, `minutes` later than it is.
    pub fn start(upstream: &str, minutes: i64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = UnixListener::bind(dir.path().join("s"))?;
        let upstream = upstream.trim_start_matches("unix://").to_owned();
        tokio::spawn(async move {
            while let Ok((down, _)) = listener.accept().await {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    // A client that hangs up has what it wanted.
                    pass(down, &upstream, minutes).await.ok();
                });
            }
        });
        Ok(Self { dir })
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }
}

/// One connection; bollard makes one for each request.
async fn pass(mut down: UnixStream, upstream: &str, minutes: i64) -> Result<()> {
    let mut up = UnixStream::connect(upstream).await?;
    let mut request = vec![0; 64 * 1024];
    let read = down.read(&mut request).await?;
    let request = &request[..read];
    let line = String::from_utf8_lossy(request);
    let line = line.lines().next().unwrap_or_default().to_owned();
    let path = line.split([' ', '?']).nth(1).unwrap_or_default();
    if !(line.starts_with("GET ") && (path.ends_with("/json") || path.ends_with("/info"))) {
        up.write_all(request).await?;
        tokio::io::copy_bidirectional(&mut down, &mut up).await?;
        return Ok(());
    }
    // By this version an answer is told in one piece, and the connection ends with it.
    let old = String::from_utf8(request.to_vec())?.replacen(" HTTP/1.1\r\n", " HTTP/1.0\r\n", 1);
    up.write_all(old.as_bytes()).await?;
    let mut answer = Vec::new();
    up.read_to_end(&mut answer).await?;
    shift(&mut answer, minutes);
    down.write_all(&answer).await?;
    down.shutdown().await?;
    Ok(())
}

/// Shifts every time of this century within quotes; all keep their length.
fn shift(answer: &mut [u8], minutes: i64) {
    for at in 0..answer.len().saturating_sub(TO_THE_MINUTE) {
        if answer[at] != b'"' {
            continue;
        }
        let place = &mut answer[at + 1..=at + TO_THE_MINUTE];
        let time = std::str::from_utf8(place)
            .ok()
            .filter(|text| text.starts_with("20"));
        let time = time.and_then(|text| text.parse::<DateTime>().ok());
        if let Some(time) = time {
            let shifted = time.saturating_add(minutes.minutes());
            let text = shifted.strftime("%Y-%m-%dT%H:%M").to_string();
            place.copy_from_slice(text.as_bytes());
        }
    }
}

#[test]
fn times_are_shifted_and_nothing_else() {
    let mut answer =
        br#"{"Started":"2026-12-31T23:58:01.5Z","Never":"0001-01-01T00:00:00Z","Id":"20"}"#.to_vec();
    shift(&mut answer, 5);
    let wanted = r#"{"Started":"2027-01-01T00:03:01.5Z","Never":"0001-01-01T00:00:00Z","Id":"20"}"#;
    assert_eq!(String::from_utf8(answer).unwrap(), wanted);
}
