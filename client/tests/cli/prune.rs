//! `prune` and `pipeline rm`: what goes, what stays, and who is beside them or killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use qwex_testbed::require::skip_for;
use serde_json::Value;

use crate::support::{BINARY, Seen, User, seen, until};

const DAYS: Duration = Duration::from_secs(2 * 24 * 3600);

/// Makes `out` of `src`, and says that it ran.
const MAKES: &str =
    "stages:\n  - { name: make, inputs: [src], outputs: [out], command: 'echo ran >> made; cp src out' }\n";

fn with(file: &str) -> User {
    let user = User::new();
    fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    user
}

fn good(user: &User, words: &[&str]) -> Seen {
    let done = seen(user.qwexctl(words));
    assert_eq!(done.code, 0, "{words:?}: {}", done.err);
    done
}

/// Runs the pipeline with these bytes; gives its id.
fn make(user: &User, src: &str) -> String {
    fs::write(user.dir().join("src"), src).unwrap();
    good(user, &["pipeline", "run", "-q"]).out.trim().to_owned()
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path())),
            false => drop(all.insert(entry.path())),
        }
    }
    all
}

fn make_old(path: &Path) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - DAYS).unwrap();
}

fn qwex(user: &User, below: &str) -> PathBuf {
    user.dir().join(".qwex").join(below)
}

/// Everything stored was written days ago.
fn time_passes(user: &User) {
    for place in ["store/objects", "store/keys"] {
        files(&qwex(user, place)).iter().for_each(|file| make_old(file));
    }
}

fn stored(user: &User) -> (usize, usize) {
    let count = |place| files(&qwex(user, place)).len();
    (count("store/keys"), count("store/objects"))
}

/// How many of each kind a plan names, and the bytes of all.
fn plan(user: &User, words: &[&str]) -> (BTreeMap<String, usize>, u64) {
    let told = good(user, &[&["prune", "-o", "json"], words].concat());
    let told: Value = serde_json::from_str(&told.out).unwrap();
    let mut kinds = BTreeMap::new();
    let mut bytes = 0;
    for item in told["items"].as_array().unwrap() {
        assert!(item["id"].is_string(), "{item}");
        *kinds
            .entry(item["kind"].as_str().unwrap().to_owned())
            .or_default() += 1;
        bytes += item["bytes"].as_u64().unwrap();
    }
    (kinds, bytes)
}

fn kinds<const N: usize>(all: [(&str, usize); N]) -> BTreeMap<String, usize> {
    all.map(|(kind, count)| (kind.to_owned(), count)).into()
}

fn ran(user: &User) -> usize {
    let made = fs::read_to_string(user.dir().join("made")).unwrap();
    made.lines().count()
}

#[test]
fn the_plan_is_shown_then_done_and_what_is_named_stays() {
    let user = with(MAKES);
    let first = make(&user, "one");
    let second = make(&user, "two");
    time_passes(&user);
    let left = [
        "store/temp/9.0".to_owned(),
        "runs/.gone-0199".to_owned(),
        ".run.json.9.0.tmp".to_owned(),
        format!("pipelines/{second}/.pipeline.json.9.0.tmp"),
        "incoming/0199.9.0".to_owned(),
    ]
    .map(|name| qwex(&user, &name));
    fs::create_dir_all(qwex(&user, "incoming")).unwrap();
    for path in &left {
        fs::write(path, "left").unwrap();
        make_old(path);
    }
    // Whoever lists the runs makes their index.
    good(&user, &["ps"]);
    let before = files(&qwex(&user, ""));
    let (planned, bytes) = plan(&user, &["--keep-last", "1"]);
    let wanted = kinds([
        ("cache_key", 1),
        ("left_file", 5),
        ("object", 1),
        ("pipeline", 1),
        ("run", 1),
    ]);
    assert_eq!(planned, wanted);
    assert!(bytes > 1000, "{bytes}");
    let shown = good(&user, &["prune", "--keep-last", "1"]);
    assert!(
        shown.out.contains(&first) && shown.out.contains("1 of them"),
        "{}",
        shown.out
    );
    assert!(
        shown.err.contains("1 run, 1 pipeline, 1 cached result"),
        "{}",
        shown.err
    );
    assert!(shown.err.contains("--yes"), "{}", shown.err);
    assert_eq!(files(&qwex(&user, "")), before, "a plan removes nothing");

    let done = good(&user, &["prune", "--keep-last", "1", "--yes"]);
    assert!(done.err.contains("removed: 1 run, 1 pipeline"), "{}", done.err);
    assert_eq!(stored(&user), (1, 1));
    assert!(left.iter().all(|path| !path.exists()));
    let listed = good(&user, &["pipeline", "ls", "-q"]);
    assert_eq!(listed.out.trim(), second);
    assert_eq!(good(&user, &["ps", "-q"]).out.lines().count(), 1);
    let again = good(&user, &["prune", "--keep-last", "1", "--yes"]);
    assert!(again.err.contains("nothing is old enough"), "{}", again.err);

    // What was kept is reused, what is gone is made again.
    fs::remove_file(user.dir().join("out")).unwrap();
    assert_eq!(ran(&user), 2);
    make(&user, "two");
    assert_eq!(fs::read_to_string(user.dir().join("out")).unwrap(), "two");
    assert_eq!(ran(&user), 2);
    make(&user, "one");
    assert_eq!(ran(&user), 3);
}

