//! Sends a workspace: the host keeps a copy per project with a manifest of it, and gets only what differs;
//! each run works on its own copy of that copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use qwex_runner::workspace::{Entry, Kind, Listing, Packer, list};
use qwex_runner::{RunnerError, Workspace};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_util::io::SyncIoBridge;

use crate::serve::Served;
use crate::words::encode;
use crate::{error, scripts};

/// Somebody else may send the same project at the same time.
const TRIES: usize = 5;
/// A file written this recently may be written again within the same tick of its clock.
const FRESH_NS: i128 = 2_000_000_000;

/// What the copy on the host holds, by encoded path.
type Manifest = BTreeMap<String, Item>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Dir,
    /// Encoded.
    Link(String),
    File {
        size: u64,
        /// 0: only the sum tells whether it is the same.
        modified_ns: i128,
        executable: bool,
        sha256: String,
    },
}

/// Brings the workspace's files into the staged directory `stage` on the host.
pub async fn send(served: &Served, stage: &str, workspace: &Workspace) -> Result<(), RunnerError> {
    let config = served.config();
    let key = key(workspace);
    for _ in 0..TRIES {
        let replies = served.ask(&[format!("manifest {key}")]).await?;
        let reply = replies.into_iter().next().unwrap_or_default();
        let known: Option<Manifest> = serde_json::from_slice(&reply.data).ok();
        let (generation, known) = match (reply.find("generation"), known) {
            (Some(generation), Some(known)) => (generation.to_owned(), known),
            // Without a manifest that can be read everything is new.
            (Some(_), None) | (None, _) => ("-".to_owned(), Manifest::new()),
        };
        let [root, cache] = config.places();
        let line = scripts::receive(&[&root, &cache, &key, &generation, stage]);
        let mut pipe = served.link.start(Instant::now(), &line, "").await?;
        let stdin = pipe.stdin.take();
        let files = workspace.clone();
        let handle = tokio::runtime::Handle::current();
        let packed = tokio::task::spawn_blocking(move || {
            let plan = Plan::new(&files, &known)?;
            let Some(mut stdin) = stdin else {
                return Err(Trouble::Line(io::ErrorKind::BrokenPipe.into()));
            };
            let bridge = SyncIoBridge::new_with_handle(&mut stdin, handle);
            plan.write(&files.dir, io::BufWriter::with_capacity(256 * 1024, bridge))
        });
        let packed = packed.await.map_err(|error| RunnerError::Failed {
            message: format!("the worker thread ended early: {error}"),
        })?;
        if let Err(Trouble::Here(error)) = packed {
            return Err(RunnerError::Rejected {
                message: format!("cannot send {}: {error}", workspace.dir.display()),
            });
        }
        let mut said = String::new();
        let read = pipe.stdout.read_to_string(&mut said).await;
        read.map_err(|error| error::broken(config, &error))?;
        match (said.trim(), packed) {
            ("received", Ok(())) => return pipe.end(config).await,
            ("stale", _) => {}
            ("", Err(Trouble::Line(error))) => return Err(error::broken(config, &error)),
            ("", _) => {
                return pipe
                    .end(config)
                    .await
                    .and(Err(error::refused(config, "it took no files")));
            }
            (said, _) => return Err(error::refused(config, said.trim_start_matches("err "))),
        }
    }
    Err(error::refused(
        config,
        "others send the same project all the time; try again later",
    ))
}

/// Names the copy of a project: this machine, user and directory.
fn key(workspace: &Workspace) -> String {
    let mut hash = Sha256::new();
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let node = nix::unistd::gethostname().unwrap_or_default();
    for part in [
        machine.as_slice(),
        node.as_bytes(),
        nix::unistd::geteuid().to_string().as_bytes(),
        workspace.dir.as_os_str().as_bytes(),
    ] {
        hash.update(part);
        hash.update([0]);
    }
    hex::encode(hash.finalize())[..32].to_owned()
}

/// Whose fault it is.
enum Trouble {
    Here(io::Error),
    Line(io::Error),
}

/// What has to be sent and removed, and the manifest afterwards.
struct Plan {
    manifest: Manifest,
    changed: Vec<Entry>,
    removed: Vec<u8>,
}

impl Plan {
    fn new(workspace: &Workspace, known: &Manifest) -> Result<Self, Trouble> {
        let listing = list(&workspace.dir, &workspace.send).map_err(Trouble::Here)?;
        for skipped in &listing.skipped {
            tracing::warn!(path = %skipped.path.display(), why = skipped.why, "not sent");
        }
        Self::of(&workspace.dir, listing, known).map_err(Trouble::Here)
    }

