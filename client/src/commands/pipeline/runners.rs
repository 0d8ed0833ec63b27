//! The backends of a pipeline's stages: those of this directory, and the server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use qwex_api::run::SubmitRequest;
use qwex_core::{Flag, Project, Provenance, Run, RunId, RunStatus, Span};
use qwex_runner::{Backend, StoreError, Transfer};

use super::super::guard::{Guard, asked, asked_of_server, warn};
use super::super::provenance;
use super::super::session::Session;
use crate::cli::{Global, REMOTE};
use crate::direct::{Direct, DirectError, NewRun, Placed, Sent, registry};
use crate::error::{CliError, Exit};
use crate::pipeline::{
    Brought, Moment, Over, Pipeline, StageError, StageRecord, StageRun, StageRunner, StageStatus, Waited,
};
use crate::policy::Finding;
use crate::remote::{ApiError, JobApiClient};

/// Longest long-poll asked of the server.
const POLL: Span = Span::from_secs(30);
/// How often the record of a run of this directory is read that is not over.
const LOOK: Duration = Duration::from_secs(5);

/// Every backend that a stage may name.
pub struct Runners {
    direct: Direct,
    dir: PathBuf,
    /// What may be started. An error refuses every stage and keeps nobody from watching those that run.
    guard: Result<Guard, CliError>,
    remote: RefCell<Option<Arc<dyn JobApiClient>>>,
    /// Reads the settings once more: somebody may have logged in meanwhile.
    settings: Global,
    project: Option<Project>,
}

/// Refuses before anything is recorded what a policy forbids and what the backends cannot do.
pub async fn check(session: &Session, dir: &Path, pipeline: &Pipeline) -> Result<(), CliError> {
    let guard = Guard::load()?;
    let direct = Direct::at(dir)?;
    let mut warned: Vec<(&str, Vec<Finding>)> = Vec::new();
    let mut opened: BTreeMap<(&str, Option<&str>), Arc<dyn Backend>> = BTreeMap::new();
    for stage in pipeline
        .stages
        .iter()
        .filter(|stage| stage.status == StageStatus::Pending)
    {
        let word = stage.backend.as_str();
        if word == REMOTE {
            session.client()?;
            refuse_files(stage)?;
            let found = guard.forbids(&asked_of_server(&stage.spec));
            warned.push((&stage.stage, found.map_err(|error| of_stage(error, stage))?));
            continue;
        }
        let placed = placed(&guard, dir, &StagePlace::of(stage))?;
        let found = guard.forbids(&asked(&placed, &stage.spec));
        warned.push((&stage.stage, found.map_err(|error| of_stage(error, stage))?));
        let place = (word, stage.host.as_deref());
        let backend = match opened.get(&place) {
            Some(backend) => backend.clone(),
            None => open(&direct, placed, stage).await?,
        };
        opened.insert(place, backend.clone());
        let Some(problem) = backend.validate(&stage.spec).into_iter().next() else {
            continue;
        };
        return Err(CliError::usage(format!(
            "the stage {} cannot run on the backend {word}: {}",
            stage.name, problem.detail
        ))
        .why(format!("its field {}", problem.pointer))
        .fix("choose another backend for it in qwex.yaml, or take the field away")
        .code(problem.code));
    }
    // The runs of a matrix execute the same script.
    warned.dedup();
    for (stage, findings) in warned {
        warn(session.progress, &findings, Some(stage));
    }
    Ok(())
}

fn of_stage(mut error: CliError, stage: &StageRecord) -> CliError {
    error.what = format!("the stage {} cannot run: {}", stage.name, error.what);
    error
}

