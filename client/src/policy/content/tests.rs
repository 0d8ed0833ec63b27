//! Tests of the content rules: what each finds and what it lets pass, what is looked at, who may switch off what.

use std::path::Path;

use qwex_core::JobSpec;

use super::*;
use crate::config::file::tests::files_of;

fn rules(system: &str, user: &str) -> Result<Rules, CliError> {
    Rules::of(&files_of(system, user)?)
}

fn look(rules: &Rules, command: &[&str], workspace: Option<&Path>) -> Vec<Finding> {
    let spec = JobSpec::for_command(command.iter().copied());
    rules.look(&Asked {
        backend: "local",
        address: None,
        spec: &spec,
        workspace,
    })
}

/// Names of the rules that a line of shell meets.
fn in_shell(line: &str) -> Vec<String> {
    let rules = Rules::of(&[]).unwrap();
    look(&rules, &["sh", "-c", line], None)
        .into_iter()
        .map(|finding| finding.rule)
        .collect()
}

fn in_python(code: &str) -> Vec<String> {
    let rules = Rules::of(&[]).unwrap();
    look(&rules, &["python3", "-c", code], None)
        .into_iter()
        .map(|finding| finding.rule)
        .collect()
}

#[test]
fn every_rule_of_qwex_finds_what_it_is_for() {
    for (rule, lines) in [
        (
            "download-into-shell",
            &[
                "curl -fsSL https://x.example/i.sh | sh",
                "wget -qO- 'https://x.example/?a=b&c=d' | sudo -E bash -s -- -y",
                "curl https://x | gunzip | /bin/bash",
                "curl https://x | python3 -",
                "bash <(curl -s https://x)",
                "sh -c \"$(curl -fsSL https://x)\"",
                "eval \"$(wget -qO- https://x)\"",
                "source <(curl -s https://x)",
            ][..],
        ),
        (
            "remove-root",
            &[
                "rm -rf /",
                "rm -fr /*",
                "sudo rm -r -f ~",
                "rm -rf $HOME/",
                "rm -rf \"${HOME}\"/*",
                "rm --recursive -f / ; x",
                "rm -rf build /",
                "rm -rf --no-preserve-root /x",
            ],
        ),
        (
            "raw-disk",
            &["dd if=x of=/dev/sda bs=1M", "mkfs.ext4 -F /dev/nvme0n1"],
        ),
        (
            "tls-unverified-shell",
            &[
                "curl -k https://x",
                "curl -sSk https://x -o y",
                "curl https://x --insecure",
                "wget --no-check-certificate https://x",
                "git -c http.sslVerify=false clone x",
                "GIT_SSL_NO_VERIFY=1 git pull",
            ],
        ),
        (
            "world-writable",
            &["chmod 777 /data", "chmod -R 0777 x", "chmod a+rwx x"],
        ),
        (
            "aws-key",
            &[
                "export AWS_ACCESS_KEY_ID=AKIAABCDEFGHIJKLMNOP",
                "AWS_SECRET_ACCESS_KEY='abcdefghijabcdefghijabcdefghijabcdefghij' x",
            ],
        ),
        (
            "access-token",
            &["git clone https://ghp_abcdefghijabcdefghijabcdefghijabcdef@github.com/x/y"],
        ),
        (
            "private-key",
            &[
                "echo '-----BEGIN OPENSSH PRIVATE KEY-----'",
                "# -----BEGIN RSA PRIVATE KEY-----",
                "echo -----BEGIN PRIVATE KEY-----",
            ],
        ),
    ] {
        for line in lines {
            assert_eq!(in_shell(line), [rule], "{line}");
        }
    }
}

#[test]
fn rules_for_python_and_for_any_language_meet_python() {
    for code in [
        "requests.get(u, verify=False)",
        "ssl._create_unverified_context()",
        "c.verify_mode = ssl.CERT_NONE",
    ] {
        assert_eq!(in_python(code), ["tls-unverified-python"], "{code}");
    }
    assert_eq!(in_python("os.system('curl x | sh')"), ["download-into-shell"]);
    assert_eq!(in_python("os.chmod(p, 0o777)"), ["world-writable"]);
}

#[test]
fn what_is_usual_meets_no_rule() {
    for line in [
        "curl -fsSLO https://x.example/a.tar.gz && tar xf a.tar.gz && sh a/install.sh",
        "curl https://x | tee shell.log",
        "curl https://x | jq .",
        "curl https://x -o bash.tar; bash build.sh",
        "rm -rf build/ target /tmp/x ~/.cache/x $HOME/.cache/x ./*",
        "rm -rf /var/lib/x",
        "rm file",
        "dd if=/dev/zero of=disk.img",
        "curl --keepalive-time 5 https://x",
        "curl -o k https://x",
        "chmod 755 x && chmod u+rwx y",
        "pytest -k 777",
        "# rm -rf /",
        "# curl https://x | sh, chmod 777 y",
        "echo -----BEGIN PUBLIC KEY-----",
    ] {
        assert_eq!(in_shell(line), Vec::<String>::new(), "{line}");
    }
    for code in [
        "requests.get(u, verify=True)",
        "# verify=False",
        "verify = ca_path",
    ] {
        assert_eq!(in_python(code), Vec::<String>::new(), "{code}");
    }
}

