//! What can be seen without any server: version, help, bad flags, completion.

use crate::support::{User, seen};

#[test]
fn version_is_one_line() {
    let seen = seen(User::new().qwexctl(&["--version"]));
    assert_eq!((seen.code, seen.out.trim()), (0, "qwexctl 0.1.0"));
}

#[test]
fn every_topic_and_command_has_help() {
    let user = User::new();
    for words in [
        vec!["help"],
        vec!["help", "exit-codes"],
        vec!["help", "environment"],
        vec!["help", "formatting"],
        vec!["help", "spec"],
        vec!["help", "cluster", "add"],
        vec!["run", "--help"],
    ] {
        let seen = seen(user.qwexctl(&words));
        assert_eq!(seen.code, 0, "{words:?}: {}", seen.err);
        assert!(seen.out.len() > 100, "{words:?}");
    }
    let unknown = seen(user.qwexctl(&["help", "nonsense"]));
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("exit-codes"), "{}", unknown.err);
}

#[test]
fn help_begins_with_examples() {
    let user = User::new();
    for words in [vec!["--help"], vec!["run", "-h"], vec!["help", "validate"]] {
        let help = seen(user.qwexctl(&words)).out;
        let place = |word: &str| help.find(word).unwrap_or_else(|| panic!("{word}: {help}"));
        assert!(place("Examples:") < place("Usage:"), "{words:?}: {help}");
        assert!(place("Usage:") < place("Options:"), "{words:?}: {help}");
        assert_eq!(help.matches("Examples:").count(), 1, "{words:?}: {help}");
    }
}

#[test]
fn remote_may_stand_in_front_of_what_it_is_for() {
    let user = User::new();
    let at = |words: &[&str]| {
        let mut command = user.at("http://127.0.0.1:1", words);
        command.env("QWEX_RETRY_FOR", "200ms");
        seen(command)
    };
    for words in [&["--remote", "run", "-d", "--", "true"][..], &["--remote", "ps"]] {
        let gone = at(words);
        assert_eq!(gone.code, 8, "{words:?}: {}", gone.err);
    }
    for words in [
        &["--remote", "get", "x"][..],
        &["--remote", "run", "--backend", "local", "--", "true"],
        &["--remote", "ps", "--local"],
    ] {
        let refused = at(words);
        assert_eq!(refused.code, 2, "{words:?}: {}", refused.err);
        assert!(refused.err.contains("fix:"), "{words:?}: {}", refused.err);
    }
}

#[test]
fn bad_flags_are_usage() {
    let user = User::new();
    for (words, told) in [
        (vec!["run", "echo", "hi"], "put the command behind `--`"),
        (vec!["run", "--nonsense", "--", "true"], "--nonsense"),
        (vec!["run"], "<CMD>"),
        (vec!["run", "--"], "<CMD>"),
        (vec!["run", "--name", "a/b", "--", "true"], "'/'"),
        (
            vec!["run", "--name", &"x".repeat(300), "--", "true"],
            "300 characters",
        ),
        (vec!["run", "--timeout", "soon", "--", "true"], "length of time"),
        (vec!["run", "--retry-on", "bad_luck", "--", "true"], "bad_luck"),
        (vec!["run", "--memory", "4gb", "--", "true"], "4gb"),
        (
            vec!["run", "--remote", "--image", "two words", "--", "true"],
            "two words",
        ),
        (vec!["run", "--env", "=x", "--", "true"], "variable"),
        (vec!["run", "--env", "NOT_SET_HERE", "--", "true"], "NOT_SET_HERE"),
        (vec!["ps", "--status", "sleeping"], "sleeping"),
        (vec!["ps", "--since", "yesterday"], "yesterday"),
        (vec!["logs", "--grep", "(", "@latest"], "regular expression"),
        (vec!["cancl"], "cancel"),
    ] {
        let seen = seen(user.qwexctl(&words));
        assert_eq!(seen.code, 2, "{words:?}: {}", seen.err);
        assert!(seen.err.contains(told), "{words:?}: {}", seen.err);
    }
}

#[test]
fn arguments_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let user = User::new();
    let mut command = user.qwexctl(&["run", "--"]);
    command.arg(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    let seen = seen(command);
    assert_eq!(seen.code, 2);
    assert!(seen.err.contains("UTF-8"), "{}", seen.err);
}

#[test]
fn a_backend_that_is_not_there_is_refused_with_those_that_are() {
    let seen = seen(User::new().qwexctl(&["run", "-d", "--backend", "tape", "--", "true"]));
    assert_eq!(seen.code, 2);
    assert!(
        seen.err.contains("tape") && seen.err.contains("local"),
        "{}",
        seen.err
    );
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let seen = seen(User::new().qwexctl(&["completion", shell]));
        assert_eq!(seen.code, 0);
        assert!(seen.out.contains("deliveries"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        &format!(
            "{} completion bash | head -1 >/dev/null; exit ${{PIPESTATUS:-0}}",
            crate::support::BINARY
        ),
    ]);
    let output = command.output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
