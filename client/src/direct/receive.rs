//! Writing a run that a server kept into this directory: its log as it comes, split into the files of its streams, then
//! its history, then its record. Nobody sees anything of it before the end.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::fcntl::OFlag;
use qwex_core::{Attempt, BackendInfo, BackendKind, EpisodeId, Run, RunId};
use qwex_runner::store::Incoming;
use qwex_runner::{LogPosition, LogSource, StoreError};
use sha2::{Digest, Sha256};

use super::error::DirectError;
use super::history::History;
use super::log_files::{self, LogIndex, Stored};
use super::placed::{Placed, Sent};
use super::runs::Direct;

type Result<T> = std::result::Result<T, DirectError>;

/// The word of `--backend` for what a server runs.
const REMOTE: &str = "remote";

/// A run on its way here.
pub struct Receiving<'d> {
    direct: &'d Direct,
    incoming: Incoming<'d>,
    history: History,
    indices: Vec<LogIndex>,
    /// The stream that the next byte belongs to, its open file, and how much of it is here.
    at: usize,
    open: Option<File>,
    hash: Sha256,
    bytes: u64,
}

impl Direct {
    /// Begins to write a run with this history.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn receive(&self, run: &Run, history: History) -> Result<Receiving<'_>> {
        let incoming = self.store().receive(run.id)?;
        let mut receiving = Receiving {
            direct: self,
            incoming,
            history,
            indices: vec![LogIndex::default(); usize::try_from(run.attempt.0).unwrap_or(0)],
            at: 0,
            open: None,
            hash: Sha256::new(),
            bytes: 0,
        };
        receiving.lay_out(run.id)?;
        Ok(receiving)
    }
}

impl Receiving<'_> {
    /// Gives each stream its place in a file, behind those that share it.
    fn lay_out(&mut self, id: RunId) -> Result<()> {
        for info in &self.history.log_streams {
            let number = usize::try_from(info.attempt.0).unwrap_or(0);
            let Some(index) = number.checked_sub(1).and_then(|at| self.indices.get_mut(at)) else {
                let word = format!("attempt {}", info.attempt);
                return Err(DirectError::Told(format!("{word} is not one of the run")));
            };
            let file = log_files::file_name(info.attempt, &info.stream);
            let before = index.sources.iter().filter(|stored| stored.file == file);
            let start = before.map(|stored| stored.start + stored.position.offset).max();
            index.sources.push(Stored {
                source: LogSource {
                    run_id: id,
                    attempt: info.attempt,
                    episode: EpisodeId(info.episode.clone()),
                    stream: info.stream.clone(),
                    locator: REMOTE.to_owned(),
                },
                file,
                start: start.unwrap_or(0),
                position: LogPosition {
                    offset: info.bytes,
                    mark: None,
                },
                ended: true,
                survived: 0,
            });
            index.gaps.extend(info.message.clone());
        }
        Ok(())
    }

    /// Takes the next bytes of the log.
    ///
    /// # Errors
    /// A file cannot be written, or more bytes come than were told.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let Some(info) = self.history.log_streams.get(self.at) else {
                return Err(DirectError::Told(
                    "more bytes came than its streams have".to_owned(),
                ));
            };
            let left = info.bytes - self.bytes;
            if left == 0 {
                self.next()?;
                continue;
            }
            let (attempt, episode, stream) = (info.attempt, info.episode.clone(), info.stream.clone());
            let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (part, rest) = bytes.split_at(count);
            let stored = self.stored(attempt, &episode, &stream)?;
            let path = self.incoming.journal().path_of(&stored.file);
            let broken = |source| StoreError::io("write", &path, source);
            let file = match &self.open {
                Some(file) => file,
                None => self.open.insert(
                    self.incoming
                        .journal()
                        .open_file(&stored.file, OFlag::O_WRONLY | OFlag::O_CREAT)?,
                ),
            };
            file.write_all_at(part, stored.start + self.bytes)
                .map_err(broken)?;
            self.bytes += count as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn stored(&self, attempt: Attempt, episode: &str, stream: &str) -> Result<Stored> {
        let number = usize::try_from(attempt.0).unwrap_or(0).saturating_sub(1);
        let sources = self.indices.get(number).map(|index| index.sources.as_slice());
        let mut own = sources.unwrap_or_default().iter();
        own.find(|one| one.source.episode.0 == episode && one.source.stream == stream)
            .cloned()
            .ok_or_else(|| DirectError::Told(format!("it has no stream {stream} of {episode}")))
    }

    /// The stream is whole: its file may be one of bytes that never came.
    fn next(&mut self) -> Result<()> {
        let info = &self.history.log_streams[self.at];
        let file = log_files::file_name(info.attempt, &info.stream);
        let file = match self.open.take() {
            Some(file) => file,
            None => self
                .incoming
                .journal()
                .open_file(&file, OFlag::O_WRONLY | OFlag::O_CREAT)?,
        };
        file.sync_all()
            .map_err(|source| StoreError::io("store", &self.incoming.journal().path_of("log"), source))?;
        (self.at, self.bytes) = (self.at + 1, 0);
        Ok(())
    }

    /// Makes the run be there, `json` being the run as `server` told it.
    ///
    /// # Errors
    /// Other bytes came than the run's log has, files cannot be written, or the run came here another way meanwhile.
    pub fn finish(mut self, run: &Run, json: &[u8], server: &str) -> Result<Run> {
        while let Some(info) = self.history.log_streams.get(self.at) {
            if info.bytes != self.bytes {
                let told = format!("{} of {} bytes of {} came", self.bytes, info.bytes, info.stream);
                return Err(DirectError::Told(told));
            }
            self.next()?;
        }
        let sha256 = hex::encode(self.hash.finalize());
        if let Some(logs) = run.logs.as_ref().filter(|logs| logs.sha256 != sha256) {
            return Err(DirectError::Told(format!(
                "its log has the SHA-256 {sha256}, and {} was sealed",
                logs.sha256
            )));
        }
        let journal = self.incoming.journal();
        for (number, index) in (1..).zip(&mut self.indices) {
            index.complete = true;
            log_files::write_index(journal, Attempt(number), index)?;
        }
        self.history.write(journal)?;
        placed(self.direct, run, server).write(journal)?;
        Ok(self.incoming.finish(json)?)
    }
}

/// Where the same would run again: on the server that ran it, else on what its record names.
fn placed(direct: &Direct, run: &Run, server: &str) -> Placed {
    let (backend, address, namespace) = match &run.backend {
        Some(BackendInfo {
            kind,
            cluster: None,
            address,
            namespace,
            ..
        }) => (word(*kind, run), address.clone(), namespace.clone()),
        Some(_) | None => (REMOTE, Some(server.to_owned()), None),
    };
    Placed {
        backend: backend.to_owned(),
        address,
        namespace,
        workspace: Some(direct.dir().to_owned()),
        send: Sent::Nothing,
        ..Placed::default()
    }
}

fn word(kind: BackendKind, run: &Run) -> &'static str {
    match kind {
        BackendKind::Local => "local",
        BackendKind::Docker => "docker",
        BackendKind::Podman => "podman",
        BackendKind::Ssh => "ssh",
        BackendKind::K8s if run.spec.queue.is_some() => "kueue",
        BackendKind::K8s => "k8s",
        BackendKind::Unknown => REMOTE,
    }
}
