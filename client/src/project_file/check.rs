//! What the reader of YAML cannot see: needs, backends, conditions, matrices, globs, names. All complaints at once, in
//! the order of the file.

use qwex_core::{FailureCode, MountKind, RunName};
use qwex_runner::workspace::Globs;

use super::at::At;
use super::complaint::{Complaint, Source};
use super::condition::Condition;
use super::graph;
use super::model::{Common, ProjectFile, Stage};
use super::parts::{Mounted, Retry};
use super::variables;

/// Every word that `backend` takes.
pub const BACKENDS: [&str; 7] = ["local", "docker", "podman", "ssh", "k8s", "kueue", "remote"];

/// Backends that execute an image.
const WITH_IMAGE: [&str; 5] = ["docker", "podman", "k8s", "kueue", "remote"];
/// Backends that know queues.
const WITH_QUEUE: [&str; 3] = ["k8s", "kueue", "remote"];

#[must_use]
pub fn takes_image(backend: &str) -> bool {
    WITH_IMAGE.contains(&backend)
}

#[must_use]
pub fn takes_queue(backend: &str) -> bool {
    WITH_QUEUE.contains(&backend)
}

#[must_use]
pub fn takes_host(backend: &str) -> bool {
    backend == "ssh"
}

/// The backend of stages that name none: `default` (a flag, the environment), the file's, `local`.
#[must_use]
pub fn default_backend<'a>(file: &'a ProjectFile<Vec<Stage>>, default: Option<&'a str>) -> &'a str {
    default
        .or(file.backend.as_ref().map(|at| at.value.as_str()))
        .unwrap_or("local")
}

/// What is wrong with that which all runs have in common.
#[must_use]
pub fn of_top<S>(file: &ProjectFile<S>) -> Vec<Complaint> {
    let mut complaints: Vec<Complaint> = file.retry.iter().flat_map(retry).collect();
    complaints.extend(file.mounts.iter().filter_map(mount));
    complaints
}

/// What is wrong with a file that could be read; nothing if it can be used.
#[must_use]
pub fn check(file: &ProjectFile<Vec<Stage>>, source: Source<'_>, default: Option<&str>) -> Vec<Complaint> {
    let mut complaints = graph::complaints(&file.stages);
    complaints.extend(of_top(file));
    complaints.extend(backend_word(file.backend.as_ref()));
    complaints.extend(parallel(file));
    let default = default_backend(file, default);
    for stage in &file.stages {
        complaints.extend(of_stage(stage, file.common(), default, source));
    }
    complaints.sort_by_key(|complaint| (complaint.at.start, complaint.at.end));
    complaints
}

fn parallel(file: &ProjectFile<Vec<Stage>>) -> Option<Complaint> {
    let wrong = file
        .max_parallel
        .as_ref()
        .filter(|most| !(1..=1000).contains(&most.value))?;
    Some(Complaint::new(&wrong.at, "`max_parallel` is from 1 to 1000").label("leave it out for no limit"))
}

fn of_stage(stage: &Stage, defaults: Common<'_>, backend: &str, source: Source<'_>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let name = &stage.name;
    if let Err(error) = RunName::new(name.value.as_str()) {
        let told = error.to_string().replace("run name", "stage name");
        complaints.push(Complaint::new(&name.at, told));
    }
    complaints.extend(backend_word(stage.backend.as_ref()));
    complaints.extend(stage.retry.iter().flat_map(retry));
    complaints.extend(
        stage
            .matrix
            .iter()
            .flat_map(|matrix| matrix.value.complaints(&matrix.at)),
    );
    complaints.extend(
        stage
            .condition
            .iter()
            .filter_map(|condition| condition_of(condition, source)),
    );
    let globs = stage.inputs.iter().flatten().chain(&stage.outputs);
    complaints.extend(globs.filter_map(glob));
    let backend = stage.backend.as_ref().map_or(backend, |at| at.value.as_str());
    complaints.extend(fit(stage, defaults, backend));
    complaints
}

fn backend_word(backend: Option<&At<String>>) -> Option<Complaint> {
    let backend = backend.filter(|backend| !BACKENDS.contains(&backend.value.as_str()))?;
    let complaint = Complaint::new(&backend.at, format!("there is no backend `{}`", backend.value));
    // It is the same letters to nobody but people.
    let complaint = match backend.value.to_lowercase().as_str() {
        "kubernetes" | "kube" => complaint.label("did you mean `k8s`?"),
        word => complaint.or_meant(word, BACKENDS),
    };
    Some(complaint.fix(format!("the backends are {}", BACKENDS.join(", "))))
}

