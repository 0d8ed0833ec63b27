//! qwex.yaml: what is wrong with one is told with its place; `init`, `validate`, `schema`.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{User, seen};

/// What `validate` says about a file.
fn told(text: &str) -> String {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), text).unwrap();
    let seen = seen(user.qwexctl(&["validate"]));
    format!(
        "{}\n---\nexit code {}\n{}{}",
        text.trim_end(),
        seen.code,
        seen.out,
        seen.err
    )
}

#[test]
fn a_good_file_is_counted() {
    assert_snapshot!(told(
        "name: demo\nbackend: docker          # default backend of this project\nimage: python:3.12-slim\n\
         env: { LOG_LEVEL: info, PORT: 8080, DEBUG: true }\nstages:\n  - name: test\n    backend: local\n    command: pytest\n\
         \x20 - name: train\n    backend: kueue\n    queue: gpu-queue\n    image: pytorch/pytorch:latest\n    needs: [test]\n\
         \x20   resources: { cpu: 4, memory: 16Gi, gpu: 1 }\n    command: python train.py --lr ${matrix.lr}\n\
         \x20   matrix: { lr: [0.1, 0.01] }\n    retry: { limit: 2, on: [oom, evicted], backoff: { initial: 5s, factor: 3, max: 1m } }\n"
    ));
}

#[test]
fn unknown_fields_are_told_with_the_one_meant() {
    assert_snapshot!(told("name: demo\nimagee: python\n"));
    assert_snapshot!(told("stages:\n  - name: a\n    comand: echo hi\n"));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: echo hi\n    retry: { limits: 3 }\n"
    ));
    assert_snapshot!(told("server: http://evil.example\n"));
}

#[test]
fn values_of_another_kind_are_told() {
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: true\n    timeout: soon\n"
    ));
    assert_snapshot!(told("stages:\n  - name: a\n    command: { run: x }\n"));
    assert_snapshot!(told("stages:\n  - name: a\n    command: []\n"));
    assert_snapshot!(told("stages:\n  - name: a\n"));
    assert_snapshot!(told("stages:\n  - name: a\n    needs: test\n    command: x\n"));
    assert_snapshot!(told("name: [\n"));
    assert_snapshot!(told("name: a\nname: b\n"));
    assert_snapshot!(told("queue: Not_A_Queue\n"));
}

#[test]
fn needs_that_cannot_be_met_are_told() {
    assert_snapshot!(told(
        "stages:\n  - name: build\n    command: make\n  - name: test\n    needs: [biuld]\n    command: make test\n\
         \x20 - name: self\n    needs: [self]\n    command: x\n  - name: twice\n    needs: [build, build]\n    command: x\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    needs: [c]\n    command: x\n  - name: b\n    needs: [a]\n    command: x\n\
         \x20 - name: c\n    needs: [b]\n    command: x\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - { name: a, command: x }\n  - { name: a, command: y }\n"
    ));
}

#[test]
fn backends_and_what_they_take_are_told() {
    assert_snapshot!(told(
        "backend: dokcer\nstages:\n  - { name: a, command: x, backend: kubernetes }\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - { name: a, command: x, backend: docker }\n  - { name: b, command: x, image: python }\n\
         \x20 - { name: c, command: x, queue: q }\n  - { name: d, command: x, image: i, backend: kueue }\n"
    ));
}

#[test]
fn expressions_matrices_and_names_are_told() {
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: x\n    if: ${env.X} = 'y'\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: x\n    if: sucess() && ${env.X}\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: echo ${matrix.lr} ${HOME}\n    matrix: { lrr: [1] }\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: echo ${env.NOT_SET_ANYWHERE} ${var.x}\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: x\n    matrix: { a: [1], exclude: [{ b: 1 }] }\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: x\n    outputs: [/etc/passwd, ../x, 'a[']\n    retry: { on: [ooom, lost] }\n"
    ));
    assert_snapshot!(told(
        "stages:\n  - { name: a, command: x, matrix: { v: [1, 2] } }\n  - { name: b, command: x, needs: ['a[v=3]'] }\n"
    ));
}

#[test]
fn problems_are_data_too() {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), "name: demo\nstages:\n  - nam: ü\n").unwrap();
    let seen = seen(user.qwexctl(&["validate", "-o", "json"]));
    let verdict: Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!((seen.code, &verdict["valid"]), (2, &Value::Bool(false)));
    assert_eq!(
        (&verdict["problems"][0]["line"], &verdict["problems"][0]["column"]),
        (&3.into(), &5.into())
    );
    assert_eq!(verdict["problems"][0]["label"], "did you mean `name`?");
}

