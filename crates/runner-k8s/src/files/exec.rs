//! Runs a command inside a container, with bytes going in and out. Called by the rest of `files` alone; it needs the
//! right to `pods/exec`, which only people have, never the server.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams};
use qwex_runner::RunnerError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::names;

/// Bytes in flight in each direction.
const BUFFER: usize = 256 * 1024;
/// Most bytes of a command's complaint that are passed on.
const COMPLAINT_CAP: u64 = 4096;

/// Exit code of what was ended by SIGKILL.
const KILLED: i32 = 137;

/// How long a connection into a pod may take to come about, and to be silent in both directions: a cut one says nothing.
const OPENING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(120);

/// A container of a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
}

/// How a command ended, by the API server's word.
struct Ended {
    /// `None`: the connection broke before.
    status: Option<Status>,
    complaint: Vec<u8>,
}

/// Runs `command` there until it ends, feeds it `input` and writes what it says to `output`.
///
/// # Errors
/// `Unreachable` when the connection broke, which leaves open whether the command did its work; `Failed` with the
/// command's own complaint when it ended badly; `Unauthorized` without the right.
pub(super) async fn exec(
    client: &kube::Client,
    spot: Spot<'_>,
    command: &[&str],
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<(), RunnerError> {
    run(client, spot, command, input, output)
        .await
        .and_then(|(ended, pumped)| {
            ended.judge(spot)?;
            pumped.map_err(|error| RunnerError::Unreachable {
                message: format!("the connection to pod {} broke: {error}", spot.pod),
            })
        })
}

/// [`exec`] without a verdict: how the command ended, and whether all bytes went through.
async fn run(
    client: &kube::Client,
    spot: Spot<'_>,
    command: &[&str],
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(Ended, std::io::Result<()>), RunnerError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), spot.namespace);
    let with = AttachParams::default()
        .container(spot.container)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER);
    let mut process = timeout(OPENING, pods.exec(spot.pod, command.iter().copied(), &with))
        .await
        .map_err(|_| silent(spot, OPENING))?
        .map_err(|error| refused(spot, &error))?;
    let taken = "each stream is asked for once";
    let mut stdin = process.stdin().expect(taken);
    let mut stdout = process.stdout().expect(taken);
    let stderr = process.stderr().expect(taken);
    let status = process.take_status().expect(taken);
    let pulse = Pulse::new();
    let feed = async {
        // A command that ends early closes its input; its status says why.
        let fed = pump(&mut input, &mut stdin, &pulse).await;
        // Dropping this half would not end the input: the two halves share one stream.
        stdin.shutdown().await.ok();
        fed
    };
    let drain = async {
        pump(&mut stdout, &mut output, &pulse).await?;
        output.flush().await
    };
    let mut complaint = Vec::new();
    let mut stderr = stderr.take(COMPLAINT_CAP);
    let complain = async {
        let read = stderr.read_to_end(&mut complaint).await;
        // The rest must be taken too, or the command stands still.
        tokio::io::copy(stderr.get_mut(), &mut tokio::io::sink())
            .await
            .and(read)
    };
    let all = async { tokio::join!(feed, drain, complain, status) };
    let (fed, drained, _, status) = tokio::select! {
        all = all => all,
        () = pulse.lost(SILENCE) => return Err(silent(spot, SILENCE)),
    };
    Ok((Ended { status, complaint }, drained.and(fed)))
}

/// When bytes last went anywhere.
struct Pulse(Mutex<Instant>);

impl Pulse {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns once nothing has moved for so long.
    async fn lost(&self, limit: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let due = last + limit;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    pulse: &Pulse,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        pulse.beat();
        to.write_all(&buffer[..read]).await?;
        pulse.beat();
    }
}

fn silent(spot: Spot<'_>, limit: Duration) -> RunnerError {
    RunnerError::Unreachable {
        message: format!(
            "the connection to pod {}/{} was silent for {}s",
            spot.namespace,
            spot.pod,
            limit.as_secs()
        ),
    }
}