/// Whether what a stage itself asks for can be had on its backend.
fn fit(stage: &Stage, defaults: Common<'_>, backend: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if !BACKENDS.contains(&backend) {
        return complaints;
    }
    let name = &stage.name;
    if takes_image(backend) && stage.image.is_none() && defaults.image.is_none() {
        complaints.push(
            Complaint::new(
                &name.at,
                format!(
                    "the stage `{}` has no image, which the backend {backend} needs",
                    name.value
                ),
            )
            .fix("give the stage an `image`, or one at the top for all stages"),
        );
    }
    if let Some(image) = stage.image.as_ref().filter(|_| !takes_image(backend)) {
        complaints.push(
            Complaint::new(&image.at, format!("the backend {backend} executes no images"))
                .fix("remove the image, or choose the backend docker, podman, k8s, kueue or remote"),
        );
    }
    if let Some(host) = stage.host.as_ref().filter(|_| !takes_host(backend)) {
        complaints.push(
            Complaint::new(&host.at, format!("the backend {backend} has no hosts"))
                .fix("remove the host, or choose the backend ssh"),
        );
    }
    if stage.queue.is_some() && !takes_queue(backend) {
        complaints.push(
            Complaint::new(
                &name.at,
                format!(
                    "the stage `{}` names a queue, and the backend {backend} has none",
                    name.value
                ),
            )
            .fix("remove the queue, or choose the backend kueue"),
        );
    }
    if backend == "kueue" && stage.queue.is_none() && defaults.queue.is_none() {
        complaints.push(
            Complaint::new(
                &name.at,
                format!(
                    "the stage `{}` names no queue, which the backend kueue needs",
                    name.value
                ),
            )
            .fix("give the stage a `queue`, or one at the top for all stages"),
        );
    }
    if let Some(output) = stage.outputs.first().filter(|_| backend == "remote") {
        complaints.push(
            Complaint::new(&output.at, "the backend remote brings no files back")
                .fix("remove the outputs, or choose another backend for this stage"),
        );
    }
    complaints
}

fn retry(retry: &Retry) -> Vec<Complaint> {
    let words = || FailureCode::ALL.iter().map(|code| code.as_str());
    let mut complaints: Vec<Complaint> = retry
        .on
        .iter()
        .filter(|word| FailureCode::from_word(&word.value).is_none())
        .map(|word| {
            Complaint::new(&word.at, format!("there is no failure `{}`", word.value))
                .or_meant(&word.value, words())
                .fix(format!(
                    "the failures are {}",
                    words()
                        .filter(|word| *word != "lost")
                        .collect::<Vec<_>>()
                        .join(", ")
                ))
        })
        .collect();
    complaints.extend(retry.on.iter().filter(|word| word.value == "lost").map(|word| {
        Complaint::new(
            &word.at,
            "a lost run is never tried again, as it may still be executing",
        )
        .label("remove this")
    }));
    let factor = retry.backoff.as_ref().and_then(|pauses| pauses.factor.as_ref());
    complaints.extend(
        factor
            .filter(|factor| !(1..=10).contains(&factor.value))
            .map(|factor| Complaint::new(&factor.at, "the factor of a backoff is from 1 to 10")),
    );
    complaints
}

fn mount(mount: &Mounted) -> Option<Complaint> {
    let words = || MountKind::ALL.iter().map(|kind| kind.as_str());
    let word = mount.kind.value.as_str();
    if MountKind::from_word(word).is_some() {
        return None;
    }
    let complaint = Complaint::new(&mount.kind.at, format!("there is no kind of mount `{word}`"));
    Some(complaint.or_meant(word, words()).fix(format!(
        "the kinds are {}",
        words().collect::<Vec<_>>().join(", ")
    )))
}

fn condition_of(condition: &At<String>, source: Source<'_>) -> Option<Complaint> {
    let at = |range: &std::ops::Range<usize>| inside(condition, range, source);
    match Condition::parse(&condition.value) {
        Err(misread) => Some(
            Complaint::new(&at(&misread.range), "this `if` cannot be read")
                .label(misread.message)
                .fix("for example: ${env.DEPLOY} == 'yes' && success()"),
        ),
        Ok(read) => read
            .named()
            .into_iter()
            .find(|(space, _)| *space == "run")
            .map(|_| {
                Complaint::new(
                    &condition.at,
                    "an `if` is decided before there is a run: ${run.id} is not known",
                )
            }),
    }
}

/// The place of a part of a value, if the value stands in the file as it is.
#[must_use]
pub fn inside(
    value: &At<String>,
    part: &std::ops::Range<usize>,
    source: Source<'_>,
) -> std::ops::Range<usize> {
    let written = source.text.get(value.at.clone()).unwrap_or_default();
    match written.find(&value.value) {
        Some(offset) => value.at.start + offset + part.start..value.at.start + offset + part.end,
        None => value.at.clone(),
    }
}

fn glob(pattern: &At<String>) -> Option<Complaint> {
    let text = pattern.value.as_str();
    let complaint = |what: &str| Some(Complaint::new(&pattern.at, what));
    let parts = || text.split('/');
    if text.is_empty() {
        return complaint("the pattern is empty");
    }
    if text.starts_with('/') || parts().any(|part| part == "..") {
        return complaint("a pattern stays inside of the project's directory")
            .map(|complaint| complaint.label("neither / at the beginning nor .."));
    }
    if parts().next().is_some_and(|first| first == ".qwex") {
        return complaint("`.qwex` belongs to qwex");
    }
    let names = variables::names(text).is_ok_and(|names| !names.is_empty());
    let broken = Globs::new(&[text]).err().filter(|_| !names)?;
    Some(Complaint::new(&pattern.at, "this is no pattern of files").label(broken.why))
}
