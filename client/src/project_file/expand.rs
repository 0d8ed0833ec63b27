//! Makes the runs out of the stages: matrices multiplied out, defaults and variables filled in, every spec checked.

use std::collections::{BTreeMap, BTreeSet};

use qwex_core::spec::Placement;
use qwex_core::{JobSpec, Mount, RunName};

use super::at::At;
use super::check::{check, default_backend, inside, takes_host, takes_image, takes_queue};
use super::complaint::{Complaint, Source};
use super::condition::Condition;
use super::graph::base;
use super::matrix::{Combination, MOST, instance_name};
use super::model::{Common, ProjectFile, Stage};
use super::parts::Retry;
use super::place;
use super::surroundings::Variables;
use super::variables::{Known, Name, fill};

/// Stages of one pipeline.
const MOST_STAGES: usize = 2000;

/// One run to be. Its texts are filled in, but for the id of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Like `train[lr=0.1,seed=1]`.
    pub name: String,
    pub stage: String,
    pub run_name: RunName,
    pub matrix: Combination,
    /// Names of instances.
    pub needs: Vec<String>,
    pub backend: String,
    /// Machine of the backend ssh.
    pub host: Option<String>,
    pub condition: Option<String>,
    pub allow_failure: bool,
    pub inputs: Option<Vec<String>>,
    pub no_cache: bool,
    pub spec: JobSpec,
}

/// All runs of a file, each after those that it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Expanded {
    pub instances: Vec<Instance>,
}

/// What the stages are seen in.
struct View<'a> {
    file: &'a ProjectFile<Vec<Stage>>,
    source: Source<'a>,
    variables: &'a Variables,
    pipeline: &'a str,
    backend: &'a str,
}

/// Checks, multiplies out and fills in. `default` is the backend of stages that name none: it beats the file's.
///
/// # Errors
/// Everything that is wrong, as far as it can be known.
pub fn expanded(
    file: &ProjectFile<Vec<Stage>>,
    source: Source<'_>,
    variables: &Variables,
    pipeline: &str,
    default: Option<&str>,
) -> Result<Expanded, Vec<Complaint>> {
    let complaints = check(file, source, default);
    if !complaints.is_empty() {
        return Err(complaints);
    }
    let backend = default_backend(file, default);
    let view = View {
        file,
        source,
        variables,
        pipeline,
        backend,
    };
    let mut complaints = view.unused_set();
    let combinations: Vec<(&Stage, Vec<Combination>)> = file
        .stages
        .iter()
        .map(|stage| (stage, of_matrix(stage)))
        .collect();
    let names: BTreeMap<&str, Vec<String>> = combinations
        .iter()
        .map(|(stage, all)| {
            let name = stage.name.value.as_str();
            (name, all.iter().map(|one| instance_name(name, one)).collect())
        })
        .collect();
    complaints.extend(too_many(&file.stages, &names));
    let mut instances = Vec::new();
    for (stage, all) in &combinations {
        complaints.extend(same_names(stage, &names));
        for one in all {
            match view.instance(stage, one, &names) {
                Ok(instance) => instances.push(instance),
                Err(more) => complaints.extend(more),
            }
        }
    }
    complaints.dedup();
    if complaints.is_empty() {
        Ok(Expanded {
            instances: sorted(instances),
        })
    } else {
        Err(complaints)
    }
}

fn of_matrix(stage: &Stage) -> Vec<Combination> {
    match &stage.matrix {
        Some(matrix) => matrix.value.combinations().into_iter().take(MOST).collect(),
        None => vec![Vec::new()],
    }
}

fn too_many(stages: &[Stage], names: &BTreeMap<&str, Vec<String>>) -> Option<Complaint> {
    let count: usize = names.values().map(Vec::len).sum();
    let last = stages.last().filter(|_| count > MOST_STAGES)?;
    Some(Complaint::new(
        &last.name.at,
        format!("the file makes {count} runs, the most is {MOST_STAGES}"),
    ))
}

