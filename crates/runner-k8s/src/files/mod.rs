//! The files of a run, into its pod and back, over `exec`: tar streams to and from the helper containers that
//! `manifest::files` adds.
//!
//! Called by `K8sBackend` for people who run things with their own rights; a server has no right to `exec` and no
//! workspace.

mod collect;
mod exec;
mod send;

pub(crate) use collect::collect;
pub(crate) use send::supply;

use std::os::fd::OwnedFd;

use qwex_runner::RunnerError;
use tokio::net::unix::pipe;

fn local(what: &str, error: &dyn std::fmt::Display) -> RunnerError {
    RunnerError::Failed {
        message: format!("{what}: {error}"),
    }
}

/// What of the workspace cannot be read will not be readable the next time either, unlike what was changed while it was read.
fn unpackable(error: &std::io::Error) -> RunnerError {
    use std::io::ErrorKind;
    let message = format!("the workspace cannot be packed: {error}");
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidData
        | ErrorKind::NotADirectory => RunnerError::Rejected { message },
        // The other side closed the pipe: it is asked for the reason.
        ErrorKind::BrokenPipe => RunnerError::Unreachable { message },
        _ => RunnerError::Failed { message },
    }
}

/// Joins a blocking task's panic to its errors.
async fn joined<T>(task: tokio::task::JoinHandle<std::io::Result<T>>, what: &str) -> Result<T, RunnerError> {
    match task.await {
        Ok(done) => done.map_err(|error| local(what, &error)),
        Err(error) => Err(local(what, &error)),
    }
}

/// Our end of a pipe whose other end a blocking task writes.
fn reader(end: impl Into<OwnedFd>) -> Result<pipe::Receiver, RunnerError> {
    pipe::Receiver::from_owned_fd(end.into()).map_err(|error| local("no pipe", &error))
}

/// Our end of a pipe whose other end a blocking task reads.
fn writer(end: impl Into<OwnedFd>) -> Result<pipe::Sender, RunnerError> {
    pipe::Sender::from_owned_fd(end.into()).map_err(|error| local("no pipe", &error))
}
