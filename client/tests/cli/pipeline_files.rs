//! Whose files are whose: what a stage found, what it made, and who else works in the directory.

use serde_json::Value;

use crate::support::{Seen, User, seen, until};

fn with(file: &str) -> User {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    user
}

fn run(user: &User, more: &[&str]) -> Seen {
    seen(user.qwexctl(&[&["pipeline", "run"], more].concat()))
}

fn get(user: &User, word: &str) -> Value {
    let got = seen(user.qwexctl(&["pipeline", "get", word, "-o", "json"]));
    serde_json::from_str(&got.out).unwrap_or_else(|_| panic!("{}", got.err))
}

fn until_over(user: &User, word: &str) -> Value {
    until("the pipeline never ended", || {
        let pipeline = get(user, word);
        (!["pending", "running"].contains(&pipeline["status"].as_str().unwrap())).then_some(pipeline)
    })
}

fn read(user: &User, file: &str) -> String {
    std::fs::read_to_string(user.dir().join(file)).unwrap_or_default()
}

fn write(user: &User, file: &str, text: &str) {
    std::fs::write(user.dir().join(file), text).unwrap();
}

fn until_there(user: &User, file: &str) {
    until(&format!("{file} never was there"), || {
        user.dir().join(file).exists().then_some(())
    });
}

/// The paths of what a stage made.
fn made(pipeline: &Value, stage: usize) -> Vec<&str> {
    let outputs = pipeline["stages"][stage]["outputs"].as_array().unwrap();
    outputs.iter().map(|one| one["path"].as_str().unwrap()).collect()
}

#[test]
fn what_was_left_as_it_was_is_handed_on_and_not_remembered() {
    let user = with(
        "stages: [{ name: make, inputs: [src], outputs: [report], command: 'echo x >> ran; [ -e idle ] || cp src report' }]\n",
    );
    write(&user, "src", "one");
    assert_eq!(run(&user, &[]).code, 0);
    // Another input, and the command writes nothing: the report of before is not that of the new input.
    write(&user, "src", "two");
    write(&user, "idle", "");
    for runs in ["x\nx\n", "x\nx\nx\n"] {
        let ran = run(&user, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.err.contains("report was there before"), "{}", ran.err);
        assert_eq!(read(&user, "ran"), runs, "it was reused");
        assert_eq!(made(&get(&user, "@latest"), 0), ["report"]);
    }
    std::fs::remove_file(user.dir().join("idle")).unwrap();
    assert_eq!(run(&user, &[]).code, 0);
    let again = run(&user, &[]);
    assert!(again.err.contains("reused from run"), "{}", again.err);
    assert_eq!(read(&user, "report"), "two");
}

#[test]
fn stages_that_may_write_the_same_files_take_turns_and_keep_their_own() {
    let user = with(
        "stages:\n  - name: train\n    inputs: []\n    matrix: { n: [1, 2, 3] }\n    outputs: [out/**]\n\
         \x20   command: 'mkdir only-one && mkdir -p out && echo ${matrix.n} > out/${matrix.n} && sleep 0.1 && rmdir only-one'\n",
    );
    let ran = run(&user, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("the runs of train take turns"), "{}", ran.err);
    let pipeline = get(&user, "@latest");
    for (index, file) in ["out/1", "out/2", "out/3"].into_iter().enumerate() {
        assert_eq!(made(&pipeline, index), [file]);
    }
    let planned = seen(user.qwexctl(&["pipeline", "plan"]));
    assert!(planned.err.contains("take turns"), "{}", planned.err);
    assert_eq!(
        planned.out.matches("reuse from run").count(),
        3,
        "{}",
        planned.out
    );
}

#[test]
fn a_source_that_was_edited_meanwhile_is_not_what_the_result_is_remembered_by() {
    let user = with(
        "stages: [{ name: make, inputs: [src], outputs: [made], timeout: 10m,\n\
         \x20 command: 'echo x >> ran; touch begun; while [ ! -e go ]; do sleep 0.02; done; cp src made' }]\n",
    );
    write(&user, "src", "one");
    assert_eq!(run(&user, &["-d"]).code, 0);
    until_there(&user, "begun");
    write(&user, "src", "two");
    write(&user, "go", "");
    let over = until_over(&user, "@latest");
    assert_eq!(over["status"], "succeeded", "{over}");
    let reason = over["stages"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("changed before it was over"), "{over}");
    write(&user, "src", "one");
    assert_eq!(run(&user, &[]).code, 0);
    assert_eq!(
        (read(&user, "ran"), read(&user, "made")),
        ("x\nx\n".into(), "one".into())
    );
}

#[test]
fn two_pipelines_of_a_directory_do_not_work_in_it_at_once() {
    let user = with(
        "stages: [{ name: a, timeout: 10m,\n\
         \x20 command: 'mkdir only-one && touch begun && while [ ! -e go ]; do sleep 0.02; done; rmdir only-one' }]\n",
    );
    let first = run(&user, &["-d"]).out.trim().to_owned();
    until_there(&user, "begun");
    let waits = |id: &str| {
        until("it does not wait", || {
            let waiting = get(&user, id)["waiting"].as_str()?.to_owned();
            waiting.contains(&first).then_some(())
        });
    };
    let second = run(&user, &["-d"]).out.trim().to_owned();
    let third = run(&user, &["-d"]).out.trim().to_owned();
    waits(&second);
    waits(&third);
    let cancelled = seen(user.qwexctl(&["pipeline", "cancel", &third]));
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    assert_eq!(until_over(&user, &third)["status"], "cancelled");
    write(&user, "go", "");
    for id in [&first, &second] {
        assert_eq!(until_over(&user, id)["status"], "succeeded");
    }
    assert!(get(&user, &second)["waiting"].is_null());
}