async fn open(direct: &Direct, placed: Placed, stage: &StageRecord) -> Result<Arc<dyn Backend>, CliError> {
    let word = stage.backend.as_str();
    if registry::find(word).is_none() {
        let names: Vec<&str> = registry::REGISTRY.iter().map(|entry| entry.name).collect();
        return Err(
            CliError::usage(format!("the backend {word} is not built into this version"))
                .why(format!("the stage {} names it", stage.name))
                .fix(format!("choose {} or {REMOTE}", names.join(", ")))
                .code("backend_not_built"),
        );
    }
    let opened = registry::open(direct.opening(placed)).await;
    opened.map_err(|error| {
        CliError::from(DirectError::from(error)).fix(format!(
            "the stage {} needs the backend {word}; see `qwexctl doctor`",
            stage.name
        ))
    })
}

/// A run of the server sees no files of this machine, and brings none back.
fn refuse_files(stage: &StageRecord) -> Result<(), CliError> {
    let field = match (stage.inputs.is_some(), stage.spec.outputs.is_empty()) {
        (true, _) => "inputs",
        (false, false) => "outputs",
        (false, true) => return Ok(()),
    };
    Err(CliError::usage(format!(
        "the stage {} has {field}, and no files go to the server or come from it",
        stage.name
    ))
    .why("its backend is remote")
    .fix(format!(
        "take `{field}` away and let the command fetch and store its files itself"
    ))
    .fix("or give the stage a backend that the files can go to: local, docker, podman, ssh, k8s or kueue")
    .code("remote_files"))
}

/// Where a stage runs.
struct StagePlace<'a> {
    backend: &'a str,
    host: Option<&'a str>,
    send: &'a Transfer,
}

impl<'a> StagePlace<'a> {
    fn of(stage: &'a StageRecord) -> Self {
        Self {
            backend: &stage.backend,
            host: stage.host.as_deref(),
            send: &Transfer::Nothing,
        }
    }
}

/// Whether a run there works on a copy of the project's directory.
fn goes_over(backend: &str) -> bool {
    ["ssh", "k8s", "kueue"].contains(&backend)
}

/// What of the project's directory the run sees, and on which machine.
fn placed(guard: &Guard, dir: &Path, stage: &StagePlace<'_>) -> Result<Placed, CliError> {
    // Containers of this machine have the directory itself.
    let goes_over = goes_over(stage.backend);
    let send = match stage.send {
        Transfer::Only(paths) if goes_over => Sent::Only(paths.clone()),
        Transfer::Everything if goes_over => Sent::Everything,
        Transfer::Nothing | Transfer::Only(_) | Transfer::Everything => Sent::Nothing,
    };
    guard.fit(Placed {
        backend: stage.backend.to_owned(),
        address: stage.host.map(str::to_owned),
        workspace: Some(dir.to_owned()),
        send,
        ..Placed::default()
    })
}

impl Runners {
    /// # Errors
    /// The directory cannot be used.
    pub fn open(session: &Session, global: &Global, dir: &Path) -> Result<Self, CliError> {
        Ok(Self {
            direct: Direct::at(dir)?,
            dir: dir.to_owned(),
            guard: Guard::load(),
            remote: RefCell::new(server_of(session)?),
            settings: global.clone(),
            project: session.project(),
        })
    }

