//! Makes the request of `run` out of flags and the project file, and refuses early what can never work.

use std::collections::BTreeMap;
use std::path::Path;

use qwex_api::run::{Command, SubmitRequest};
use qwex_core::spec::Placement;
use qwex_core::{JobSpec, Mount, Resources, RetryPolicy, RunId, validate_labels};

use super::session::variable;
use crate::cli::{Pair, RunArgs};
use crate::config::Settings;
use crate::error::CliError;
use crate::project_file::{self, Source, Variables};

/// The request for a run on `backend`: what the flags say, else what the project file says for runs there.
pub fn request(
    settings: &Settings,
    args: &RunArgs,
    id: RunId,
    backend: &str,
) -> Result<SubmitRequest, CliError> {
    let usual = of_file(settings, args, id, backend)?;
    let (place, container) = (&args.place, &args.container);
    let is_free = |mount: &Mount| container.mounts.iter().all(|own| own.place() != mount.place());
    let mounts = usual.mounts.into_iter().filter(is_free);
    let request = SubmitRequest {
        id: Some(id),
        name: args.name.clone(),
        project: settings.project.as_ref().map(|project| project.value.clone()),
        labels: pairs(&args.labels),
        command: Command::Exec(args.command.clone()),
        image: args.image.clone().or(usual.image),
        env: environment(usual.env, &args.env)?,
        secrets: over(usual.secrets, &args.secrets),
        working_dir: args.workdir.clone().or(usual.working_dir),
        resources: Resources {
            cpu: args.cpu.clone().or(usual.resources.cpu),
            memory: args.memory.clone().or(usual.resources.memory),
            gpu: args.gpu.or(usual.resources.gpu),
            pids: container.pids.or(usual.resources.pids),
        },
        timeout: args.timeout.or(usual.timeout),
        retry: RetryPolicy {
            limit: args.retries.unwrap_or(usual.retry.limit),
            on: one_of(&args.retry_on, usual.retry.on),
            backoff: usual.retry.backoff,
        },
        queue: args.queue.clone().or(usual.queue),
        priority_class: args.priority_class.clone().or(usual.priority_class),
        cluster: args.cluster.clone().or(usual.cluster),
        placement: Placement {
            require: over(usual.placement.require, &args.require),
        },
        pull_policy: args.pull.or(usual.pull_policy),
        mounts: mounts.chain(container.mounts.clone()).collect(),
        network: container.network.clone().or(usual.network),
        ports: one_of(&container.ports, usual.ports),
        user: container.user.clone().or(usual.user),
        ulimits: over(usual.ulimits, &container.ulimits),
        service_account: container.service_account.clone().or(usual.service_account),
        outputs: place.outputs.clone(),
    };
    check(&request)?;
    Ok(request)
}

/// What the project file says for a run there; nothing without a file. What a flag says instead need not stand for anything.
fn of_file(settings: &Settings, args: &RunArgs, id: RunId, backend: &str) -> Result<JobSpec, CliError> {
    let Some(path) = &settings.file_path else {
        return Ok(JobSpec::default());
    };
    let variables = Variables::of_this_process();
    let mut file = settings.file.clone();
    file.image = file.image.filter(|_| args.image.is_none());
    file.working_dir = file.working_dir.filter(|_| args.workdir.is_none());
    project_file::of_run(&file, &variables, backend, id).or_else(|complaints| {
        let path = path.display().to_string();
        let text = project_file::text(Path::new(&path), &path)?;
        let source = Source {
            path: &path,
            text: &text,
        };
        Err(project_file::refused(source, &complaints))
    })
}

fn over(mut usual: BTreeMap<String, String>, flags: &[Pair]) -> BTreeMap<String, String> {
    usual.extend(pairs(flags));
    usual
}

/// The flags if there are any.
fn one_of<T: Clone>(flags: &[T], usual: Vec<T>) -> Vec<T> {
    if flags.is_empty() { usual } else { flags.to_vec() }
}

fn pairs(pairs: &[Pair]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()))
        .collect()
}

/// The project file's variables, then those of `--env`; one without a value is taken from here.
fn environment(
    mut env: BTreeMap<String, String>,
    flags: &[String],
) -> Result<BTreeMap<String, String>, CliError> {
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = variable(flag).ok_or_else(|| {
                    CliError::usage(format!("--env {flag}: there is no such variable here"))
                        .fix(format!("give its value: --env {flag}=VALUE"))
                })?;
                (flag.as_str(), value)
            }
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(
                CliError::usage(format!("--env {flag:?} does not name a variable"))
                    .fix("write it like --env KEY=VALUE"),
            );
        }
        env.insert(name.to_owned(), value);
    }
    Ok(env)
}

/// Refuses what no backend takes, in the words that the server would use.
fn check(request: &SubmitRequest) -> Result<(), CliError> {
    let mut problems = request.clone().into_spec().validate().err().unwrap_or_default();
    problems.extend(validate_labels(&request.labels).err().unwrap_or_default());
    let Some(first) = problems.first() else {
        return Ok(());
    };
    let mut error = CliError::usage(first.detail.clone())
        .why(format!("the field {} of the run", first.pointer))
        .fix("`qwexctl help spec` tells what each field takes");
    for more in &problems[1..] {
        error = error.fix(format!("also {}: {}", more.pointer, more.detail));
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;
    use crate::config::{Choices, Surroundings};

    fn of(file: &str, words: &str) -> Result<SubmitRequest, CliError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("qwex.yaml"), file).unwrap();
        let around = Surroundings {
            env: &|_| None,
            dir: dir.path(),
        };
        let settings = Settings::gather(&Choices::default(), &around).unwrap();
        let words = ["qwexctl", "run"].into_iter().chain(words.split_whitespace());
        let parsed = cli::parse(words.chain(["--", "true"]).map(Into::into)).unwrap();
        let cli::Command::Run(args) = parsed.command else {
            panic!("it is run");
        };
        request(&settings, &args, RunId::mint(), "docker")
    }

    #[test]
    fn a_flag_stands_for_what_the_file_says_whatever_that_is() {
        let file = "image: 'app:${env.QWEX_NOT_SET_ANYWHERE}'\n\
                    mounts: [{ kind: volume, source: cache, target: /cache }, { kind: volume, source: data, target: /data }]\n";
        assert!(of(file, "").unwrap_err().text().contains("QWEX_NOT_SET_ANYWHERE"));
        let request = of(
            file,
            "--image busybox --mount kind=volume,source=mine,target=/data/",
        )
        .unwrap();
        assert_eq!(request.image.as_deref(), Some("busybox"));
        let mounts: Vec<_> = request
            .mounts
            .iter()
            .map(|mount| (mount.source.as_deref().unwrap_or_default(), mount.target.as_str()))
            .collect();
        assert_eq!(mounts, [("cache", "/cache"), ("mine", "/data/")]);
    }
}
