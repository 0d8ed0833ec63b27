//! What `init` finds in a directory, and the file it writes for that. Looks at names only and executes nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A stage that would make sense here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file that says so.
    pub because: &'static str,
    pub stages: Vec<(&'static str, String, &'static str)>,
}

/// Stages for what is found, and the text of the file.
#[must_use]
pub fn detect(dir: &Path) -> (Vec<Found>, String) {
    let has = |name: &str| dir.join(name).is_file();
    let mut found = Vec::new();
    if has("Cargo.toml") {
        // Without a lock file `--locked` refuses to do anything.
        let locked = if has("Cargo.lock") { " --locked" } else { "" };
        found.push(Found {
            because: "Cargo.toml",
            stages: vec![
                ("build", format!("cargo build{locked}"), ""),
                ("test", format!("cargo test{locked}"), "build"),
            ],
        });
    }
    if has("pyproject.toml") || has("uv.lock") {
        let uv = has("uv.lock") || names(dir, "pyproject.toml", "[tool.uv");
        let command = if uv { "uv run pytest" } else { "python -m pytest" };
        let because = if has("uv.lock") {
            "uv.lock"
        } else {
            "pyproject.toml"
        };
        found.push(Found {
            because,
            stages: vec![("test-python", command.into(), "")],
        });
    } else if has("requirements.txt") {
        let command = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt && .venv/bin/python -m pytest";
        found.push(Found {
            because: "requirements.txt",
            stages: vec![("test-python", command.into(), "")],
        });
    }
    if has("package.json") {
        let install = if has("package-lock.json") {
            "npm ci"
        } else {
            "npm install"
        };
        let mut stages = vec![("install-node", install.to_owned(), "")];
        if names(dir, "package.json", "\"test\"") {
            stages.push(("test-node", "npm test".to_owned(), "install-node"));
        }
        if names(dir, "package.json", "\"build\"") {
            stages.push(("build-node", "npm run build".to_owned(), "install-node"));
        }
        found.push(Found {
            because: "package.json",
            stages,
        });
    }
    let targets = make_targets(dir);
    if !targets.is_empty() && found.is_empty() {
        found.push(Found {
            because: "Makefile",
            stages: targets,
        });
    }
    if has("Dockerfile") {
        let needs = found
            .iter()
            .flat_map(|one| &one.stages)
            .map(|(name, _, _)| *name)
            .next_back()
            .unwrap_or("");
        let command = "docker build -t ${env.IMAGE:-app}:latest .".to_owned();
        found.push(Found {
            because: "Dockerfile",
            stages: vec![("image", command, needs)],
        });
    }
    let text = text(dir, &found);
    (found, text)
}

fn names(dir: &Path, file: &str, word: &str) -> bool {
    fs::read_to_string(dir.join(file)).is_ok_and(|text| text.contains(word))
}

/// The usual targets that a Makefile has.
fn make_targets(dir: &Path) -> Vec<(&'static str, String, &'static str)> {
    let Some(text) = ["Makefile", "makefile"]
        .iter()
        .find_map(|name| fs::read_to_string(dir.join(name)).ok())
    else {
        return Vec::new();
    };
    let has = |target: &str| text.lines().any(|line| line.starts_with(&format!("{target}:")));
    let mut stages = Vec::new();
    let mut before = "";
    for target in ["lint", "build", "test"].into_iter().filter(|target| has(target)) {
        stages.push((target, format!("make {target}"), before));
        before = target;
    }
    if stages.is_empty() {
        stages.push(("make", "make".to_owned(), ""));
    }
    stages
}

/// The directory's name as a name of the file.
fn name_of(dir: &Path) -> String {
    let name = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let plain = plain.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if plain.is_empty() {
        "project".to_owned()
    } else {
        plain.to_owned()
    }
}

/// A plain scalar would be read as something else.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string serialises")
}

fn text(dir: &Path, found: &[Found]) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        writeln!(text, "{words}").expect("a String takes every write");
    };
    line("# What runs of this directory have in common, and the stages of its pipeline.");
    line("#   qwexctl validate         is it right?");
    line("#   qwexctl pipeline plan    what would run");
    line("#   qwexctl pipeline run     run it");
    line("# All fields: qwexctl help spec; for an editor: qwexctl schema");
    line(&format!("name: {}", quoted(&name_of(dir))));
    line("backend: local");
    line("stages:");
    if found.is_empty() {
        line("  - name: hello");
        line("    command: echo \"hello from qwex\"");
    }
    for one in found {
        line(&format!("  # because of {}", one.because));
        for (name, command, needs) in &one.stages {
            line(&format!("  - name: {name}"));
            if !needs.is_empty() {
                line(&format!("    needs: [{needs}]"));
            }
            line(&format!("    command: {}", quoted(command)));
        }
    }
    text
}