#[test]
fn what_was_written_or_used_in_the_last_day_stays() {
    let user = with(MAKES);
    make(&user, "one");
    let (planned, _) = plan(&user, &["--keep-last", "0", "--yes"]);
    assert_eq!(planned, kinds([("pipeline", 1), ("run", 1)]));
    assert_eq!(stored(&user), (1, 1));
    // Old, and then used once more by a pipeline that nobody remembers: the cached result and its file are young again.
    time_passes(&user);
    make(&user, "one");
    assert_eq!(ran(&user), 1, "it was reused");
    good(&user, &["pipeline", "rm", "@latest"]);
    let (planned, _) = plan(&user, &["--keep-last", "0", "--yes"]);
    assert_eq!(planned, kinds([]));
    assert_eq!(stored(&user), (1, 1));
    // The same by a stage that made the same bytes again.
    time_passes(&user);
    good(&user, &["pipeline", "run", "--no-cache"]);
    fs::remove_file(qwex(&user, "store/keys").join(key(&user))).unwrap();
    let (planned, _) = plan(&user, &["--keep-last", "0", "--yes"]);
    assert_eq!(planned, kinds([("pipeline", 1), ("run", 1)]));
    assert_eq!(stored(&user), (0, 1));
    time_passes(&user);
    assert_eq!(
        plan(&user, &["--keep-last", "0", "--yes"]).0,
        kinds([("object", 1)])
    );
    assert_eq!(stored(&user), (0, 0));
}

fn key(user: &User) -> String {
    let keys = files(&qwex(user, "store/keys"));
    let name = keys.first().unwrap().file_name().unwrap();
    name.to_str().unwrap().to_owned()
}

#[test]
fn a_cached_result_whose_file_is_gone_is_none() {
    let user = with(MAKES);
    make(&user, "one");
    fs::remove_dir_all(qwex(&user, "store/objects")).unwrap();
    fs::remove_file(user.dir().join("out")).unwrap();
    make(&user, "one");
    assert_eq!(ran(&user), 2);
    assert_eq!(fs::read_to_string(user.dir().join("out")).unwrap(), "one");
}

#[test]
fn beside_a_pipeline_under_way_no_stored_file_goes() {
    let user = with(MAKES);
    make(&user, "one");
    good(&user, &["prune", "--keep-last", "0", "--yes"]);
    time_passes(&user);
    fs::write(
        user.dir().join("qwex.yaml"),
        "stages: [{ name: slow, command: 'touch begun; until [ -e go ]; do sleep 0.02; done', timeout: 10m }]\n",
    )
    .unwrap();
    let slow = good(&user, &["pipeline", "run", "-d"]).out.trim().to_owned();
    until("it never began", || {
        user.dir().join("begun").exists().then_some(())
    });
    for more in [&[][..], &["--yes"]] {
        let told = good(&user, &[&["prune", "--keep-last", "0"], more].concat());
        assert!(
            told.err.contains(&format!("pipeline {slow} is under way here")),
            "{}",
            told.err
        );
        assert_eq!(stored(&user), (1, 1));
    }
    let refused = seen(user.qwexctl(&["pipeline", "rm", &slow]));
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(refused.err.contains("pipeline cancel"), "{}", refused.err);
    fs::write(user.dir().join("go"), "").unwrap();
    // Its driver lets go of the store when it ends.
    until("it is never swept", || {
        good(&user, &["prune", "--keep-last", "0", "--yes"]);
        (stored(&user) == (0, 0)).then_some(())
    });
}

#[test]
fn the_runs_of_a_pipeline_that_stays_stay_with_it() {
    let user = with("stages: [{ name: a, matrix: { n: [1, 2, 3] }, command: 'true' }]\n");
    good(&user, &["pipeline", "run"]);
    for _ in 0..2 {
        good(&user, &["run", "--", "true"]);
    }
    assert_eq!(plan(&user, &["--keep-last", "1", "--yes"]).0, kinds([("run", 1)]));
    assert_eq!(good(&user, &["ps", "-q"]).out.lines().count(), 4);
    assert!(good(&user, &["pipeline", "logs"]).err.is_empty());
}