/// Leaves word for a helper of the pod, which may end upon it.
///
/// # Errors
/// As [`exec`]; also `Unreachable` where whoever left the word was killed: a container that ends takes along what runs in it.
pub(super) async fn tell(client: &kube::Client, spot: Spot<'_>, word: &str) -> Result<(), RunnerError> {
    let word = format!("{}/{word}", names::CONTROL);
    let command = ["touch", word.as_str()];
    let (ended, _) = run(client, spot, &command, tokio::io::empty(), tokio::io::sink()).await?;
    if ended.exit_code() == Some(KILLED) {
        let message = format!(
            "container {} of pod {} ended while it was told",
            spot.container, spot.pod
        );
        return Err(RunnerError::Unreachable { message });
    }
    ended.judge(spot)
}

impl Ended {
    fn exit_code(&self) -> Option<i32> {
        let causes = self.status.as_ref()?.details.as_ref()?.causes.as_ref()?;
        let code = causes
            .iter()
            .find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
        code.message.as_ref()?.parse().ok()
    }

    fn judge(&self, spot: Spot<'_>) -> Result<(), RunnerError> {
        let Some(status) = &self.status else {
            return Err(RunnerError::Unreachable {
                message: format!(
                    "the connection to pod {} broke before the command ended",
                    spot.pod
                ),
            });
        };
        if status.status.as_deref() == Some("Success") {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&self.complaint);
        let message = format!(
            "in container {} of pod {}: {}: {}",
            spot.container,
            spot.pod,
            status.message.as_deref().unwrap_or_default(),
            said.trim()
        );
        Err(RunnerError::Failed { message })
    }
}

fn refused(spot: Spot<'_>, error: &kube::Error) -> RunnerError {
    let Spot { namespace, pod, .. } = spot;
    match error {
        kube::Error::Api(status) if status.code == 403 => RunnerError::Unauthorized {
            message: format!(
                "the files of pod {namespace}/{pod} cannot be reached: {}; \
                 ask for the verbs `get` and `create` on `pods/exec` in namespace {namespace}",
                status.message
            ),
        },
        kube::Error::Api(status) if status.code == 404 => RunnerError::NotFound {
            message: status.message.clone(),
        },
        other => RunnerError::Unreachable {
            message: format!("no connection into pod {namespace}/{pod}: {other}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_among_the_causes() {
        let told = |status: serde_json::Value| Ended {
            status: serde_json::from_value(status).unwrap(),
            complaint: Vec::new(),
        };
        // As containerd's kubelet says it.
        let killed = told(serde_json::json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code: command terminated with exit code 137",
            "details": { "causes": [{ "reason": "ExitCode", "message": "137" }] },
        }));
        assert_eq!(killed.exit_code(), Some(KILLED));
        for other in [
            serde_json::json!(null),
            serde_json::json!({ "status": "Success" }),
            serde_json::json!({ "status": "Failure", "reason": "InternalError", "details": { "causes": [] } }),
        ] {
            assert_eq!(told(other).exit_code(), None);
        }
    }

    #[tokio::test]
    async fn a_stream_that_stands_still_is_given_up_and_one_that_moves_is_not() {
        const LIMIT: Duration = Duration::from_secs(2);
        let pulse = Pulse::new();
        let (mut theirs, mut ours) = tokio::io::duplex(16);
        let begun = Instant::now();
        let slow = async {
            for _ in 0..4 {
                tokio::time::sleep(LIMIT / 4).await;
                theirs.write_all(b"x").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let mut sink = tokio::io::sink();
        tokio::select! {
            () = slow => unreachable!("it waits for ever"),
            pumped = pump(&mut ours, &mut sink, &pulse) => panic!("{pumped:?}"),
            () = pulse.lost(LIMIT) => {}
        }
        assert!(begun.elapsed() >= LIMIT * 2, "counted from the last byte");
    }
}
