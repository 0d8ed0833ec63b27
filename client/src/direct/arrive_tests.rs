//! Outputs on their last step, among files of whoever works there.

use qwex_core::{JobSpec, Run, RunId};
use qwex_runner::Store;
use serde_json::json;

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    journal: Journal,
}

/// A workspace with files, then a run that was submitted in it.
fn bench(files: &[(&str, &str)]) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(&dir.path().join(path), text);
    }
    let run: Run = serde_json::from_value(json!({
        "id": RunId::mint(), "project": "default", "spec": JobSpec::for_command(["true"]), "status": "pending",
        "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
    }))
    .unwrap();
    let journal = Store::open(dir.path()).unwrap().create(&run).unwrap();
    let bench = Bench { dir, journal };
    bench.submit();
    bench
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

impl Bench {
    /// After everything that was written before, by the clock of the files, whose ticks are coarse.
    fn submit(&self) {
        let probe = self.journal.path_of("probe");
        let stamp = |path: &Path| {
            fs::write(path, "").unwrap();
            changed(&fs::metadata(path).unwrap())
        };
        let before = stamp(&probe);
        while stamp(&probe) == before {}
        placed::Placed::default().write(&self.journal).unwrap();
        let submitted = submitted(&self.journal).unwrap();
        while stamp(&probe) <= submitted {}
    }

    fn arrive(&self, files: &[(&str, &str)]) -> Vec<PathBuf> {
        let dir = ready(&self.journal).unwrap();
        for (path, text) in files {
            write(&dir.join(path), text);
        }
        files.iter().map(|(path, _)| PathBuf::from(path)).collect()
    }

    fn put(&self, paths: &[PathBuf], force: bool) -> io::Result<Put> {
        put(&self.journal, self.dir.path(), paths, force)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[test]
fn what_was_there_when_the_run_was_submitted_is_replaced() {
    let bench = bench(&[("dist/a", "old")]);
    let came = bench.arrive(&[("dist/a", "new"), ("dist/deep/b", "too")]);
    note(&bench.journal, &came).unwrap();
    assert_eq!(noted(&bench.journal).unwrap(), Some(came.clone()));
    let put = bench.put(&came, false).unwrap();
    assert_eq!((put.here, put.held), (came, vec![]));
    assert_eq!(
        (bench.text("dist/a"), bench.text("dist/deep/b")),
        ("new".to_owned(), "too".to_owned())
    );
    assert!(!bench.journal.path_of(ARRIVED).exists());
}

#[test]
fn a_file_that_was_changed_after_the_submit_is_left_and_given_by_force_only() {
    let bench = bench(&[("dist/a", "old"), ("dist/b", "old")]);
    write(&bench.dir.path().join("dist/a"), "mine");
    // Nor by its time of writing, which a tool may set back.
    let file = File::options()
        .write(true)
        .open(bench.dir.path().join("dist/a"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    write(&bench.dir.path().join("made"), "mine");
    let came = bench.arrive(&[("dist/a", "theirs"), ("dist/b", "theirs"), ("made", "theirs")]);
    let put = bench.put(&came, false).unwrap();
    assert_eq!(
        put,
        Put {
            here: paths(&["dist/b"]),
            held: paths(&["dist/a", "made"])
        }
    );
    assert_eq!(
        (bench.text("dist/a"), bench.text("made")),
        ("mine".to_owned(), "mine".to_owned())
    );
    assert_eq!(
        fs::read(bench.journal.path_of(ARRIVED).join("made")).unwrap(),
        b"theirs"
    );
    // Its owner moved one of them away.
    fs::rename(bench.dir.path().join("made"), bench.dir.path().join("kept")).unwrap();
    let put = bench.put(&put.held, false).unwrap();
    assert_eq!(
        put,
        Put {
            here: paths(&["made"]),
            held: paths(&["dist/a"])
        }
    );
    let put = bench.put(&put.held, true).unwrap();
    assert_eq!((put.held.len(), bench.text("dist/a")), (0, "theirs".to_owned()));
    assert_eq!(
        (bench.text("made"), bench.text("kept")),
        ("theirs".to_owned(), "mine".to_owned())
    );
    assert!(!bench.journal.path_of(ARRIVED).exists());
}

/// Files have names that no text has.
#[test]
fn a_name_that_is_no_text_is_held_and_given_like_any_other() {
    let bench = bench(&[]);
    let name = Path::new(OsStr::from_bytes(b"a\xff"));
    write(&bench.dir.path().join(name), "mine");
    write(&ready(&bench.journal).unwrap().join(name), "theirs");
    note(&bench.journal, &[name.to_owned()]).unwrap();
    let known = noted(&bench.journal).unwrap().unwrap();
    let put = bench.put(&known, false).unwrap();
    assert_eq!(put.held, known);
    let held: super::super::outputs::Outputs =
        serde_json::from_value(json!({"collected": [], "held": ["a\u{fffd}"]})).unwrap();
    let given = held.put_held(&bench.journal, bench.dir.path(), true).unwrap();
    assert_eq!(
        (given.held.len(), fs::read(bench.dir.path().join(name)).unwrap()),
        (0, b"theirs".to_vec())
    );
}

#[test]
fn what_is_the_same_is_in_nobodys_way_and_what_was_put_before_is_put() {
    let bench = bench(&[]);
    write(&bench.dir.path().join("a"), "same");
    symlink("a", bench.dir.path().join("link")).unwrap();
    let mut came = bench.arrive(&[("a", "same")]);
    symlink("a", bench.journal.path_of(ARRIVED).join("link")).unwrap();
    came.extend(paths(&["link", "gone/before"]));
    let put = bench.put(&came, false).unwrap();
    assert_eq!((put.here, put.held), (came, vec![]));
}

#[test]
fn what_lies_in_the_way_is_told_and_never_followed() {
    let bench = bench(&[("file", "mine"), ("dir/x", "mine")]);
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), bench.dir.path().join("link")).unwrap();
    for (path, kind) in [
        ("file/a", io::ErrorKind::NotADirectory),
        ("dir", io::ErrorKind::IsADirectory),
        ("link/a", io::ErrorKind::InvalidData),
    ] {
        let dir = ready(&bench.journal).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let came = bench.arrive(&[(path, "theirs")]);
        for force in [false, true] {
            let error = bench.put(&came, force).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("in the workspace"), "{error}");
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    for escape in ["../a", "/etc/a", ".git/config", "a/.qwex/x"] {
        assert!(bench.put(&paths(&[escape]), true).is_err(), "{escape}");
    }
}
