//! Words of the house: one word for one thing, in identifiers, comments and pages. The table is
//! below; CONTRIBUTING.md explains it.

use crate::report::Breach;
use crate::tree::Source;

const KINDS: &[&str] = &["rs", "md", "sql"];
/// The pages and the file that must name the words they refuse.
const EXEMPT: &[&str] = &["CONTRIBUTING.md", "xtask/src/tidy/words.rs"];

/// A word, or words in a row, that mean something here under another name.
struct Word {
    not: &'static [&'static str],
    say: &'static str,
    /// What else on the line shows that somebody else's thing is meant.
    unless: &'static [&'static str],
}

const WORDS: &[Word] = &[
    Word {
        not: &["hook", "hooks", "callback", "callbacks"],
        say: "Endpoint (the receiver) or Delivery (what it is owed)",
        unless: &["panic", "_hook(", "\"/hook", "prestop", "git hook", "pre-upgrade"],
    },
    Word {
        not: &["daemon", "daemons"],
        say: "Supervisor",
        unless: &[
            "debian",
            "docker",
            "podman",
            "containerd",
            "sshd",
            "daemon-reload",
            "daemonset",
        ],
    },
    Word {
        not: &["provider", "providers"],
        say: "Backend, Engine or Cluster",
        unless: &[
            "crypto",
            "tls",
            "aws_lc",
            "identity",
            "oidc",
            "ci provider",
            "auth-provider",
            "auth_provider",
        ],
    },
    Word {
        not: &["workflow", "workflows"],
        say: "Pipeline",
        unless: &["github", "gitlab", "argo"],
    },
    Word {
        not: &["job id", "task id", "job ids", "task ids"],
        say: "run id",
        unless: &[],
    },
    Word {
        not: &["run task", "run tasks"],
        say: "Run",
        unless: &["tokio"],
    },
    Word {
        not: &[
            "kill run",
            "kill a run",
            "kill the run",
            "kills the run",
            "stop run",
        ],
        say: "cancel",
        unless: &[],
    },
    Word {
        not: &[
            "schedule run",
            "schedule a run",
            "schedule the run",
            "schedules runs",
        ],
        say: "dispatch",
        unless: &["cron"],
    },
    Word {
        not: &["leader lock", "cluster lock", "replica lock"],
        say: "lease",
        unless: &[],
    },
    Word {
        not: &["pipeline step", "pipeline steps"],
        say: "Stage",
        unless: &[],
    },
];

pub fn check(source: &Source) -> Vec<Breach> {
    if !KINDS.contains(&source.kind()) || EXEMPT.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate();
    lines
        .flat_map(|(at, line)| {
            in_line(line)
                .into_iter()
                .map(move |s| Breach::new(&source.path, at + 1, s))
        })
        .collect()
}

fn in_line(line: &str) -> Vec<String> {
    let (spoken, lower) = (format!(" {} ", split(line).join(" ")), line.to_lowercase());
    let mut found = Vec::new();
    for word in WORDS
        .iter()
        .filter(|word| !word.unless.iter().any(|sign| lower.contains(sign)))
    {
        let said = word.not.iter().filter(|not| spoken.contains(&format!(" {not} ")));
        found.extend(said.map(|not| format!("say {}, not \"{not}\"", word.say)));
    }
    found
}

/// The words of a line in lower case: `killRun`, `kill_run` and "kill run" are the same.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        let hump = c.is_uppercase() && before.is_lowercase();
        if !c.is_alphanumeric() || hump {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words
                .last_mut()
                .expect("there is always one word begun")
                .extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_table_is_refused() {
        for word in WORDS {
            for not in word.not {
                for line in [format!("// {not}"), not.replace(' ', "_"), not.to_uppercase()] {
                    let found = check(&Source::new("a.rs", &line));
                    assert!(
                        found.iter().any(|b| b.sentence.contains(word.say)),
                        "{line} passes"
                    );
                }
            }
        }
    }

    #[test]
    fn camel_case_does_not_hide_a_word() {
        assert_eq!(in_line("fn f(jobId: u8)"), ["say run id, not \"job id\""]);
        assert_eq!(
            in_line("/// Kills nothing, but may kill the run."),
            ["say cancel, not \"kill the run\""]
        );
        assert_eq!(in_line("struct OnDoneCallback;").len(), 1);
    }

    #[test]
    fn words_of_others_are_left_alone() {
        for line in [
            "the webhook endpoint",
            "std::panic::set_hook(x)",
            "the docker daemon",
            "rustls::crypto::CryptoProvider",
            "kill -9 the server while runs go on",
            "a Kubernetes Job",
            "cancel asks to stop a run",
        ] {
            assert_eq!(in_line(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn only_what_people_read_as_prose_or_code_is_checked() {
        assert!(check(&Source::new("a.toml", "hook = 1")).is_empty());
        assert!(check(&Source::new("CONTRIBUTING.md", "hook")).is_empty());
    }
}
