//! Makes the request of `run` out of flags and the project file, and refuses early what can never work.

use std::collections::BTreeMap;

use qwex_api::run::{Command, SubmitRequest};
use qwex_core::spec::Placement;
use qwex_core::{Resources, RetryPolicy, RunId, validate_labels};

use super::session::variable;
use crate::cli::{Pair, RunArgs};
use crate::config::Settings;
use crate::error::CliError;

/// The request, with an id minted before anything is sent.
pub fn request(settings: &Settings, args: &RunArgs) -> Result<SubmitRequest, CliError> {
    let file = &settings.file;
    let image = args
        .image
        .clone()
        .or_else(|| file.image.as_ref().map(|image| image.value.clone()));
    let resources = Resources {
        cpu: args.cpu.clone(),
        memory: args.memory.clone(),
        gpu: args.gpu,
        pids: args.container.pids,
    };
    let request = SubmitRequest {
        id: Some(args.id.unwrap_or_else(RunId::mint)),
        name: args.name.clone(),
        project: settings.project.as_ref().map(|project| project.value.clone()),
        labels: pairs(&args.labels),
        command: Command::Exec(args.command.clone()),
        image,
        env: environment(&file.variables(), &args.env)?,
        secrets: pairs(&args.secrets),
        working_dir: args.workdir.clone(),
        resources,
        timeout: args.timeout,
        retry: RetryPolicy {
            limit: args.retries,
            on: args.retry_on.clone(),
            backoff: None,
        },
        queue: args.queue.clone().or_else(|| file.queue.clone()),
        cluster: args.cluster.clone().or_else(|| file.cluster.clone()),
        placement: Placement {
            require: pairs(&args.require),
        },
        pull_policy: args.pull,
        mounts: args.container.mounts.clone(),
        network: args.container.network.clone(),
        ports: args.container.ports.clone(),
        user: args.container.user.clone(),
        ulimits: pairs(&args.container.ulimits),
        service_account: args.container.service_account.clone(),
        outputs: args.place.outputs.clone(),
    };
    check(&request)?;
    Ok(request)
}

fn pairs(pairs: &[Pair]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()))
        .collect()
}

/// The project file's variables, then those of `--env`; one without a value is taken from here.
fn environment(
    file: &BTreeMap<String, String>,
    flags: &[String],
) -> Result<BTreeMap<String, String>, CliError> {
    let mut env = file.clone();
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