fn same_names(stage: &Stage, names: &BTreeMap<&str, Vec<String>>) -> Option<Complaint> {
    let all = names.get(stage.name.value.as_str())?;
    let twice = all
        .iter()
        .find(|name| all.iter().filter(|other| other == name).count() > 1)?;
    let at = stage.matrix.as_ref().map_or(&stage.name.at, |matrix| &matrix.at);
    Some(
        Complaint::new(at, format!("the matrix makes `{twice}` twice"))
            .fix("remove the value that is there twice"),
    )
}

/// Each after its needs, else in the order of the file.
fn sorted(mut left: Vec<Instance>) -> Vec<Instance> {
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut sorted = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let (ready, waiting): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|one| one.needs.iter().all(|need| done.contains(need)));
        if ready.is_empty() {
            // A circle, which the check refused before.
            sorted.extend(waiting);
            return sorted;
        }
        done.extend(ready.iter().map(|one| one.name.clone()));
        sorted.extend(ready);
        left = waiting;
    }
    sorted
}

impl View<'_> {
    /// `--set` of a name that the file never uses is a slip.
    fn unused_set(&self) -> Vec<Complaint> {
        let known = |name: &str| {
            self.file.vars.contains_key(name) || self.source.text.contains(&format!("${{var.{name}"))
        };
        let unused = self.variables.set.keys().filter(|name| !known(name));
        unused
            .map(|name| {
                Complaint::new(
                    &(0..0),
                    format!("--set {name}: the file has no variable `{name}`"),
                )
                .or_meant(name, self.file.vars.keys().map(String::as_str))
                .fix(format!(
                    "use it in a stage as ${{var.{name}}}, or give it a value under `vars:`"
                ))
            })
            .collect()
    }

    fn instance(
        &self,
        stage: &Stage,
        one: &Combination,
        names: &BTreeMap<&str, Vec<String>>,
    ) -> Result<Instance, Vec<Complaint>> {
        let name = instance_name(&stage.name.value, one);
        let backend = stage
            .backend
            .as_ref()
            .map_or(self.backend, |at| at.value.as_str());
        let mut filling = Filling {
            view: self,
            stage,
            one,
            env: BTreeMap::new(),
            complaints: Vec::new(),
        };
        filling.env();
        let spec = filling.spec(backend);
        let host = filling.host(backend);
        let inputs = stage.inputs.as_ref().map(|inputs| filling.each(inputs));
        let needs = filling.needs(names);
        let condition = filling.condition();
        let mut complaints = filling.complaints;
        if complaints.is_empty() {
            complaints.extend(refused(self, stage, &name, &spec));
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        Ok(Instance {
            run_name: run_name(&name),
            name,
            stage: stage.name.value.clone(),
            matrix: one.clone(),
            needs,
            backend: backend.to_owned(),
            host,
            condition,
            allow_failure: stage.allow_failure,
            inputs,
            no_cache: stage.no_cache,
            spec,
        })
    }
}

/// The rules that every spec must keep.
fn refused(view: &View<'_>, stage: &Stage, name: &str, spec: &JobSpec) -> Vec<Complaint> {
    let problems = spec.validate().err().unwrap_or_default();
    problems
        .into_iter()
        .map(|problem| {
            let at = place::field(view.source.text, &view.file.stages, stage, &problem.pointer);
            let what = format!("the stage `{name}` cannot run: {}", problem.detail);
            match at {
                Some(at) => Complaint::new(&at, what),
                None => Complaint::new(&stage.name.at, what).label(problem.pointer.trim_start_matches('/')),
            }
        })
        .collect()
}

/// The maps together; what the second says wins.
fn merged(one: &BTreeMap<String, String>, over: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = one.clone();
    all.extend(over.clone());
    all
}