    /// What the server answers. Who is not let in is let in once somebody has logged in: the settings are read again.
    async fn ask<T, F>(&self, call: impl FnOnce(Arc<dyn JobApiClient>) -> F) -> Result<T, CliError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let answer = call(self.server()?).await.map_err(CliError::from);
        if let Err(error) = &answer
            && matches!(error.exit, Exit::NotLoggedIn | Exit::Forbidden)
        {
            self.remote.take();
        }
        answer
    }

    /// The runs of the project's directory.
    pub fn direct(&self) -> &Direct {
        &self.direct
    }

    /// The server, for the log of a stage there.
    pub fn server(&self) -> Result<Arc<dyn JobApiClient>, CliError> {
        if let Some(client) = self.remote.borrow().as_ref() {
            return Ok(client.clone());
        }
        let client = Session::new(&self.settings)?.client()?;
        self.remote.replace(Some(client.clone()));
        Ok(client)
    }

    /// The log files of a run of this directory, first attempt first.
    pub fn log_files(&self, id: RunId) -> Result<Vec<PathBuf>, CliError> {
        let last = self.direct.get(id)?.attempt;
        let mut all = Vec::new();
        for attempt in (1..=last.0).map(qwex_core::Attempt) {
            let files = self.direct.log_files(id, attempt)?;
            all.extend(files.into_iter().map(|(_, path)| path));
        }
        Ok(all)
    }

    /// What was brought of the outputs of a run that is over; `None`: nothing had to be.
    fn brought(&self, run: &Run) -> Result<Option<Brought>, StageError> {
        let outputs = self.direct.outputs(run.id).map_err(unseen)?.unwrap_or_default();
        if let Some(message) = outputs.trouble().filter(|_| run.status == RunStatus::Succeeded) {
            // Its keeper goes on bringing them: to run it once more would be work for nothing.
            return Err(if self.direct.are_outputs_tried(run).map_err(unseen)? {
                StageError::Unreachable { message }
            } else if outputs.is_there || !outputs.held.is_empty() {
                let (id, force) = (run.id, if outputs.held.is_empty() { "" } else { "--force " });
                StageError::Unbrought {
                    message: format!(
                        "{message} (fix: `qwexctl outputs {force}{id}`, then resume the pipeline; or have it run again: \
                         `qwexctl rm --force {id}`, then resume)"
                    ),
                }
            } else {
                StageError::Refused {
                    message: format!("{message} (to resume the pipeline has them made again)"),
                }
            });
        }
        let placed = self.direct.placed(run.id).map_err(unseen)?;
        if !goes_over(&placed.backend) {
            return Ok(None);
        }
        let meta = std::fs::metadata(self.direct.outputs_file(run.id).map_err(unseen)?);
        Ok(Some(Brought {
            paths: outputs.collected.into_iter().flatten().collect(),
            at: meta.map_or(Moment(0, 0), |meta| Moment::from(&meta)),
        }))
    }

    async fn submit_to_server(&self, run: &StageRun) -> Result<(), CliError> {
        let request = SubmitRequest {
            id: Some(run.id),
            name: Some(run.name.clone()),
            project: self.project.clone(),
            labels: run.labels.clone(),
            ..SubmitRequest::from_spec(run.spec.clone())
        };
        self.ask(async |client| client.submit(&request).await.map(drop))
            .await
    }

    async fn submit_here(&self, run: &StageRun, placed: Placed) -> Result<(), CliError> {
        let project = self.project.clone();
        let new = NewRun {
            id: run.id,
            name: Some(run.name.clone()),
            project: project.unwrap_or_else(|| Project::new("default").expect("a valid name")),
            labels: run.labels.clone(),
            spec: run.spec.clone(),
            provenance: Provenance {
                runs_by: run.runs_by.clone(),
                ..provenance::of(&self.dir)
            },
        };
        let opening = self.direct.opening(placed);
        let (_, placed) = registry::pinned(opening).await?;
        self.direct.start(new, &placed)?;
        Ok(())
    }
}

/// The client of the chosen server; `None`: none is chosen, and the stages that need one tell so.
fn server_of(session: &Session) -> Result<Option<Arc<dyn JobApiClient>>, CliError> {
    let is_set = session.settings.server.is_some();
    is_set.then(|| session.client()).transpose()
}

#[async_trait(?Send)]
impl StageRunner for Runners {
    async fn submit(&self, run: &StageRun) -> Result<(), StageError> {
        let guard = self.guard.as_ref().map_err(|error| refused(error.clone()))?;
        if run.backend == REMOTE {
            guard.forbids(&asked_of_server(&run.spec)).map_err(refused)?;
            return self.submit_to_server(run).await.map_err(unsent);
        }
        let placed = placed(
            guard,
            &self.dir,
            &StagePlace {
                backend: &run.backend,
                host: run.host.as_deref(),
                send: &run.send,
            },
        );
        let placed = placed.map_err(refused)?;
        // The scripts of this stage may have been made by those before it.
        guard.forbids(&asked(&placed, &run.spec)).map_err(refused)?;
        self.submit_here(run, placed).await.map_err(unsent)
    }

