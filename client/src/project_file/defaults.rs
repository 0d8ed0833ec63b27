//! What the top of the file says for a run that is no stage, by the same rules as for a stage that says nothing itself.

use std::collections::BTreeMap;

use qwex_core::spec::Placement;
use qwex_core::{JobSpec, RunId};

use super::at::At;
use super::check::{of_top, takes_image, takes_queue};
use super::complaint::Complaint;
use super::model::ProjectFile;
use super::parts::{Asked, Retry};
use super::surroundings::Variables;
use super::variables::{Known, Name, fill, names, settle};

/// Spaces of names that a run has which is no stage.
const OF_A_RUN: [&str; 3] = ["env", "var", "run"];

/// The spec of a run on `backend`, but for its command. A variable of the environment that names a matrix or a pipeline
/// is left out: it is meant for stages.
///
/// # Errors
/// What cannot be meant, or names something that stands for nothing.
pub fn of_run<S>(
    file: &ProjectFile<S>,
    variables: &Variables,
    backend: &str,
    id: RunId,
) -> Result<JobSpec, Vec<Complaint>> {
    let mut filling = Filling {
        env: BTreeMap::new(),
        vars: &file.vars,
        variables,
        id: id.to_string(),
        complaints: of_top(file),
    };
    let spec = filling.spec(file, backend);
    if filling.complaints.is_empty() {
        Ok(spec)
    } else {
        Err(filling.complaints)
    }
}

struct Filling<'a> {
    /// The variables of the file, filled in.
    env: BTreeMap<String, String>,
    vars: &'a BTreeMap<String, String>,
    variables: &'a Variables,
    id: String,
    complaints: Vec<Complaint>,
}

impl Filling<'_> {
    fn spec<S>(&mut self, file: &ProjectFile<S>, backend: &str) -> JobSpec {
        let (in_image, is_remote) = (takes_image(backend), backend == "remote");
        let env = file.env.iter().filter(|(_, value)| is_for_a_run(&value.value));
        self.env = env
            .map(|(name, value)| (name.clone(), self.text(value)))
            .collect();
        let general = JobSpec {
            env: self.env.clone(),
            resources: file.resources.over(&Asked::default()),
            timeout: file.timeout,
            retry: file.retry.as_ref().map(Retry::policy).unwrap_or_default(),
            queue: file.queue.clone().filter(|_| takes_queue(backend)),
            priority_class: file.priority_class.clone().filter(|_| takes_queue(backend)),
            cluster: file.cluster.clone().filter(|_| is_remote),
            placement: Placement {
                require: if is_remote {
                    file.placement.require.clone()
                } else {
                    BTreeMap::new()
                },
            },
            ulimits: file.ulimits.clone(),
            ..JobSpec::default()
        };
        if !in_image {
            // What the file says of containers and clusters is not meant for a plain process.
            return general;
        }
        JobSpec {
            image: file.image.as_ref().map(|image| self.text(image)),
            secrets: file.secrets.clone(),
            working_dir: file.working_dir.as_ref().map(|dir| self.text(dir)),
            pull_policy: file.pull_policy,
            mounts: file
                .mounts
                .iter()
                .map(|mount| mount.mount(|text| self.text(text)))
                .collect(),
            network: file.network.clone(),
            ports: file.ports.clone(),
            user: file.user.clone(),
            service_account: file.service_account.clone(),
            ..general
        }
    }

    fn text(&mut self, value: &At<String>) -> String {
        match fill(&value.value, |name| self.lookup(name)) {
            Ok(filled) => settle(&filled, &self.id),
            Err(unknown) => {
                let what = format!("`{}` stands for nothing in a run that is no stage", unknown.name);
                let fix = match unknown.name.split_once('.') {
                    Some(("env", name)) => format!(
                        "set {name} in the environment or under `env:`, or give a default: ${{env.{name}:-value}}"
                    ),
                    Some(("var", name)) => format!("give `{name}` a value under `vars:`"),
                    _ => "name it in a stage, or give the run a value of its own by a flag".to_owned(),
                };
                self.complaints.push(Complaint::new(&value.at, what).fix(fix));
                String::new()
            }
        }
    }

    fn lookup(&self, name: &Name<'_>) -> Option<Known> {
        let known = match name.space {
            "env" => self
                .env
                .get(name.name)
                .or_else(|| self.variables.outside(name.name)),
            "var" => self.vars.get(name.name),
            "run" if name.name == "id" => return Some(Known::Later),
            _ => None,
        };
        known.cloned().map(Known::Value)
    }
}

/// Whether all that a text names can be had outside of a stage.
fn is_for_a_run(text: &str) -> bool {
    names(text).map_or(true, |all| {
        all.iter()
            .all(|name| OF_A_RUN.contains(&name.space) || name.default.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Unread, parse};
    use super::*;

    const FILE: &str = "image: python:${var.version}\nvars: { version: '3.12' }\nenv: { A: '${run.id}', B: '${env.HOME}/b', C: '${matrix.lr}' }\n\
         timeout: 1h\nretry: { limit: 2, on: [oom] }\nresources: { memory: 1Gi }\nnetwork: none\nqueue: cpu\ncluster: alpha\n\
         mounts: [{ kind: volume, source: cache, target: /cache }]\nuser: '1000'\nworking_dir: /srv\n";

    fn of(text: &str, backend: &str) -> Result<JobSpec, Vec<Complaint>> {
        let file: ProjectFile<Option<Unread>> = parse(text).unwrap();
        let mut variables = Variables::default();
        variables.env.insert("HOME".to_owned(), "/srv/ada".to_owned());
        of_run(&file, &variables, backend, id())
    }

    fn id() -> RunId {
        "0199f2aa-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn a_container_gets_all_that_the_file_says_for_runs() {
        let spec = of(FILE, "docker").unwrap();
        assert_eq!(spec.image.as_deref(), Some("python:3.12"));
        assert_eq!(spec.network.as_deref(), Some("none"));
        assert_eq!(spec.mounts.len(), 1);
        assert_eq!(
            (spec.user.as_deref(), spec.working_dir.as_deref()),
            (Some("1000"), Some("/srv"))
        );
        assert_eq!(spec.retry.limit, 2);
        assert!(spec.timeout.is_some() && spec.queue.is_none() && spec.cluster.is_none());
        assert_eq!(spec.env["A"], id().to_string());
        assert_eq!(spec.env["B"], "/srv/ada/b");
        assert!(!spec.env.contains_key("C"));
    }

    #[test]
    fn a_plain_process_gets_what_is_meant_for_it() {
        let spec = of(FILE, "local").unwrap();
        assert_eq!((spec.image, spec.network, spec.working_dir), (None, None, None));
        assert_eq!(spec.resources.memory.as_deref(), Some("1Gi"));
        assert!(spec.timeout.is_some() && spec.mounts.is_empty());
        let spec = of(FILE, "remote").unwrap();
        assert!(spec.queue.is_some() && spec.cluster.is_some());
    }

    #[test]
    fn what_stands_for_nothing_is_told() {
        let told = of("image: 'a:${env.NOWHERE}'\n", "docker").unwrap_err();
        assert_eq!(told.len(), 1);
        assert!(of("image: 'a:${env.NOWHERE:-1}'\n", "docker").is_ok());
        assert_eq!(
            of("retry: { limit: 1, on: [nonsense] }\n", "local")
                .unwrap_err()
                .len(),
            1
        );
    }
}
