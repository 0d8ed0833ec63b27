//! What is amiss with the records of a directory, without changing anything; and each thing that mends it.
//! Asked by `doctor` and `prune`.

use std::collections::HashSet;
use std::fs::{DirEntry, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use qwex_core::{Flag, Run, RunId};
use qwex_runner::durable::Dir;
use qwex_runner::{RunnerError, StoreError};

use super::error::DirectError;
use super::facts::{handle, unknown};
use super::outputs::Outputs;
use super::placed::Placed;
use super::runs::Direct;
use super::{keeper, registry, vouch};

type Result<T> = std::result::Result<T, DirectError>;

/// Runs that are looked at one by one: of a million, only the newest can be under way.
const NEWEST: usize = 2000;
/// A file that is younger may be somebody's who just began.
const YOUNG: Duration = Duration::from_secs(60);
/// How long a backend is asked to remove what a run left there.
const REMOVING: Duration = Duration::from_secs(20);
/// Beside the records.
const INDEX: &str = "index";
/// Before the name of what is being removed.
const GONE: &str = ".gone-";
/// Runs on their way here, and what whoever brings one holds.
const INCOMING: &str = "incoming";
const HELD: &str = ".incoming";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Of the newest records.
    pub runs: usize,
    /// Records that cannot be read, as sentences.
    pub damaged: Vec<String>,
    /// Runs that are missing in the index.
    pub not_in_index: usize,
    /// Runs that are under way, or whose log is not whole yet, and that nobody keeps.
    pub unkept: Vec<RunId>,
    /// What writers that were killed left.
    pub left: Vec<PathBuf>,
}

impl Direct {
    /// Looks at everything and changes nothing.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn survey(&self) -> Result<Upkeep> {
        let in_index: HashSet<RunId> = self.store.newest_ids(usize::MAX)?.into_iter().collect();
        let mut ids = self.store.list_ids()?;
        let not_in_index = ids.iter().filter(|id| !in_index.contains(id)).count();
        ids.truncate(NEWEST);
        let mut found = Upkeep {
            runs: ids.len(),
            not_in_index,
            left: left_in(self.dir_of_store().join(".qwex")),
            ..Upkeep::default()
        };
        found.left.extend(left_in(self.store.path().to_owned()));
        found
            .left
            .extend(left_in(self.dir_of_store().join(".qwex/pipelines")));
        for id in ids {
            match self.is_unkept(id) {
                Ok(true) => found.unkept.push(id),
                Ok(false) => {}
                Err(error) => found.damaged.push(error.to_string()),
            }
            found.left.extend(left_in(self.store.run_path(id)));
        }
        Ok(found)
    }

    /// What commands that were killed left in `.qwex`: files begun before `before`, and what is half removed. Of the
    /// stored files of pipelines nothing: their store looks after them.
    #[must_use]
    pub fn abandoned(&self, before: SystemTime) -> Vec<PathBuf> {
        let qwex = self.dir_of_store().join(".qwex");
        let mut places = vec![qwex.clone(), self.store.path().to_owned()];
        let newest = self.store.newest_ids(NEWEST).unwrap_or_default();
        places.extend(newest.into_iter().take(NEWEST).map(|id| self.store.run_path(id)));
        let pipelines = qwex.join("pipelines");
        places.extend(entries(&pipelines).map(|entry| entry.path()));
        places.push(pipelines);
        let is_left = |entry: &DirEntry| {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { return false };
            name.starts_with(GONE) || (writer_of(name).is_some() && is_older(entry, before))
        };
        let begun = places.iter().flat_map(|place| entries(place).filter(is_left));
        let incoming =
            entries(&qwex.join(INCOMING)).filter(|entry| is_older(entry, before) && !is_held(entry));
        begun.chain(incoming).map(|entry| entry.path()).collect()
    }

    fn is_unkept(&self, id: RunId) -> Result<bool> {
        let journal = self.store.journal(id)?;
        let run = journal.read()?;
        let is_open = run.logs.is_none() || Outputs::are_tried(&journal, &run)?;
        let is_kept = is_open && Placed::read(&journal)?.is_some();
        // One of somebody else gets none, whoever asks.
        Ok(is_kept && keeper::is_missing(&journal)? && vouch::doubt(&journal, &run)?.is_none())
    }

    /// Starts the process that keeps a run, unless there is one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn keep(&self, id: RunId) -> Result<()> {
        match self.unkept(id)? {
            Some(why) => Err(DirectError::Unkept { id, why }),
            None => Ok(()),
        }
    }

    /// Removes the record of a run that is over, its log and all else that it left here.
    ///
    /// # Errors
    /// It is under way, not all of it is stored here, or it cannot be removed.
    pub fn remove(&self, id: RunId) -> Result<()> {
        if let Ok(run) = self.get(id)
            && run.status.is_terminal()
        {
            let unstored = |why: String| Err(DirectError::Unstored { id, why });
            if run.logs.is_none() && self.is_kept(id)? {
                return unstored("what it left is still being brought".to_owned());
            }
            if run.spec.outputs.is_empty() {
                return Ok(self.store.remove(id)?);
            }
            let outputs = Outputs::read(&self.store.journal(id)?)?.unwrap_or_default();
            if let Some(trouble) = outputs
                .trouble()
                .filter(|_| outputs.is_there || !outputs.held.is_empty())
            {
                return unstored(trouble);
            }
        }
        Ok(self.store.remove(id)?)
    }

    /// Removes the record of a run whatever is still to be brought of it, or although nobody can bring it to its end:
    /// it has no keeper and gets none, or it was cancelled and its backend does not answer. Gives what is left
    /// elsewhere, as a sentence.
    ///
    /// # Errors
    /// It is under way and was not cancelled, or cannot be removed.
    pub async fn remove_anyway(&self, id: RunId) -> Result<Option<String>> {
        let run = self.get(id);
        // The supervisor of a plain run ends it as soon as the kernel lets go of its processes, and writes here until then.
        let may_never_end = self.is_kept(id).unwrap_or(true);
        let is_over = run.as_ref().is_ok_and(|run| run.status.is_terminal());
        let is_cancelled = run
            .as_ref()
            .is_ok_and(|run| run.flags.contains(&Flag::CancelRequested));
        if is_cancelled && !is_over && !may_never_end {
            return Err(DirectError::Stopping { id });
        }
        let is_stuck = self.unkept(id).map_or(true, |unkept| unkept.is_some());
        if !is_over && !is_cancelled && !is_stuck {
            return Err(StoreError::Active { id }.into());
        }
        let left = match run {
            Ok(run) => self.left_elsewhere(&run).await,
            Err(_) => None,
        };
        self.store.remove_anyway(id)?;
        Ok(left)
    }

    /// Takes away what a run left on its backend, within a limit; gives why that did not work. Of a run that is
    /// somebody else's nothing is asked.
    async fn left_elsewhere(&self, run: &Run) -> Option<String> {
        let journal = self.store.journal(run.id).ok()?;
        let placed = Placed::read(&journal).ok()??;
        if vouch::doubt(&journal, run).ok()?.is_some() {
            return None;
        }
        let place = placed.words();
        let object = run.id.object_name(run.attempt);
        let removal = async {
            let backend = registry::open(self.opening(placed)).await?;
            let handle = handle(run, || unknown(backend.kind(), run));
            if !run.status.is_terminal() {
                // What may still be under way is for its owner to look at.
                return Err(RunnerError::Failed {
                    message: "it may be under way".to_owned(),
                });
            }
            backend.remove(&handle).await
        };
        let why = match tokio::time::timeout(REMOVING, removal).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        Some(format!(
            "what run {} left on {place} as {object} stays there: {why}",
            run.id
        ))
    }

    /// Makes the index again from the records.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn rebuild_index(&self) -> Result<()> {
        let place = self.dir_of_store().join(".qwex");
        Dir::open(&place)
            .and_then(|dir| dir.remove_file(INDEX))
            .map_err(|source| StoreError::io("remove the index of", &place, source))?;
        self.store.newest_ids(1)?;
        Ok(())
    }
}