/// A run's name has neither brackets nor signs, and an end.
fn run_name(instance: &str) -> RunName {
    const MOST: usize = 63;
    let plain: String = instance
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(MOST)
        .collect();
    let trimmed = plain.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    RunName::new(trimmed).unwrap_or_else(|_| RunName::new("stage").expect("a valid name"))
}

/// One instance while its texts are filled in.
struct Filling<'a> {
    view: &'a View<'a>,
    stage: &'a Stage,
    one: &'a Combination,
    /// The variables of the stage, filled in.
    env: BTreeMap<String, String>,
    complaints: Vec<Complaint>,
}

impl Filling<'_> {
    /// First the variables: inside of them, `${env.X}` looks outside only.
    fn env(&mut self) {
        let defaults: Common<'_> = self.view.file.common();
        let mut all: BTreeMap<&String, &At<String>> = defaults.env.iter().collect();
        all.extend(self.stage.env.iter());
        let mut filled = BTreeMap::new();
        for (name, value) in all {
            filled.insert(name.clone(), self.text(value));
        }
        self.env = filled;
    }

    fn lookup(&self, name: &Name<'_>) -> Option<Known> {
        match (name.space, name.name) {
            ("run", "id") => Some(Known::Later),
            (space, name) => self.plain(space, name).map(Known::Value),
        }
    }

    fn plain(&self, space: &str, name: &str) -> Option<String> {
        let view = self.view;
        match space {
            "env" => self
                .env
                .get(name)
                .or_else(|| view.variables.outside(name))
                .cloned(),
            "var" => view
                .variables
                .set
                .get(name)
                .or_else(|| view.file.vars.get(name))
                .cloned(),
            "matrix" => self
                .one
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone()),
            "pipeline" if name == "id" => Some(view.pipeline.to_owned()),
            _ => None,
        }
    }

    fn text(&mut self, value: &At<String>) -> String {
        match fill(&value.value, |name| self.lookup(name)) {
            Ok(filled) => filled,
            Err(unknown) => {
                let at = inside(value, &unknown.range, self.view.source);
                self.complaints.push(self.unknown(&unknown.name, &at));
                String::new()
            }
        }
    }

    fn each(&mut self, values: &[At<String>]) -> Vec<String> {
        values.iter().map(|value| self.text(value)).collect()
    }

    fn unknown(&self, name: &str, at: &std::ops::Range<usize>) -> Complaint {
        let complaint = Complaint::new(at, format!("`{name}` stands for nothing"));
        let axes = || self.one.iter().map(|(name, _)| name.as_str());
        match name.split_once('.') {
            Some(("env", x)) => complaint.label("no such variable").fix(format!(
                "set {x} in the environment, under `env:` or with --env-file, or give a default: ${{env.{x}:-value}}"
            )),
            Some(("var", x)) => complaint
                .label("no such variable")
                .or_meant(x, self.view.file.vars.keys().map(String::as_str))
                .fix(format!("give it a value: --set {x}=VALUE, or under `vars:`")),
            Some(("matrix", x)) if !self.one.is_empty() => complaint
                .label("no such axis")
                .or_meant(x, axes())
                .fix(format!("the names here are {}", axes().collect::<Vec<_>>().join(", "))),
            Some(("matrix", _)) => complaint.label("the stage has no matrix"),
            Some(("run" | "pipeline", _)) => complaint.label("there are ${run.id} and ${pipeline.id}"),
            _ => complaint.label("write it like ${env.NAME}"),
        }
    }

    fn needs(&mut self, names: &BTreeMap<&str, Vec<String>>) -> Vec<String> {
        let mut needs: Vec<String> = Vec::new();
        for need in &self.stage.needs {
            let Some(all) = names.get(base(&need.value)) else {
                continue;
            };
            let meant: Vec<&String> = if need.value == base(&need.value) {
                all.iter().collect()
            } else {
                all.iter().filter(|name| **name == need.value).collect()
            };
            if meant.is_empty() {
                let what = format!("`{}` has no run `{}`", base(&need.value), need.value);
                let complaint =
                    Complaint::new(&need.at, what).or_meant(&need.value, all.iter().map(String::as_str));
                self.complaints
                    .push(complaint.fix(format!("its runs are {}", all.join(" "))));
            }
            needs.extend(meant.into_iter().cloned());
        }
        needs.dedup();
        needs
    }

    fn condition(&self) -> Option<String> {
        let condition = Condition::parse(&self.stage.condition.as_ref()?.value).ok()?;
        Some(condition.with(&|space, name| self.plain(space, name)).to_string())
    }

    fn host(&mut self, backend: &str) -> Option<String> {
        let host = self.stage.host.as_ref().or(self.view.file.host.as_ref());
        host.filter(|_| takes_host(backend)).map(|host| self.text(host))
    }

    fn spec(&mut self, backend: &str) -> JobSpec {
        let (own, defaults) = (self.stage.common(), self.view.file.common());
        let (in_image, is_remote) = (takes_image(backend), backend == "remote");
        let image = own.image.or(defaults.image.filter(|_| in_image));
        let working_dir = own.working_dir.or(defaults.working_dir.filter(|_| in_image));
        let retry = own.retry.or(defaults.retry);
        // What the top says of containers and clusters is not meant for a stage that is a plain process.
        let containers = if in_image { defaults } else { own };
        let require = merged(&defaults.placement.require, &own.placement.require);
        JobSpec {
            command: self.command(),
            image: image.map(|image| self.text(image)),
            env: self.env.clone(),
            secrets: merged(if in_image { defaults.secrets } else { own.secrets }, own.secrets),
            working_dir: working_dir.map(|dir| self.text(dir)),
            resources: own.resources.over(defaults.resources),
            timeout: own.timeout.or(defaults.timeout),
            retry: retry.map(Retry::policy).unwrap_or_default(),
            queue: own
                .queue
                .or(defaults.queue.filter(|_| takes_queue(backend)))
                .cloned(),
            priority_class: own
                .priority_class
                .or(defaults.priority_class.filter(|_| takes_queue(backend)))
                .cloned(),
            cluster: own.cluster.or(defaults.cluster.filter(|_| is_remote)).cloned(),
            placement: Placement {
                require: if is_remote {
                    require
                } else {
                    own.placement.require.clone()
                },
            },
            pull_policy: own.pull_policy.or(containers.pull_policy),
            mounts: self.mounts(in_image),
            network: own.network.or(containers.network).cloned(),
            ports: if own.ports.is_empty() {
                containers.ports
            } else {
                own.ports
            }
            .to_vec(),
            user: own.user.or(containers.user).cloned(),
            ulimits: merged(defaults.ulimits, own.ulimits),
            service_account: own.service_account.or(containers.service_account).cloned(),
            outputs: self.each(&self.stage.outputs),
        }
    }

    fn mounts(&mut self, with_those_of_the_top: bool) -> Vec<Mount> {
        let top = if with_those_of_the_top {
            self.view.file.mounts.as_slice()
        } else {
            &[]
        };
        let all = top.iter().chain(&self.stage.mounts);
        all.map(|mount| mount.mount(|value| self.text(value))).collect()
    }

    fn command(&mut self) -> Vec<String> {
        let command = &self.stage.command;
        let filled = command.value.words(|word| fill(word, |name| self.lookup(name)));
        match filled {
            Ok(words) => words,
            Err(unknown) => {
                let written = self.view.source.text.get(command.at.clone()).unwrap_or_default();
                let at = match written.find(&format!("${{{}", unknown.name)) {
                    Some(found) => command.at.start + found..command.at.start + found + unknown.range.len(),
                    None => command.at.clone(),
                };
                self.complaints.push(self.unknown(&unknown.name, &at));
                Vec::new()
            }
        }
    }
}
