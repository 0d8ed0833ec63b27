//! Python projects of this machine: a `python …` command beside a `pyproject.toml` or `uv.lock` runs through
//! `uv run` where uv is there, and that is said.

use std::path::Path;

use qwex_core::JobSpec;

use super::session::Session;

/// What the record says of it.
const UV_RUN: &str = "uv run";

/// Puts `uv run` before a python command of a uv project. `Some`: what runs it now, for the record.
pub fn run_through(session: &Session, spec: &mut JobSpec) -> Option<String> {
    let dir = spec.working_dir.clone().unwrap_or_else(|| ".".to_owned());
    if !is_python(spec) || !is_project(Path::new(&dir)) {
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
    spec.command.splice(0..0, UV_RUN.split(' ').map(str::to_owned));
    Some(UV_RUN.to_owned())
}

fn is_python(spec: &JobSpec) -> bool {
    spec.command
        .first()
        .is_some_and(|program| matches!(program.as_str(), "python" | "python3"))
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