    async fn has(&self, backend: &str, id: RunId) -> Result<bool, StageError> {
        if backend == REMOTE {
            return match self.ask(async |client| client.get_run(id, None).await).await {
                Ok(_) => Ok(true),
                Err(error) if error.exit == Exit::NotFound => Ok(false),
                Err(error) => Err(unseen(error)),
            };
        }
        match self.direct.get(id) {
            Ok(run) if run.backend.is_some() || run.status.is_terminal() => Ok(true),
            // Recorded: its keeper hands it over, if it has one.
            Ok(_) => self.direct.is_kept(id).map_err(unseen),
            Err(DirectError::Store(StoreError::NotFound { .. })) => Ok(false),
            Err(error) => Err(unseen(error)),
        }
    }

    async fn wait(&self, backend: &str, id: RunId) -> Result<Waited, StageError> {
        if backend == REMOTE {
            let asked = self.ask(async |client| client.get_run(id, Some(POLL)).await);
            let run = asked.await.map_err(unseen)?.value;
            return Ok(if run.status.is_terminal() {
                Waited::Over(Box::new(Over { run, brought: None }))
            } else {
                goes_on(&run)
            });
        }
        let run = match tokio::time::timeout(LOOK, self.direct.wait(id)).await {
            Ok(run) => run.map_err(unseen)?,
            Err(_) => return Ok(goes_on(&self.direct.get(id).map_err(unseen)?)),
        };
        let brought = self.brought(&run)?;
        Ok(Waited::Over(Box::new(Over { run, brought })))
    }

    async fn ask_again(&self, backend: &str, id: RunId) -> Result<(), StageError> {
        if backend == REMOTE {
            return Ok(());
        }
        let run = self.direct.get(id).map_err(unseen)?;
        let missing = self.direct.missing_outputs(&run).map_err(unseen)?;
        match missing.filter(|_| run.status.is_terminal()) {
            Some(outputs) if !outputs.held.is_empty() => self
                .direct
                .put_held_outputs(id, false)
                .await
                .map(drop)
                .map_err(unseen),
            Some(outputs) if outputs.is_there => self.direct.request_outputs(id).map_err(unseen),
            Some(_) | None => Ok(()),
        }
    }

    async fn cancel(&self, backend: &str, id: RunId) -> Result<(), StageError> {
        let cancelled = if backend == REMOTE {
            self.ask(async |client| client.cancel(id).await.map(drop)).await
        } else {
            let cancelled = self.direct.cancel(id, Duration::ZERO).await;
            cancelled.map(drop).map_err(CliError::from)
        };
        match cancelled {
            Ok(()) => Ok(()),
            // It is over: whoever waits for it tells so.
            Err(error) if error.exit == Exit::Conflict => Ok(()),
            Err(error) if error.exit == Exit::NotFound => Err(StageError::Absent {
                message: sentence(&error),
            }),
            Err(error) => Err(unseen(error)),
        }
    }
}

/// A run that is not over, and what its record says of why it does not run.
fn goes_on(run: &Run) -> Waited {
    let out_of_sight = run.flags.contains(&Flag::ClusterUnreachable);
    let held_up = match &run.pending {
        Some(pending) => Some(pending.message.clone()),
        None => out_of_sight.then(|| "where it runs does not answer, so how it is cannot be seen".to_owned()),
    };
    Waited::On {
        held_up: held_up.filter(|why| !why.is_empty()),
    }
}

/// What was wrong, why, and how to mend it.
fn sentence(error: &CliError) -> String {
    let mut sentence = error.what.clone();
    if let Some(why) = &error.why {
        sentence = format!("{sentence}: {why}");
    }
    match error.fix.first() {
        Some(fix) => format!("{sentence} (fix: {fix})"),
        None => sentence,
    }
}

