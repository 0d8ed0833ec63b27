//! Which backend a run without a server goes to, with what files, and whether that backend has all it asks.

use std::path::PathBuf;

use qwex_api::run::SubmitRequest;
use qwex_core::{JobSpec, SpecProblem};

use super::direct_run::LOCAL;
use super::guard::{Guard, asked};
use super::request::request;
use super::session::Session;
use crate::cli::{AUTO, REMOTE, RunArgs};
use crate::direct::{Direct, Placed, Sent, registry};
use crate::error::{CliError, Exit};

const SSH: &str = "ssh";

/// Where the run goes, and what it is there. With `auto` the first backend that has what is asked, is allowed, and works.
pub async fn place(
    session: &Session,
    direct: &Direct,
    guard: &Guard,
    args: &RunArgs,
    asked: SubmitRequest,
    backend: &str,
) -> Result<(Placed, SubmitRequest), CliError> {
    let of_file = session
        .settings
        .file
        .host
        .as_ref()
        .map(|host| host.value.as_str());
    if backend != AUTO {
        return Ok((placed(guard, args, backend, of_file)?, asked));
    }
    let id = asked.id.expect("every request has an id");
    let mut reasons = Vec::new();
    for (name, host) in candidates(guard, of_file) {
        let placed = placed(guard, args, name, host)?;
        let words = placed.words();
        let request = request(&session.settings, args, id, name)?;
        match fits(direct, guard, &placed, &request.clone().into_spec()).await {
            Ok(detail) => {
                session.progress.stage(
                    "chosen",
                    &format!("backend {words}: {detail}{}", passed_over(&reasons)),
                );
                return Ok((placed, request));
            }
            Err(reason) => reasons.push(format!("{words}: {reason}")),
        }
    }
    Err(
        CliError::new(Exit::Unavailable, "no backend here can take this run")
            .why(reasons.join("; "))
            .fix("see what each needs: `qwexctl doctor`")
            .code("no_backend"),
    )
}

/// Every backend, and of ssh every host that is configured.
fn candidates<'g>(guard: &'g Guard, of_file: Option<&'g str>) -> Vec<(&'static str, Option<&'g str>)> {
    let mut all = Vec::new();
    for entry in registry::REGISTRY {
        let hosts = guard.hosts.names();
        if entry.name == SSH && of_file.is_none() && !hosts.is_empty() {
            all.extend(hosts.into_iter().map(|host| (entry.name, Some(host))));
        } else {
            all.push((entry.name, of_file));
        }
    }
    all
}

fn passed_over(reasons: &[String]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    format!(" (not {})", reasons.join("; not "))
}

async fn fits(direct: &Direct, guard: &Guard, placed: &Placed, spec: &JobSpec) -> Result<String, String> {
    if let Some(violation) = guard.policy.check(&asked(placed, spec)).first() {
        return Err(format!("{} ({})", violation.what, violation.place));
    }
    let backend = registry::open(direct.opening(placed.clone()))
        .await
        .map_err(|error| error.to_string())?;
    if let Some(problem) = backend.validate(spec).first() {
        return Err(problem.detail.clone());
    }
    let probe = backend.probe().await.map_err(|error| error.to_string())?;
    Ok(probe.detail)
}

/// Refuses what the backend does not have, before anything is recorded. Gives the place by names that last.
pub async fn check(direct: &Direct, placed: Placed, spec: &JobSpec) -> Result<Placed, CliError> {
    let (backend, placed) = registry::pinned(direct.opening(placed))
        .await
        .map_err(CliError::from)?;
    let problems = backend.validate(spec);
    let Some((first, others)) = problems.split_first() else {
        return Ok(placed);
    };
    let mut error = told(first);
    for other in others {
        error = error.fix(format!("also {}: {}", other.pointer, other.detail));
    }
    Err(error)
}

fn told(problem: &SpecProblem) -> CliError {
    let way = match problem.code {
        "required" => "give it, or name another backend: --backend NAME",
        _ => "leave it out, or name another backend: --backend NAME",
    };
    CliError::usage(problem.detail.clone())
        .why(format!("the field {} of the run", problem.pointer))
        .fix(way)
        .code(problem.code)
}

/// The same run on another backend: with the same files, at that backend's own default address.
pub fn moved(guard: &Guard, placed: Placed, backend: &str) -> Result<Placed, CliError> {
    if registry::find(backend).is_none() {
        let names: Vec<&str> = registry::REGISTRY.iter().map(|entry| entry.name).collect();
        return Err(CliError::usage(format!("{backend:?} is no backend"))
            .fix(format!("choose {} or {REMOTE}", names.join(", "))));
    }
    if placed.backend == backend {
        return Ok(placed);
    }
    let workspace = match placed.workspace {
        Some(workspace) => workspace,
        None => workspace(None)?,
    };
    guard.fit(Placed {
        backend: backend.to_owned(),
        workspace: Some(workspace),
        send: if backend == SSH {
            Sent::Everything
        } else {
            placed.send
        },
        ..Placed::default()
    })
}

/// `host`: that of runs which name none, if the backend has any.
fn placed(guard: &Guard, args: &RunArgs, backend: &str, host: Option<&str>) -> Result<Placed, CliError> {
    let place = &args.place;
    // A process of this machine works in a directory of this machine, whatever it was told to see.
    let workspace = if place.no_workspace && backend != LOCAL {
        None
    } else {
        Some(workspace(place.workspace.as_deref())?)
    };
    let sends = match backend {
        SSH => workspace.is_some(),
        "k8s" | "kueue" => place.send || !place.outputs.is_empty(),
        _ => false,
    };
    let host = host.filter(|_| backend == SSH).map(str::to_owned);
    guard.fit(Placed {
        backend: backend.to_owned(),
        address: place.host.clone().or_else(|| place.kube_context.clone()).or(host),
        namespace: place.namespace.clone(),
        workspace,
        send: if sends { Sent::Everything } else { Sent::Nothing },
        ..Placed::default()
    })
}

fn workspace(asked: Option<&std::path::Path>) -> Result<PathBuf, CliError> {
    let path = asked.unwrap_or(std::path::Path::new("."));
    let told = |error: std::io::Error| {
        CliError::usage(format!("the workspace {} cannot be used", path.display()))
            .why(error.to_string())
            .fix("name a directory that is there, or leave it out: --no-workspace")
    };
    let whole = path.canonicalize().map_err(told)?;
    if whole.is_dir() {
        Ok(whole)
    } else {
        Err(told(std::io::ErrorKind::NotADirectory.into()))
    }
}
