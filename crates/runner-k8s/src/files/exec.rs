//! Runs a command inside a container, with bytes going in and out. Called by the rest of `files` alone; it needs the
//! right to `pods/exec`, which only people have, never the server.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams};
use qwex_runner::RunnerError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::names;

/// Bytes in flight in each direction.
const BUFFER: usize = 256 * 1024;
/// Most bytes of a command's complaint that are passed on.
const COMPLAINT_CAP: u64 = 4096;

/// A container of a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
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
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), RunnerError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), spot.namespace);
    let with = AttachParams::default()
        .container(spot.container)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER);
    let mut process = pods
        .exec(spot.pod, command.iter().copied(), &with)
        .await
        .map_err(|error| refused(spot, &error))?;
    let taken = "each stream is asked for once";
    let mut stdin = process.stdin().expect(taken);
    let mut stdout = process.stdout().expect(taken);
    let stderr = process.stderr().expect(taken);
    let status = process.take_status().expect(taken);
    let feed = async {
        // A command that ends early closes its input; its status says why.
        let fed = tokio::io::copy(&mut input, &mut stdin).await;
        // Dropping this half would not end the input: the two halves share one stream.
        stdin.shutdown().await.ok();
        fed
    };
    let drain = async {
        let drained = tokio::io::copy(&mut stdout, &mut output).await?;
        output.flush().await?;
        Ok::<u64, std::io::Error>(drained)
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
    let (fed, drained, _, status) = tokio::join!(feed, drain, complain, status);
    judge(spot, status, &complaint)?;
    let broken = |error: std::io::Error| RunnerError::Unreachable {
        message: format!("the connection to pod {} broke: {error}", spot.pod),
    };
    drained.map_err(broken)?;
    fed.map_err(broken)?;
    Ok(())
}

/// Leaves word for the helpers of the pod.
///
/// # Errors
/// As [`exec`].
pub(super) async fn tell(client: &kube::Client, spot: Spot<'_>, word: &str) -> Result<(), RunnerError> {
    let word = format!("{}/{word}", names::CONTROL);
    let command = ["touch", word.as_str()];
    exec(client, spot, &command, tokio::io::empty(), tokio::io::sink()).await
}

fn judge(spot: Spot<'_>, status: Option<Status>, complaint: &[u8]) -> Result<(), RunnerError> {
    let Some(status) = status else {
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
    let said = String::from_utf8_lossy(complaint);
    let message = format!(
        "in container {} of pod {}: {}: {}",
        spot.container,
        spot.pod,
        status.message.unwrap_or_default(),
        said.trim()
    );
    Err(RunnerError::Failed { message })
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
