//! Examples of the commands that say nothing else behind their help: what people came for, by the words of the command.

/// Lines of examples; `None`: the command has its own.
#[must_use]
pub fn of(words: &[String]) -> Option<&'static [&'static str]> {
    let words = words.join(" ");
    let found = ALL.iter().find(|(command, _)| *command == words);
    found.map(|(_, lines)| *lines)
}

type Examples = (&'static str, &'static [&'static str]);

const ALL: &[Examples] = &[
    (
        "ps",
        &[
            "qwexctl ps                                   the newest 50: of your server, else of here",
            "qwexctl ps --status pending,running --local",
            "qwexctl ps --since 2h -l team=vision -o wide",
            "qwexctl ps -q --status failed -n 0           ids alone, of all",
        ],
    ),
    (
        "get",
        &[
            "qwexctl get @latest",
            "qwexctl get 0199f2 train -o json",
            "qwexctl get @last-failed -o yaml",
        ],
    ),
    (
        "describe",
        &["qwexctl describe @latest", "qwexctl describe 0199f2 -o json"],
    ),
    (
        "attach",
        &[
            "qwexctl attach @latest                       its log, its stages, its exit code",
            "qwexctl attach 0199f2 -n 20                  a run of a server, from its last 20 lines on",
            "qwexctl attach train --cancel-on-interrupt   in CI",
        ],
    ),
    (
        "wait",
        &[
            "qwexctl wait @latest                         the exit code is the run's own",
            "qwexctl wait 0199f2 019a01 --timeout 1h      7 when the time is up; the runs go on",
            "qwexctl wait train --for running",
        ],
    ),
    (
        "cancel",
        &[
            "qwexctl cancel @latest",
            "qwexctl cancel 0199f2 train --wait           return when nothing of them runs",
        ],
    ),
    (
        "rerun",
        &[
            "qwexctl rerun @last-failed",
            "qwexctl rerun 0199f2 --backend docker -d     the same on another backend",
            "qwexctl rerun 0199f2 --backend docker --image python:3.12-slim",
            "qwexctl rerun train --cluster beta --queue gpu-queue",
        ],
    ),
    (
        "why",
        &["qwexctl why @latest", "qwexctl why @last-failed -o json"],
    ),
    (
        "events",
        &[
            "qwexctl events @latest",
            "qwexctl events 0199f2 --follow -o jsonl",
        ],
    ),
    (
        "cluster",
        &[
            "qwexctl cluster add alpha --kubeconfig alpha.yaml",
            "qwexctl cluster ls",
        ],
    ),
    (
        "cluster add",
        &[
            "qwexctl cluster add alpha --kubeconfig alpha.yaml",
            "qwexctl cluster add beta --kubeconfig all.yaml --kube-context beta --namespace runs -l gpu=a100 --default-queue gpu-queue",
        ],
    ),
    (
        "cluster ls",
        &["qwexctl cluster ls", "qwexctl cluster ls -o json"],
    ),
    (
        "cluster get",
        &["qwexctl cluster get alpha", "qwexctl cluster get alpha -o yaml"],
    ),
    (
        "cluster drain",
        &["qwexctl cluster drain alpha                  no new runs; those there end as they do"],
    ),
    ("cluster undrain", &["qwexctl cluster undrain alpha"]),
    ("cluster rm", &["qwexctl cluster rm alpha"]),
    (
        "token",
        &["qwexctl token create ci --expires-in 90d", "qwexctl token ls"],
    ),
    (
        "token create",
        &[
            "qwexctl token create ci --expires-in 90d     printed once, and never again",
            "qwexctl token create dashboard --role viewer -q",
        ],
    ),
    ("token ls", &["qwexctl token ls", "qwexctl token ls -o json"]),
    ("token revoke", &["qwexctl token revoke 0199f2"]),
    (
        "project",
        &["qwexctl project create vision", "qwexctl project ls"],
    ),
    ("project create", &["qwexctl project create vision"]),
    ("project ls", &["qwexctl project ls", "qwexctl project ls -q"]),
    (
        "webhook",
        &[
            "qwexctl webhook add https://ci.example.com/qwex --event run.failed",
            "qwexctl webhook deliveries 0199f2",
        ],
    ),
    (
        "webhook add",
        &[
            "qwexctl webhook add https://ci.example.com/qwex",
            "qwexctl webhook add https://ci.example.com/qwex --event run.failed,run.cancelled --description alerts",
        ],
    ),
    (
        "webhook ls",
        &["qwexctl webhook ls", "qwexctl webhook ls -o json"],
    ),
    ("webhook get", &["qwexctl webhook get 0199f2"]),
    ("webhook rm", &["qwexctl webhook rm 0199f2"]),
    (
        "webhook test",
        &["qwexctl webhook test 0199f2                  sends an event that means nothing"],
    ),
    (
        "webhook deliveries",
        &[
            "qwexctl webhook deliveries 0199f2",
            "qwexctl webhook deliveries 0199f2 -o jsonl",
        ],
    ),
    ("webhook replay", &["qwexctl webhook replay 0199f2 019a01"]),
    (
        "webhook rotate",
        &[
            "qwexctl webhook rotate 0199f2                a new secret, printed once; the old one is good for a while",
        ],
    ),
    (
        "context",
        &[
            "qwexctl context add work --server https://qwex.example.com --use",
            "qwexctl context ls",
        ],
    ),
    ("context ls", &["qwexctl context ls", "qwexctl context ls -q"]),
    ("context use", &["qwexctl context use work"]),
    (
        "context add",
        &[
            "qwexctl context add work --server https://qwex.example.com --with-token --use < token-file",
            "qwexctl context add lab --server http://127.0.0.1:8080 --default-project vision",
        ],
    ),
    ("context rm", &["qwexctl context rm lab"]),
    (
        "config",
        &["qwexctl config view --origin                 each value, and where it comes from"],
    ),
    (
        "config view",
        &["qwexctl config view", "qwexctl config view --origin -o json"],
    ),
    (
        "auth",
        &[
            "qwexctl auth login --with-token < token-file",
            "qwexctl auth status",
        ],
    ),
    (
        "auth login",
        &[
            "qwexctl auth login --with-token < token-file",
            "qwexctl auth login --with-token --server https://qwex.example.com < token-file",
        ],
    ),
    (
        "auth status",
        &["qwexctl auth status", "qwexctl auth status -o json"],
    ),
    ("auth logout", &["qwexctl auth logout"]),
    (
        "completion",
        &[
            "qwexctl completion bash > ~/.local/share/bash-completion/completions/qwexctl",
            "qwexctl completion zsh > ~/.zfunc/_qwexctl",
            "qwexctl completion fish > ~/.config/fish/completions/qwexctl.fish",
        ],
    ),
    (
        "help",
        &[
            "qwexctl help run",
            "qwexctl help cluster add",
            "qwexctl help exit-codes                      one of the topics",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::{command, parse};
    use super::*;

    /// What stands for something only in a shell, or needs one to be read.
    const OF_SHELL: [&str; 7] = ["$", "|", "<", ">", "&&", "'", "\""];

    fn commands(at: &clap::Command, all: &mut Vec<clap::Command>) {
        for below in at.get_subcommands().filter(|below| !below.is_hide_set()) {
            commands(below, all);
            all.push(below.clone());
        }
    }

    #[test]
    fn every_command_has_examples_and_each_can_be_typed() {
        let mut all = vec![command()];
        commands(&command(), &mut all);
        let mut tried = 0;
        for command in all {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
            let (_, examples) = help.split_once("Examples:").unwrap();
            for line in examples.lines().filter(|line| line.starts_with("  qwexctl ")) {
                // The rest is a remark.
                let typed = line.trim().split("   ").next().unwrap();
                if OF_SHELL.iter().any(|mark| typed.contains(mark)) {
                    continue;
                }
                let words = typed.split_whitespace().map(Into::into);
                if let Err(error) = parse(words) {
                    panic!("{typed}: {error}");
                }
                tried += 1;
            }
        }
        assert!(tried > 80, "{tried}");
    }

    #[test]
    fn no_examples_are_of_a_command_that_there_is_not() {
        for (words, lines) in ALL {
            let mut at = &command();
            for word in words.split(' ') {
                at = at.find_subcommand(word).unwrap_or_else(|| panic!("{words}"));
            }
            let prefix = format!("qwexctl {words}");
            assert!(lines.iter().any(|line| line.starts_with(&prefix)), "{words}");
        }
    }
}
