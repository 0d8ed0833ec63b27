//! What there is to look at: the command itself, and the scripts of the workspace that it names.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::check::Asked;
use super::Language;

/// What is looked at of a script.
const MOST_BYTES: u64 = 1 << 20;
/// Most scripts of one command.
const MOST_SCRIPTS: usize = 8;
/// A file with a zero byte in its beginning is no script.
const BEGINNING: usize = 8192;
/// Where the workspace is inside of a container.
const INSIDE: &str = "/workspace/";
const COMMAND: &str = "the command";

/// A text in which rules look for something.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// Path below the workspace; `None`: the command.
    path: Option<String>,
    pub language: Language,
    content: String,
}

impl Text {
    fn command(language: Language, content: String) -> Self {
        Self {
            path: None,
            language,
            content,
        }
    }

    /// Each line with its number from 1. A line that goes on in the next one is one, at the number of the first.
    pub fn lines(&self) -> Vec<(usize, String)> {
        let mut all: Vec<(usize, String)> = Vec::new();
        let mut goes_on = false;
        for (index, line) in self.content.lines().enumerate() {
            let (line, ends_open) = match line.strip_suffix('\\') {
                Some(line) => (line, true),
                None => (line, false),
            };
            match all.last_mut().filter(|_| goes_on) {
                Some((_, before)) => {
                    before.push(' ');
                    before.push_str(line);
                }
                None => all.push((index + 1, line.to_owned())),
            }
            goes_on = ends_open;
        }
        all
    }

    /// Where a line is, for people.
    pub fn at(&self, number: usize) -> String {
        match &self.path {
            Some(path) => format!("{path}:{number}"),
            None if self.content.lines().nth(1).is_some() => format!("{COMMAND}:{number}"),
            None => COMMAND.to_owned(),
        }
    }
}

/// All there is to look at. What cannot be read is not looked at: it cannot be executed from here either.
pub fn texts(asked: &Asked<'_>) -> Vec<Text> {
    let command = &asked.spec.command;
    let (text, words) = spoken(command);
    let mut all = vec![text];
    let Some(workspace) = asked.workspace.and_then(|dir| dir.canonicalize().ok()) else {
        return all;
    };
    let base = match asked.spec.working_dir.as_deref() {
        Some(dir) => workspace.join(dir.strip_prefix(INSIDE).unwrap_or(dir)),
        None => workspace.clone(),
    };
    let mut seen = BTreeSet::new();
    for script in scripts(&words, &workspace, &base) {
        if seen.len() < MOST_SCRIPTS && seen.insert(script.path.clone()) {
            all.extend(read(&workspace, &script));
        }
    }
    all
}

/// The command as a text, and the commands in it as words.
fn spoken(command: &[String]) -> (Text, Vec<Vec<String>>) {
    let language = command.first().and_then(|program| interpreter(program));
    let inline = command
        .iter()
        .position(|word| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'));
    match (language, inline.and_then(|at| command.get(at + 1))) {
        (Some(Language::Shell), Some(line)) => {
            (Text::command(Language::Shell, line.clone()), commands_of(line))
        }
        (Some(Language::Python), Some(code)) => (Text::command(Language::Python, code.clone()), Vec::new()),
        (Some(Language::Any | Language::Shell | Language::Python) | None, _) => {
            let joined = command.join(" ");
            (Text::command(Language::Shell, joined), vec![command.to_vec()])
        }
    }
}

/// The commands of a line of shell, as words. Good enough to find the names of files.
fn commands_of(line: &str) -> Vec<Vec<String>> {
    line.split(['\n', ';', '&', '|', '(', ')', '`'])
        .map(|one| {
            let words = one.split_whitespace();
            words
                .map(|word| word.trim_matches(['"', '\'']).to_owned())
                .collect()
        })
        .filter(|words: &Vec<String>| !words.is_empty())
        .collect()
}

/// A file that a command names.
struct Script {
    path: PathBuf,
    /// What the command says that it is.
    language: Option<Language>,
}

/// The first file of the workspace that each of the commands names.
fn scripts(commands: &[Vec<String>], workspace: &Path, base: &Path) -> Vec<Script> {
    commands
        .iter()
        .filter_map(|words| script(words, workspace, base))
        .collect()
}

fn script(words: &[String], workspace: &Path, base: &Path) -> Option<Script> {
    let language = words.iter().find_map(|word| interpreter(word));
    let inside = |word: &str| {
        let path = match word.strip_prefix(INSIDE) {
            Some(rest) => workspace.join(rest),
            None => base.join(word),
        };
        let real = path.canonicalize().ok()?;
        (real.starts_with(workspace) && real.is_file()).then_some(real)
    };
    if let (Some(Language::Python), Some(at)) = (language, words.iter().position(|word| word == "-m")) {
        let module = words.get(at + 1)?.replace('.', "/");
        let files = [format!("{module}.py"), format!("{module}/__main__.py")];
        return files
            .iter()
            .find_map(|file| inside(file))
            .map(|path| Script { path, language });
    }
    // A program by its bare name is looked for elsewhere.
    let named = words
        .iter()
        .enumerate()
        .filter(|(index, word)| !word.starts_with('-') && (*index > 0 || word.contains('/')));
    let path = named.map(|(_, word)| word).find_map(|word| inside(word))?;
    Some(Script { path, language })
}

/// What a program executes, by its name.
fn interpreter(program: &str) -> Option<Language> {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" | "source" | "." => Some(Language::Shell),
        name if is_python(name) => Some(Language::Python),
        _ => None,
    }
}

fn is_python(name: &str) -> bool {
    let rest = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn read(workspace: &Path, script: &Script) -> Option<Text> {
    let mut bytes = Vec::new();
    fs::File::open(&script.path)
        .ok()?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    if bytes.iter().take(BEGINNING).any(|byte| *byte == 0) {
        return None;
    }
    let content = String::from_utf8_lossy(&bytes).into_owned();
    let language = by_suffix(&script.path)
        .or_else(|| by_first_line(&content))
        .or(script.language)
        .unwrap_or_default();
    let path = script.path.strip_prefix(workspace).unwrap_or(&script.path);
    Some(Text {
        path: Some(path.display().to_string()),
        language,
        content,
    })
}

fn by_suffix(path: &Path) -> Option<Language> {
    match path.extension()?.to_str()? {
        "py" => Some(Language::Python),
        "sh" | "bash" | "zsh" | "ksh" => Some(Language::Shell),
        _ => None,
    }
}

fn by_first_line(content: &str) -> Option<Language> {
    let program = content.lines().next()?.strip_prefix("#!")?;
    program.split_whitespace().find_map(interpreter)
}
