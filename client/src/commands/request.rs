//! Makes the request of `run` out of flags and the project file, and refuses early what can never work.

use std::collections::BTreeMap;

use qwex_api::run::{Command, SubmitRequest};
use qwex_core::spec::Placement;
use qwex_core::{Resources, RetryPolicy, RunId};

use super::session::variable;
use crate::cli::{Pair, RunArgs};
use crate::config::Settings;
use crate::error::CliError;

/// The request, with an id minted before anything is sent.
pub fn request(settings: &Settings, args: &RunArgs) -> Result<SubmitRequest, CliError> {
    let file = &settings.file;
    let image = args.image.clone().or_else(|| file.image.clone());
    let resources = Resources {
        cpu: args.cpu.clone(),
        memory: args.memory.clone(),
        gpu: args.gpu,
    };
    check(args, image.as_deref(), &resources)?;
    Ok(SubmitRequest {
        id: Some(args.id.unwrap_or_else(RunId::mint)),
        name: args.name.clone(),
        project: settings.project.as_ref().map(|project| project.value.clone()),
        labels: pairs(&args.labels),
        command: Command::Exec(args.command.clone()),
        image,
        env: environment(&file.env, &args.env)?,
        secrets: pairs(&args.secrets),
        working_dir: args.workdir.clone(),
        resources,
        timeout: args.timeout,
        retry: RetryPolicy {
            limit: args.retries,
            on: args.retry_on.clone(),
        },
        queue: args.queue.clone().or_else(|| file.queue.clone()),
        cluster: args.cluster.clone().or_else(|| file.cluster.clone()),
        placement: Placement {
            require: pairs(&args.require),
        },
        pull_policy: args.pull,
    })
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

fn check(args: &RunArgs, image: Option<&str>, resources: &Resources) -> Result<(), CliError> {
    if let Some(image) = image.filter(|image| image.is_empty() || image.contains(char::is_whitespace)) {
        return Err(CliError::usage(format!("{image:?} is not the name of an image"))
            .why("a name of an image has no spaces and is not empty")
            .fix("write it like python:3.12-slim or registry.example.com/team/app:v1"));
    }
    if args.command.first().is_some_and(String::is_empty) {
        return Err(CliError::usage("the command is empty").fix("qwexctl run [FLAGS] -- CMD…"));
    }
    let quantity = |error: qwex_core::resources::QuantityError| CliError::usage(error.to_string());
    resources.cpu_millis().map_err(quantity)?;
    resources.memory_bytes().map_err(quantity)?;
    if let Some(dir) = args.workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
        return Err(CliError::usage(format!(
            "--workdir {dir:?} is not an absolute path"
        )));
    }
    Ok(())
}