#[test]
fn a_pipeline_is_removed_by_its_name_and_its_runs_stay() {
    let user = with(MAKES);
    let none = seen(user.qwexctl(&["pipeline", "rm", "@latest"]));
    assert_eq!(none.code, 3, "{}", none.err);
    let (one, two) = (make(&user, "one"), make(&user, "two"));
    let unknown = seen(user.qwexctl(&["pipeline", "rm", &one, "0000-nothing"]));
    assert_eq!(unknown.code, 3, "{}", unknown.err);
    assert_eq!(good(&user, &["pipeline", "ls", "-q"]).out.lines().count(), 2);
    good(&user, &["pipeline", "rm", &one]);
    assert_eq!(good(&user, &["pipeline", "ls", "-q"]).out.trim(), two);
    assert_eq!(good(&user, &["ps", "-q"]).out.lines().count(), 2);
    assert_eq!(
        files(&qwex(&user, "pipelines")).len(),
        files(&qwex(&user, "pipelines").join(&two)).len()
    );

    // One that cannot be read keeps every stored file, and can be removed.
    fs::write(qwex(&user, "pipelines").join(&two).join("pipeline.json"), "{").unwrap();
    time_passes(&user);
    let told = good(&user, &["prune", "--keep-last", "0", "--yes"]);
    assert!(told.err.contains(&format!("pipeline rm {two}")), "{}", told.err);
    assert!(told.err.contains("nobody knows which"), "{}", told.err);
    assert_eq!(stored(&user), (2, 2));
    good(&user, &["pipeline", "rm", &two]);
    good(&user, &["prune", "--keep-last", "0", "--yes"]);
    assert_eq!(stored(&user), (0, 0));
}

/// Whether every cached result has all its files, and every record can be read.
fn is_sound(user: &User, at: usize) {
    for key in files(&qwex(user, "store/keys")) {
        let entry: Value = serde_json::from_slice(&fs::read(key).unwrap()).unwrap();
        for output in entry["outputs"].as_array().unwrap() {
            let (head, tail) = output["sha256"].as_str().unwrap().split_at(2);
            let file = qwex(user, "store/objects").join(head).join(tail);
            assert!(file.exists(), "killed at {at}: a cached result without its file");
        }
    }
    for words in [&["pipeline", "ls", "-q"][..], &["ps", "-q"]] {
        let listed = good(user, words).out;
        for id in listed.lines() {
            good(user, &[&words[..words.len() - 2], &["get", id]].concat());
        }
        let place = if words[0] == "ps" { "runs" } else { "pipelines" };
        let there = fs::read_dir(qwex(user, place)).unwrap().flatten();
        let there = there.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        assert_eq!(
            there.count(),
            listed.lines().count(),
            "killed at {at}: half of something is left"
        );
    }
}

fn copied(template: &User) -> User {
    let user = User::new();
    let from = format!("{}/.", template.dir().display());
    let done = Command::new("cp").args(["-a", &from]).arg(user.dir()).status();
    assert!(done.unwrap().success());
    user
}

#[test]
fn g07_killed_at_any_call_nothing_is_half_gone() {
    let tried = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let may_trace = tried.is_ok_and(|status| status.success());
    if skip_for((!may_trace).then(|| "strace is missing or may not trace".to_owned())) {
        return;
    }
    let template = with(MAKES);
    make(&template, "one");
    make(&template, "two");
    time_passes(&template);
    let mut killed = 0;
    for nth in 1.. {
        let user = copied(&template);
        let inject = format!("inject=renameat,unlinkat:signal=KILL:when={nth}");
        let status = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &inject, BINARY])
            .args(["prune", "--keep-last", "0", "--yes"])
            .env("HOME", user.dir())
            .current_dir(user.dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        is_sound(&user, nth);
        if status.success() {
            break;
        }
        killed += 1;
        assert!(killed < 200, "it never succeeds");
        time_passes(&user);
        good(&user, &["prune", "--keep-last", "0", "--yes"]);
        // What stood aside when it was killed is somebody's for a day.
        files(&qwex(&user, "store/temp"))
            .iter()
            .for_each(|file| make_old(file));
        good(&user, &["prune", "--keep-last", "0", "--yes"]);
        for place in ["store/keys", "store/objects", "store/temp", "runs", "pipelines"] {
            assert_eq!(files(&qwex(&user, place)), BTreeSet::new(), "killed at {nth}");
        }
        if nth % 5 == 0 {
            make(&user, "one");
            assert_eq!(ran(&user), 3, "killed at {nth}");
        }
    }
    assert!(killed >= 12, "only {killed} calls were its last");
}