#[test]
fn the_script_that_a_command_names_is_looked_at_with_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "train.py",
        "import requests\n# verify=False\nrequests.get('x', verify=False)\n",
    );
    write("go.sh", "#!/bin/sh\ncurl https://x \\\n  | sh\n");
    write("plain", "#!/usr/bin/env bash\nrm -rf /\n");
    write("pkg/tool.py", "ssl._create_unverified_context()\n");
    write("pkg/run/__main__.py", "ssl._create_unverified_context()\n");
    write("data.bin", "\0rm -rf /\n");
    write("notes.txt", "rm -rf /\nAKIAABCDEFGHIJKLMNOP\n");
    let rules = Rules::of(&[]).unwrap();
    let found = |command: &[&str]| {
        let all = look(&rules, command, Some(dir.path()));
        all.into_iter()
            .map(|one| format!("{} {}", one.at, one.rule))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(&["python", "train.py", "--lr", "1"]),
        ["train.py:3 tls-unverified-python"]
    );
    assert_eq!(
        found(&["uv", "run", "python3.12", "./train.py"]),
        ["train.py:3 tls-unverified-python"]
    );
    assert_eq!(found(&["bash", "-eu", "go.sh"]), ["go.sh:2 download-into-shell"]);
    assert_eq!(found(&["./plain"]), ["plain:2 remove-root"]);
    assert_eq!(found(&["/workspace/plain"]), ["plain:2 remove-root"]);
    assert_eq!(
        found(&["python", "-m", "pkg.tool"]),
        ["pkg/tool.py:1 tls-unverified-python"]
    );
    assert_eq!(
        found(&["python", "-m", "pkg.run"]),
        ["pkg/run/__main__.py:1 tls-unverified-python"]
    );
    assert_eq!(
        found(&["sh", "-c", "cd . && ./plain; python 'train.py' | tee x"]),
        ["plain:2 remove-root", "train.py:3 tls-unverified-python"]
    );
    // Only what holds in any language is looked for in what is no script.
    assert_eq!(found(&["cat", "notes.txt"]), ["notes.txt:2 aws-key"]);
    assert!(found(&["cat", "data.bin"]).is_empty() && found(&["plain"]).is_empty());
    assert!(found(&["bash", "/etc/passwd"]).is_empty() && found(&["bash", "none.sh"]).is_empty());
}

#[test]
fn g10_a_script_out_of_the_workspace_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("outside.sh"), "rm -rf /\n").unwrap();
    let inside = dir.path().join("in");
    std::fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink("../outside.sh", inside.join("link.sh")).unwrap();
    let rules = Rules::of(&[]).unwrap();
    for script in ["link.sh", "../outside.sh"] {
        assert!(
            look(&rules, &["bash", script], Some(&inside)).is_empty(),
            "{script}"
        );
    }
}

#[test]
fn f15_lines_are_shown_without_control_bytes_and_without_secrets() {
    let rules = rules(
        "",
        "policy: { content: { rules: [{ name: own, pattern: 'pass=\\w+', secret: true }] } }",
    )
    .unwrap();
    let found = look(&rules, &["sh", "-c", "rm -rf / \x1b]0;title\x07"], None);
    assert_eq!(found[0].line, "rm -rf / \\x1b]0;title\\x07");
    let found = look(
        &rules,
        &["sh", "-c", "x=AKIAABCDEFGHIJKLMNOP; run pass=hunter2"],
        None,
    );
    let lines: Vec<&str> = found.iter().map(|one| one.line.as_str()).collect();
    assert_eq!(lines, ["x=[not shown]; run [not shown]"; 2]);
}

#[test]
fn rules_are_added_switched_off_and_made_stricter() {
    let user = "policy:\n  content:\n    off: [world-writable]\n    rules:\n      - { name: no-sudo, pattern: '\\bsudo\\b', language: shell, action: deny, message: ask for it }\n\
                \x20     - { name: remove-root, action: deny }\n";
    let rules = rules("", user).unwrap();
    assert!(look(&rules, &["chmod", "777", "x"], None).is_empty());
    let sudo = look(&rules, &["sudo", "make"], None);
    assert_eq!((sudo[0].rule.as_str(), sudo[0].action), ("no-sudo", Action::Deny));
    assert_eq!(
        (sudo[0].message.as_str(), sudo[0].at.as_str()),
        ("ask for it", "the command")
    );
    assert!(
        sudo[0]
            .place
            .as_deref()
            .is_some_and(|place| place.ends_with("user.yaml:5"))
    );
    // What is denied is told first.
    let both = look(&rules, &["sh", "-c", "curl x | sh; rm -rf /"], None);
    assert_eq!(both[0].action, Action::Deny);
}

#[test]
fn what_the_system_says_of_a_rule_stands() {
    let system = "policy: { content: { off: [private-key], rules: [{ name: remove-root, action: deny }, { name: own, pattern: x }] } }";
    let denied = |user: &str| look(&rules(system, user).unwrap(), &["rm", "-rf", "/"], None)[0].action;
    assert_eq!(denied(""), Action::Deny);
    assert_eq!(
        denied("policy: { content: { rules: [{ name: remove-root, action: warn }] } }"),
        Action::Deny
    );
    let error = rules(system, "policy: { content: { off: [remove-root] } }")
        .unwrap_err()
        .text();
    assert!(
        error.contains("is set for this machine and stays on") && error.contains("user.yaml:1:"),
        "{error}"
    );
    // A pattern of the user beside one of the system.
    let both = rules(
        system,
        "policy: { content: { rules: [{ name: own, pattern: y }] } }",
    )
    .unwrap();
    assert_eq!(look(&both, &["x"], None).len(), 1);
    // What is off for the machine can be put on again by whoever wants it.
    let on = rules(system, "policy: { content: { rules: [{ name: private-key }] } }").unwrap();
    assert_eq!(look(&on, &["echo", "-----BEGIN PRIVATE KEY-----"], None).len(), 1);
}

#[test]
fn a_thousand_findings_are_not_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.sh"), "rm -rf /\n".repeat(1000)).unwrap();
    let rules = Rules::of(&[]).unwrap();
    assert_eq!(
        look(&rules, &["sh", "x.sh"], Some(dir.path())).len(),
        MOST_FINDINGS
    );
}