/// Files of writers that are no more: `.NAME.PID.NUMBER.tmp`, and directories: `.new-NAME-PID-NUMBER`, and what is half
/// removed.
fn left_in(dir: PathBuf) -> Vec<PathBuf> {
    let Some(before) = SystemTime::now().checked_sub(YOUNG) else {
        return Vec::new();
    };
    let all = entries(&dir).filter(|entry| {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return false };
        let is_left = name.starts_with(GONE) || writer_of(name).is_some_and(|pid| !is_alive(pid));
        is_left && is_older(entry, before)
    });
    all.map(|entry| entry.path()).collect()
}

/// What is in a directory; in one that cannot be read, nothing.
fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(dir).into_iter().flatten().flatten()
}

/// Whether somebody brings a run into this directory.
fn is_held(entry: &DirEntry) -> bool {
    let lock = File::open(entry.path().join(HELD));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn writer_of(name: &str) -> Option<Pid> {
    let (name, separator) = match name.strip_prefix(".new-") {
        Some(rest) => (rest, '-'),
        None => (name.strip_prefix('.')?.strip_suffix(".tmp")?, '.'),
    };
    let mut parts = name.rsplit(separator);
    let (number, pid) = (parts.next()?, parts.next()?);
    parts.next()?;
    number.parse::<u32>().ok()?;
    pid.parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw)
}

fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(nix::Error::ESRCH)
}

fn is_older(entry: &DirEntry, before: SystemTime) -> bool {
    let time = entry.metadata().and_then(|meta| meta.modified());
    time.is_ok_and(|time| time < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writers_file_is_known_by_its_name() {
        assert_eq!(writer_of(".run.json.12.0.tmp"), Some(Pid::from_raw(12)));
        assert_eq!(writer_of(".x.7.3.tmp"), Some(Pid::from_raw(7)));
        assert_eq!(writer_of(".new-a1-345-0"), Some(Pid::from_raw(345)));
        for other in [
            "run.json",
            ".keeper",
            ".12.0.tmp",
            ".x.y.0.tmp",
            ".x.12.tmp",
            ".x.0.0.tmp",
            "x.1.1.tmp",
        ] {
            assert_eq!(writer_of(other), None, "{other}");
        }
    }
}