#[test]
fn variables_come_from_flags_files_and_the_environment() {
    let user = User::new();
    let file = "vars: { lr: 1 }\nstages:\n  - { name: a, command: 'x ${var.lr} ${var.seed} ${env.A}' }\n";
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    std::fs::write(user.dir().join("vars.env"), "A=1\n").unwrap();
    assert_eq!(seen(user.qwexctl(&["validate"])).code, 2);
    let full = ["validate", "--set", "seed=2", "--env-file", "vars.env"];
    assert_eq!(seen(user.qwexctl(&full)).code, 0);
    let slip = seen(user.qwexctl(&[
        "validate",
        "--set",
        "seed=2",
        "--env-file",
        "vars.env",
        "--set",
        "lrr=2",
    ]));
    assert!(
        slip.code == 2 && slip.err.contains("did you mean `lr`?"),
        "{}",
        slip.err
    );
}

#[test]
fn a_file_with_bad_stages_stops_no_other_command() {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), "stages:\n  - nam: a\n").unwrap();
    assert_eq!(seen(user.qwexctl(&["run", "--", "true"])).code, 0);
}

#[test]
fn init_writes_what_validate_takes_and_never_overwrites() {
    let user = User::new();
    for (file, text) in [
        ("Cargo.toml", "[package]\n"),
        ("pyproject.toml", ""),
        ("uv.lock", ""),
        ("package.json", "{\"scripts\": {\"test\": \"x\"}}"),
        ("Dockerfile", "FROM scratch\n"),
    ] {
        std::fs::write(user.dir().join(file), text).unwrap();
    }
    let written = seen(user.qwexctl(&["init"]));
    assert_eq!(written.code, 0, "{}", written.err);
    let text = std::fs::read_to_string(user.dir().join("qwex.yaml")).unwrap();
    assert_snapshot!(
        text.lines()
            .filter(|line| !line.starts_with("name:"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let valid = seen(user.qwexctl(&["validate"]));
    assert_eq!(
        (valid.code, valid.out.as_str()),
        (0, "qwex.yaml can be used: 6 stages\n"),
        "{}",
        valid.err
    );
    std::fs::write(user.dir().join("qwex.yaml"), "name: mine\n").unwrap();
    assert_eq!(seen(user.qwexctl(&["init"])).code, 6);
    assert_eq!(
        std::fs::read_to_string(user.dir().join("qwex.yaml")).unwrap(),
        "name: mine\n"
    );
    assert_eq!(seen(user.qwexctl(&["init", "--force"])).code, 0);
}

#[test]
fn init_finds_each_kind_of_project() {
    for (file, text, stage) in [
        ("Cargo.toml", "", "cargo test"),
        ("requirements.txt", "", "pip install"),
        ("pyproject.toml", "", "python -m pytest"),
        ("package.json", "{}", "npm install"),
        ("Makefile", "test:\n\ttrue\n", "make test"),
        ("nothing.txt", "", "hello"),
    ] {
        let user = User::new();
        std::fs::write(user.dir().join(file), text).unwrap();
        let shown = seen(user.qwexctl(&["init", "--stdout"]));
        assert!(shown.out.contains(stage), "{file}: {}", shown.out);
        assert!(!user.dir().join("qwex.yaml").exists());
        assert_eq!(seen(user.qwexctl(&["init"])).code, 0);
        assert_eq!(seen(user.qwexctl(&["validate"])).code, 0, "{file}");
    }
}

#[test]
fn the_committed_schema_is_the_one_that_is_printed() {
    let printed = seen(User::new().qwexctl(&["schema"]));
    assert_eq!(printed.code, 0, "{}", printed.err);
    let committed = include_str!("../../../docs/qwex.yaml.schema.json");
    assert!(
        printed.out == committed,
        "write it anew: qwexctl schema > docs/qwex.yaml.schema.json"
    );
}

/// The stages of `help spec`, as a file.
#[test]
fn the_example_of_the_help_can_be_used() {
    let user = User::new();
    let help = seen(user.qwexctl(&["help", "spec"])).out;
    let (_, from) = help.split_once("  stages:\n").unwrap();
    let (stages, _) = from.split_once("\n\n").unwrap();
    std::fs::write(user.dir().join("qwex.yaml"), format!("stages:\n{stages}\n")).unwrap();
    let valid = seen(user.qwexctl(&["validate"]));
    assert_eq!(
        (valid.code, valid.out.as_str()),
        (0, "qwex.yaml can be used: 3 stages, 5 runs\n"),
        "{}",
        valid.err
    );
}

#[test]
fn a_backend_of_the_environment_must_be_one() {
    let user = User::new();
    std::fs::write(
        user.dir().join("qwex.yaml"),
        "stages: [{ name: a, command: x }]\n",
    )
    .unwrap();
    let mut command = user.qwexctl(&["validate"]);
    command.env("QWEX_BACKEND", "dokcer");
    let refused = seen(command);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("did you mean docker?"), "{}", refused.err);
}

#[test]
fn what_the_reader_says_is_for_people() {
    assert_snapshot!(told("stages:\n\t- name: a\n"));
    assert_snapshot!(told("name: a\nstages:\n  - name: \"b\n    command: x\n"));
    assert_snapshot!(told("name: a\n---\nname: b\n"));
    assert_snapshot!(told("env: { A: }\nresources: { gpu: 1 }\n"));
    assert_snapshot!(told(
        "stages:\n  - name: a\n    command: x\n    allow_failure: yes\n"
    ));
    assert_snapshot!(told("resources: { gpu: -1 }\n"));
    assert_snapshot!(told("retry: 3\n"));
    assert_snapshot!(told("stages:\n  a: { command: x }\n"));
}

#[test]
fn what_a_spec_refuses_is_told_at_its_field() {
    assert_snapshot!(told(
        "env: { '1 A': x }\nstages:\n  - name: a\n    command: x\n    resources:\n      cpu: lots\n      memory: 4gb\n\
         \x20 - { name: b, command: x, backend: docker, image: i, mounts: [{ kind: bind, source: /a, target: b }], ports: ['80'] }\n"
    ));
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), b"name: \xff\n").unwrap();
    for (words, code, told) in [
        (vec!["validate"], 2, "save it as UTF-8"),
        (vec!["validate", "."], 2, "name the file"),
        (vec!["validate", "none.yaml"], 3, "qwexctl init"),
    ] {
        let seen = seen(user.qwexctl(&words));
        assert_eq!(seen.code, code, "{words:?}: {}", seen.err);
        assert!(seen.err.contains(told), "{words:?}: {}", seen.err);
    }
}