fn refused(error: CliError) -> StageError {
    let message = match &error.why {
        Some(why) => format!("{}: {why}", error.what),
        None => error.what,
    };
    StageError::Refused { message }
}

/// How it is with the run is not known: whatever keeps us from looking says nothing of it.
fn unseen(error: impl Into<CliError>) -> StageError {
    StageError::Unreachable {
        message: sentence(&error.into()),
    }
}

/// A run that was not taken. Only who says that it never will be taken is believed; that its id is taken means that it
/// may be there.
fn unsent(error: CliError) -> StageError {
    match error.exit {
        Exit::Usage | Exit::NotFound | Exit::NotLoggedIn | Exit::Forbidden => refused(error),
        Exit::Quiet
        | Exit::Failure
        | Exit::Conflict
        | Exit::Timeout
        | Exit::Unavailable
        | Exit::Cancelled
        | Exit::Qwex => unseen(error),
    }
}

#[cfg(test)]
mod tests {
    use qwex_core::JobSpec;
    use qwex_runner::Store;
    use qwex_runner::durable::Durability;
    use serde_json::json;

    use super::*;

    fn runners(dir: &Path) -> Runners {
        Runners {
            direct: Direct::at(dir).unwrap(),
            dir: dir.to_owned(),
            guard: Err(CliError::usage("nothing is started here")),
            remote: RefCell::default(),
            settings: crate::cli::parse(["qwexctl".into(), "ps".into()].to_vec())
                .unwrap()
                .global,
            project: None,
        }
    }

    /// What the driver hears of a stage that succeeded on a host, with such a file beside its run's record.
    async fn heard(outputs: serde_json::Value) -> Result<Waited, StageError> {
        let dir = tempfile::tempdir().unwrap();
        let spec = JobSpec {
            outputs: vec!["model.bin".to_owned()],
            ..JobSpec::for_command(["true"])
        };
        let run: Run = serde_json::from_value(json!({
            "id": RunId::mint(), "project": "default", "spec": spec, "status": "succeeded", "attempt": 1, "exit_code": 0,
            "logs": {"verdict": "complete", "bytes": 0, "lines": 0, "sha256": ""},
            "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
        }))
        .unwrap();
        let journal = Store::open(dir.path()).unwrap().create(&run).unwrap();
        let placed = Placed {
            backend: "ssh".to_owned(),
            ..Placed::default()
        };
        placed.write(&journal).unwrap();
        let text = outputs.to_string();
        journal
            .write_file("outputs.json", text.as_bytes(), Durability::Process)
            .unwrap();
        runners(dir.path()).wait("ssh", run.id).await
    }

    #[tokio::test]
    async fn a_stage_whose_files_are_still_on_their_way_has_not_failed() {
        let there =
            |is_tried: bool| json!({"failed": "the link broke", "is_tried": is_tried, "is_there": true});
        let told = heard(there(true)).await.unwrap_err();
        assert!(
            matches!(&told, StageError::Unreachable { message } if message.contains("are tried again")),
            "{told:?}"
        );
        let told = heard(there(false)).await.unwrap_err();
        assert!(
            matches!(&told, StageError::Unbrought { message } if message.contains("qwexctl outputs")),
            "{told:?}"
        );
        let told = heard(json!({"collected": [], "held": ["model.bin"]}))
            .await
            .unwrap_err();
        assert!(
            matches!(&told, StageError::Unbrought { message } if message.contains("qwexctl outputs --force")),
            "{told:?}"
        );
        let told = heard(json!({"failed": "the pod is gone"})).await.unwrap_err();
        assert!(
            matches!(&told, StageError::Refused { message } if message.contains("made again")),
            "{told:?}"
        );
        let heard = heard(json!({"collected": ["model.bin"]})).await.unwrap();
        let Waited::Over(over) = heard else {
            panic!("{heard:?}")
        };
        assert_eq!(over.brought.unwrap().paths, [PathBuf::from("model.bin")].into());
    }
}
