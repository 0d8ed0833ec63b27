//! Python projects of this machine: a `python …` command beside a `pyproject.toml` or `uv.lock` runs through
//! `uv run` where uv is there, and that is said.

use std::path::Path;

use qwex_core::JobSpec;

use super::direct_run::LOCAL;
use super::session::Session;
use crate::direct::Placed;
use crate::pipeline::Pipeline;

/// What the record says of it.
const UV_RUN: &str = "uv run";

/// Puts `uv run` before a python command of a uv project in `dir`. `Some`: what runs it now, for the record.
fn run_through(session: &Session, dir: &Path, spec: &mut JobSpec) -> Option<String> {
    if !is_meant(dir, spec) {
        return None;
    }
    if find_in_path("uv").is_none() {
        session
            .progress
            .note("this is a uv project and uv is not installed; the command runs as it is");
        return None;
    }
    session
        .progress
        .note("this is a uv project: the command runs through `uv run` (--no-uv leaves it as it is)");
    put_before(spec);
    Some(UV_RUN.to_owned())
}

/// The same for a run in its place, if that is this machine.
pub fn of_place(session: &Session, placed: &Placed, spec: &mut JobSpec) -> Option<String> {
    if placed.backend != LOCAL {
        return None;
    }
    let dir = placed.workspace.as_deref().unwrap_or(Path::new("."));
    run_through(session, dir, spec)
}

/// Takes away what [`run_through`] put before a command.
pub fn take_away(spec: &mut JobSpec) {
    let words: Vec<&str> = UV_RUN.split(' ').collect();
    if spec
        .command
        .iter()
        .map(String::as_str)
        .take(words.len())
        .eq(words.iter().copied())
    {
        spec.command.drain(..words.len());
    }
}

/// The same for every stage of a pipeline that runs on this machine. The record says it, so that the key under which
/// a stage is reused knows of it too.
pub fn run_stages_through(session: &Session, dir: &Path, pipeline: &mut Pipeline) {
    let here = pipeline
        .stages
        .iter_mut()
        .filter(|stage| stage.backend == "local");
    let meant: Vec<_> = here.filter(|stage| is_meant(dir, &stage.spec)).collect();
    if meant.is_empty() {
        return;
    }
    let mut names: Vec<&str> = meant.iter().map(|stage| stage.stage.as_str()).collect();
    names.dedup();
    let names = names.join(", ");
    if find_in_path("uv").is_none() {
        let told =
            format!("this is a uv project and uv is not installed; these stages run as they are: {names}");
        return session.progress.note(&told);
    }
    session.progress.note(&format!(
        "this is a uv project: these stages run through `uv run` (--no-uv leaves them as they are): {names}"
    ));
    for stage in meant {
        put_before(&mut stage.spec);
        stage.runs_by = Some(UV_RUN.to_owned());
    }
}

fn put_before(spec: &mut JobSpec) {
    spec.command.splice(0..0, UV_RUN.split(' ').map(str::to_owned));
}

fn is_meant(dir: &Path, spec: &JobSpec) -> bool {
    let dir = match &spec.working_dir {
        Some(inner) => dir.join(inner),
        None => dir.to_owned(),
    };
    is_python(&spec.command) && is_project(&dir)
}

/// A python command, also as a line for a shell that begins with one: in it, `python` is then the project's own.
fn is_python(command: &[String]) -> bool {
    match command {
        [shell, flag, line] if shell == "sh" && flag == "-c" => {
            line.split_whitespace().next().is_some_and(is_python_name)
        }
        [program, ..] => is_python_name(program),
        [] => false,
    }
}

fn is_python_name(word: &str) -> bool {
    matches!(word, "python" | "python3")
}

fn is_project(dir: &Path) -> bool {
    ["uv.lock", "pyproject.toml"]
        .iter()
        .any(|name| dir.join(name).is_file())
}

/// The program of that name which a shell would find.
pub fn find_in_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file())
}