/// As git does with a repository: whoever looks around in another user's directory does not get its commands.
#[test]
fn a_file_of_another_user_is_passed_over_also_in_the_directory_itself() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "this test gives a file to another user, which only root can: run it as root"
    );
    let user = User::new();
    let file = user.dir().join("qwex.yaml");
    std::fs::write(
        &file,
        "env: { WHOSE: theirs }\nstages: [{ name: a, command: 'touch witness' }]\n",
    )
    .unwrap();
    nix::unistd::chown(&file, Some(54_321.into()), None).unwrap();
    for words in [&["validate"][..], &["pipeline", "run"]] {
        let told = seen(user.qwexctl(words));
        assert_eq!(told.code, 3, "{words:?}: {}", told.err);
        let safe = format!("QWEX_SAFE_DIRECTORY={}", user.dir().display());
        assert!(
            told.err.contains("uid 54321") && told.err.contains(&safe),
            "{words:?}: {}",
            told.err
        );
    }
    let ran = seen(user.qwexctl(&["run", "--", "sh", "-c", "echo of ${WHOSE:-nobody}"]));
    assert_eq!((ran.code, ran.out.as_str()), (0, "of nobody\n"), "{}", ran.err);
    assert!(ran.err.contains("uid 54321"), "{}", ran.err);
    assert!(!user.dir().join("witness").exists());
    let mut trusted = user.qwexctl(&["run", "--", "sh", "-c", "echo of ${WHOSE:-nobody}"]);
    trusted.env("QWEX_SAFE_DIRECTORY", user.dir());
    let trusted = seen(trusted);
    assert_eq!(
        (trusted.code, trusted.out.as_str()),
        (0, "of theirs\n"),
        "{}",
        trusted.err
    );
    // So does root who was that user before sudo.
    let mut sudo = user.qwexctl(&["validate"]);
    sudo.env("SUDO_UID", "54321");
    assert_eq!(seen(sudo).code, 0);
}