    fn of(dir: &Path, listing: Listing, known: &Manifest) -> io::Result<Self> {
        let now = jiff::Timestamp::now().as_nanosecond();
        let mut plan = Self {
            manifest: Manifest::new(),
            changed: Vec::new(),
            removed: Vec::new(),
        };
        for entry in listing.entries {
            let path = encode(entry.path.as_os_str().as_bytes());
            let before = known.get(&path);
            let item = item(dir, &entry, before, now)?;
            if !before.is_some_and(|before| same(before, &item)) {
                if before.is_some() && item != Item::Dir {
                    plan.remove(&entry.path);
                }
                plan.changed.push(entry);
            }
            plan.manifest.insert(path, item);
        }
        for path in known.keys().filter(|path| !plan.manifest.contains_key(*path)) {
            let decoded = decode(path);
            plan.removed.extend_from_slice(b"./");
            plan.removed.extend_from_slice(&decoded);
            plan.removed.push(0);
        }
        // What was a file or link and is a directory now has to go first.
        for (path, item) in &plan.manifest {
            if *item == Item::Dir && known.get(path).is_some_and(|before| *before != Item::Dir) {
                plan.removed.extend_from_slice(b"./");
                plan.removed.extend_from_slice(&decode(path));
                plan.removed.push(0);
            }
        }
        Ok(plan)
    }

    fn remove(&mut self, path: &Path) {
        self.removed.extend_from_slice(b"./");
        self.removed.extend_from_slice(path.as_os_str().as_bytes());
        self.removed.push(0);
    }

    /// A tar with the plan and the files; its last member says that it is whole.
    fn write(&self, dir: &Path, out: impl Write) -> Result<(), Trouble> {
        let manifest = serde_json::to_vec(&self.manifest).map_err(|error| Trouble::Here(error.into()))?;
        let mut tar = Packer::new(out);
        let whole = tar
            .bytes(Path::new("meta/manifest"), &manifest)
            .and_then(|()| tar.bytes(Path::new("meta/delete"), &self.removed));
        whole.map_err(Trouble::Line)?;
        for entry in &self.changed {
            // The line breaks with a broken pipe or worse; what cannot be read here has its own kinds.
            tar.entry(dir, entry, Path::new("tree"))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Trouble::Line(error),
                    _ => Trouble::Here(error),
                })?;
        }
        tar.bytes(Path::new("meta/end"), b"").map_err(Trouble::Line)?;
        tar.finish().map(drop).map_err(Trouble::Line)
    }
}

/// Whether the host has it already.
fn same(before: &Item, now: &Item) -> bool {
    match (before, now) {
        (
            Item::File {
                executable,
                sha256,
                size,
                ..
            },
            Item::File {
                executable: executable_now,
                sha256: sha256_now,
                size: size_now,
                ..
            },
        ) => executable == executable_now && sha256 == sha256_now && size == size_now,
        (Item::Dir | Item::Link(_) | Item::File { .. }, _) => before == now,
    }
}

fn item(dir: &Path, entry: &Entry, before: Option<&Item>, now: i128) -> io::Result<Item> {
    match &entry.kind {
        Kind::Dir => Ok(Item::Dir),
        Kind::Symlink { target } => Ok(Item::Link(encode(target.as_os_str().as_bytes()))),
        Kind::File {
            size,
            modified_ns,
            executable,
        } => {
            let unchanged = match before {
                Some(Item::File {
                    size: size_then,
                    modified_ns: then,
                    sha256,
                    ..
                }) if size_then == size && then == modified_ns => Some(sha256.clone()),
                Some(Item::Dir | Item::Link(_) | Item::File { .. }) | None => None,
            };
            let sha256 = match unchanged {
                Some(known) => known,
                None => sum(&dir.join(&entry.path))
                    .map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", entry.path)))?,
            };
            let fresh = now - modified_ns < FRESH_NS;
            Ok(Item::File {
                size: *size,
                modified_ns: if fresh { 0 } else { *modified_ns },
                executable: *executable,
                sha256,
            })
        }
    }
}

fn sum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 256 * 1024];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

/// Undoes [`encode`].
fn decode(word: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(1..4).filter(|_| *first == b'\\');
        let byte = octal.and_then(|octal| u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[4..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for name in [b"a b".as_slice(), b"\xff\n\\0101'", b"plain/path.txt", b"\\"] {
            assert_eq!(decode(&encode(name)), name);
        }
    }

    #[test]
    fn only_what_differs_goes_over() {
        let temp = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| std::fs::write(temp.path().join(path), text).unwrap();
        let plan = |known: &Manifest| {
            let listing = qwex_runner::workspace::list_everything(temp.path()).unwrap();
            Plan::of(temp.path(), listing, known).unwrap()
        };
        write("same", "1");
        write("changes", "1");
        write("goes", "1");
        write("becomes", "1");
        let first = plan(&Manifest::new());
        assert_eq!((first.changed.len(), first.removed.len()), (4, 0));
        write("changes", "2");
        std::fs::remove_file(temp.path().join("goes")).unwrap();
        std::fs::remove_file(temp.path().join("becomes")).unwrap();
        std::fs::create_dir(temp.path().join("becomes")).unwrap();
        let second = plan(&first.manifest);
        let changed: Vec<_> = second
            .changed
            .iter()
            .map(|entry| entry.path.display().to_string())
            .collect();
        assert_eq!(changed, ["becomes", "changes"]);
        assert_eq!(second.removed, b"./changes\0./goes\0./becomes\0");
        assert!(plan(&second.manifest).changed.is_empty());
    }
}
