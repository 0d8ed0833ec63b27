//! What of a store nobody needs: found by marking what pipelines and runs name, and removed in an order in which a kill
//! at any moment leaves no key without its files. Asked by `retain`, which knows what is named.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::time::SystemTime;

use nix::fcntl::{OFlag, renameat};
use qwex_core::RunId;
use qwex_runner::durable::Dir;

use super::super::artifacts::Artifact;
use super::super::cache::Entry;
use super::super::error::PipelineError;
use super::{Objects, Result};

/// What is named by that which stays.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    pub keys: HashSet<String>,
    pub objects: HashSet<String>,
    pub runs: HashSet<RunId>,
}

impl Marks {
    /// Files that a stage made.
    pub fn artifacts(&mut self, artifacts: &[Artifact]) {
        let hashes = artifacts.iter().filter_map(|artifact| artifact.sha256.clone());
        self.objects.extend(hashes);
    }
}

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The key, the hash, or the name of a file that somebody began.
    pub name: String,
    pub bytes: u64,
}

/// What nobody needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unneeded {
    pub keys: Vec<Stored>,
    pub objects: Vec<Stored>,
    /// What was begun by somebody who was killed.
    pub begun: Vec<Stored>,
}

impl Objects {
    /// What nothing names and nobody wrote or used since `before`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn unneeded(&self, marks: &Marks, before: SystemTime) -> Result<Unneeded> {
        let mut marks = marks.clone();
        let mut found = Unneeded::default();
        let broken = |dir: &Dir, source| PipelineError::io("list", dir.path(), source);
        for name in names(&self.keys).map_err(|source| broken(&self.keys, source))? {
            let Some(meta) = look(&self.keys, &name).map_err(|source| broken(&self.keys, source))? else {
                continue;
            };
            let stored = Stored {
                bytes: meta.len(),
                name,
            };
            let is_old = is_older(&meta, before);
            if stored.name.starts_with('.') {
                found.begun.extend(is_old.then_some(stored));
                continue;
            }
            let entry = self.entry(&stored.name);
            let is_named = marks.keys.contains(&stored.name)
                || entry
                    .as_ref()
                    .is_some_and(|entry| marks.runs.contains(&entry.run_id));
            if is_old && !is_named {
                found.keys.push(stored);
            } else if let Some(entry) = entry {
                marks.artifacts(&entry.outputs);
            }
        }
        for (dir, head) in self.heads()? {
            for tail in names(&dir).map_err(|source| broken(&dir, source))? {
                let name = format!("{head}{tail}");
                let meta = look(&dir, &tail).map_err(|source| broken(&dir, source))?;
                let is_unneeded = |meta: &Metadata| {
                    is_hash(&name) && !marks.objects.contains(&name) && is_older(meta, before)
                };
                if let Some(meta) = meta.filter(is_unneeded) {
                    found.objects.push(Stored {
                        bytes: meta.len(),
                        name,
                    });
                }
            }
        }
        for name in names(&self.temp).map_err(|source| broken(&self.temp, source))? {
            let meta = look(&self.temp, &name).map_err(|source| broken(&self.temp, source))?;
            if let Some(meta) = meta.filter(|meta| is_older(meta, before)) {
                let bytes = meta.len();
                found.begun.push(Stored { name, bytes });
            }
        }
        Ok(found)
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        serde_json::from_slice(&self.read_key(key)?).ok()
    }

    fn heads(&self) -> Result<Vec<(Dir, String)>> {
        let broken = |source| PipelineError::io("list", self.objects.path(), source);
        let heads = names(&self.objects).map_err(broken)?;
        // What is no directory is not ours.
        let open = |head: String| Some((self.objects.open_dir(&head).ok()?, head));
        Ok(heads.into_iter().filter_map(open).collect())
    }

    /// Removes what nobody needs, unless it was used since it was looked at; gives what is gone. First the keys, and on
    /// disk too, then the files that only those named. The caller holds the store alone.
    ///
    /// # Errors
    /// A file cannot be removed; what is gone by then is gone.
    pub fn sweep(&self, unneeded: Unneeded, before: SystemTime) -> Result<Unneeded> {
        let broken = |source| PipelineError::io("remove what nobody needs in", self.store.path(), source);
        let mut gone = Unneeded::default();
        for key in unneeded.keys {
            let went = self.take_away(&self.keys, &key.name, before).map_err(broken)?;
            gone.keys.extend(went.then_some(key));
        }
        self.keys.sync().map_err(broken)?;
        for object in unneeded.objects {
            let (head, tail) = object.name.split_at(2);
            let dir = self.objects.open_dir(head).map_err(broken)?;
            let went = self.take_away(&dir, tail, before).map_err(broken)?;
            gone.objects.extend(went.then_some(object));
        }
        for file in unneeded.begun {
            let dir = if file.name.starts_with('.') {
                &self.keys
            } else {
                &self.temp
            };
            dir.remove_file(&file.name).map_err(broken)?;
            gone.begun.push(file);
        }
        Ok(gone)
    }

    /// Takes a file's name away, looks once more at its age, and only then removes it: who uses it in between either
    /// made it young before that look, or finds that it has no name any more.
    fn take_away(&self, dir: &Dir, name: &str, before: SystemTime) -> io::Result<bool> {
        let aside = format!("gone.{name}");
        match renameat(dir.as_fd(), name, self.temp.as_fd(), aside.as_str()) {
            Ok(()) => {}
            Err(nix::Error::ENOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let is_young = look(&self.temp, &aside)?.is_some_and(|meta| !is_older(&meta, before));
        if is_young {
            renameat(self.temp.as_fd(), aside.as_str(), dir.as_fd(), name)?;
            return Ok(false);
        }
        self.temp.remove_file(&aside)?;
        Ok(true)
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_older(meta: &Metadata, before: SystemTime) -> bool {
    meta.modified().is_ok_and(|at| at < before)
}

/// Names that are text; others are none of ours.
fn names(dir: &Dir) -> io::Result<Vec<String>> {
    let names = dir.names()?.into_iter();
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// What is known of a file; `None`: it is not there, or it is no file.
fn look(dir: &Dir, name: &str) -> io::Result<Option<Metadata>> {
    match dir.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(file) => Ok(Some(file.metadata()?).filter(Metadata::is_file)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn scratch() -> (tempfile::TempDir, Objects) {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        (dir, objects)
    }

    fn make_old(path: &Path) {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }

    fn path_of(dir: &tempfile::TempDir, hash: &str) -> PathBuf {
        let (head, tail) = hash.split_at(2);
        dir.path().join(".qwex/store/objects").join(head).join(tail)
    }

    fn taken(dir: &tempfile::TempDir, objects: &Objects, bytes: &str) -> Artifact {
        let from = dir.path().join("file");
        std::fs::write(&from, bytes).unwrap();
        let (hash, size) = objects.take(&from).unwrap();
        Artifact {
            path: "file".to_owned(),
            sha256: Some(hash),
            size,
            executable: false,
            link: None,
        }
    }

    fn keep(objects: &Objects, key: &str, run_id: RunId, artifact: &Artifact) {
        let entry = serde_json::json!({ "run_id": run_id, "finished_at": null, "outputs": [artifact] });
        objects.write_key(key, entry.to_string().as_bytes()).unwrap();
    }

    #[test]
    fn only_what_nothing_names_and_nobody_used_goes() {
        let (dir, objects) = scratch();
        let run = RunId::mint();
        let made: Vec<Artifact> = ["a", "b", "c", "d", "young"]
            .iter()
            .map(|bytes| taken(&dir, &objects, bytes))
            .collect();
        for (key, run_id, of) in [
            ("named", RunId::mint(), 0),
            ("of-a-run", run, 1),
            ("nobody", RunId::mint(), 2),
        ] {
            keep(&objects, key, run_id, &made[of]);
            make_old(&dir.path().join(".qwex/store/keys").join(key));
        }
        for artifact in &made[..4] {
            make_old(&path_of(&dir, artifact.sha256.as_ref().unwrap()));
        }
        let mut marks = Marks::default();
        marks.keys.insert("named".to_owned());
        marks.runs.insert(run);
        let before = SystemTime::now() - HOUR;
        let found = objects.unneeded(&marks, before).unwrap();
        let names = |all: &[Stored]| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found.keys), ["nobody"]);
        let mut expected: Vec<String> = made[2..4].iter().map(|one| one.sha256.clone().unwrap()).collect();
        expected.sort();
        assert_eq!(names(&found.objects), expected);
        assert_eq!(objects.sweep(found.clone(), before).unwrap(), found);
        assert_eq!(objects.unneeded(&marks, before).unwrap(), Unneeded::default());
        assert!(
            made[..2]
                .iter()
                .all(|one| objects.has(one.sha256.as_ref().unwrap()))
        );
        assert!(objects.temp.names().unwrap().is_empty());
    }

    #[test]
    fn what_is_used_after_it_was_looked_at_stays() {
        let (dir, objects) = scratch();
        let artifact = taken(&dir, &objects, "bytes");
        let hash = artifact.sha256.clone().unwrap();
        keep(&objects, "key", RunId::mint(), &artifact);
        make_old(&path_of(&dir, &hash));
        make_old(&dir.path().join(".qwex/store/keys/key"));
        let before = SystemTime::now() - HOUR;
        let found = objects.unneeded(&Marks::default(), before).unwrap();
        assert_eq!((found.keys.len(), found.objects.len()), (1, 1));
        objects.renew_key("key");
        taken(&dir, &objects, "bytes");
        assert_eq!(objects.sweep(found, before).unwrap(), Unneeded::default());
        assert!(objects.has(&hash) && objects.read_key("key").is_some());
    }

    /// A driver of an older version holds nothing: its files are safe all the same.
    #[test]
    fn whoever_takes_a_file_beside_a_sweep_has_it_afterwards() {
        let (dir, objects) = scratch();
        let artifact = taken(&dir, &objects, "bytes");
        let hash = artifact.sha256.unwrap();
        let from = dir.path().join("file");
        for _ in 0..300 {
            make_old(&path_of(&dir, &hash));
            let before = SystemTime::now() - HOUR;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let found = objects.unneeded(&Marks::default(), before).unwrap();
                    objects.sweep(found, before).unwrap();
                });
                objects.take(&from).unwrap();
            });
            assert!(objects.has(&hash));
        }
    }

    #[test]
    fn one_sweeps_while_nobody_relies_on_the_store() {
        let (_dir, objects) = scratch();
        let one = objects.hold().unwrap();
        let two = objects.hold().unwrap();
        drop(one);
        assert!(objects.hold_alone().unwrap().is_none());
        drop(two);
        let alone = objects.hold_alone().unwrap();
        assert!(alone.is_some() && objects.hold_alone().unwrap().is_none());
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_strangers_stay() {
        let (dir, objects) = scratch();
        let store = dir.path().join(".qwex/store");
        for name in ["temp/1.0", "temp/gone.ab", "keys/.k.1.0.tmp", "objects/readme"] {
            std::fs::write(store.join(name), "x").unwrap();
            make_old(&store.join(name));
        }
        std::fs::create_dir(store.join("objects/zz")).unwrap();
        std::fs::write(store.join("objects/zz/readme"), "x").unwrap();
        make_old(&store.join("objects/zz/readme"));
        let before = SystemTime::now() - HOUR;
        let found = objects.unneeded(&Marks::default(), before).unwrap();
        assert_eq!((found.begun.len(), found.objects.len()), (3, 0));
        objects.sweep(found, before).unwrap();
        assert!(store.join("objects/readme").exists() && store.join("objects/zz/readme").exists());
        assert_eq!(std::fs::read_dir(store.join("temp")).unwrap().count(), 0);
    }
}
