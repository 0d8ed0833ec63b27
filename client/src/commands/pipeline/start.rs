//! `pipeline run` and `pipeline plan`: a pipeline out of the project file.

use std::path::Path;

use serde_json::json;

use super::super::Done;
use super::super::interrupt::Interrupts;
use super::super::project_file::{here, named_backend, nearest, variables};
use super::super::session::Session;
use super::super::uv;
use super::{flags, follow};
use crate::cli::{Global, PipelinePlan, PipelineRun, Selection};
use crate::error::{CliError, Exit};
use crate::output::table;
use crate::pipeline::{Foreseen, Pipeline, PipelineId, Shelf, Wanted, foresee, make, start, turns};
use crate::project_file::{self, Read, Stage};

pub async fn run(session: &Session, global: &Global, args: PipelineRun) -> Done {
    let interrupts = Interrupts::listen()?;
    let read = read(&args.selection)?;
    let pipeline = made(session, &read, &args.selection, args.max_parallel)?;
    super::runners::check(session, directory(&read.path), &pipeline).await?;
    tell_turns(session, &pipeline);
    let shelf = Shelf::open(directory(&read.path))?;
    let shelved = shelf.put(&pipeline)?;
    start(&shelved, &flags(global))?;
    let ways = follow::Ways {
        detach: args.detach,
        cancel_on_interrupt: args.cancel_on_interrupt,
    };
    follow::or_leave(session, global, &shelved, &ways, interrupts).await
}

pub async fn plan(session: &Session, args: &PipelinePlan) -> Done {
    let read = read(&args.selection)?;
    let pipeline = made(session, &read, &args.selection, None)?;
    super::runners::check(session, directory(&read.path), &pipeline).await?;
    tell_turns(session, &pipeline);
    let foreseen = foresee(directory(&read.path), &pipeline)?;
    let items: Vec<serde_json::Value> = pipeline
        .stages
        .iter()
        .zip(&foreseen)
        .map(|(stage, foreseen)| {
            let from = match foreseen {
                Foreseen::Reuse(id) => Some(id),
                Foreseen::Run | Foreseen::RunAgain(_) => None,
            };
            json!({
                "name": stage.name, "needs": stage.needs, "backend": stage.backend, "if": stage.condition,
                "action": if from.is_some() { "reuse" } else { "run" }, "reused_from": from, "spec": stage.spec,
            })
        })
        .collect();
    session.out.one(&json!({"items": items}), &names(&pipeline), || {
        let rows: Vec<Vec<String>> = pipeline
            .stages
            .iter()
            .zip(&foreseen)
            .map(|(stage, foreseen)| {
                let action = match (foreseen, &stage.condition) {
                    (Foreseen::Reuse(id), _) => format!("reuse from run {id}"),
                    (Foreseen::Run | Foreseen::RunAgain(_), Some(condition)) => format!("run if {condition}"),
                    (Foreseen::Run, None) => "run".to_owned(),
                    (Foreseen::RunAgain(why), None) => format!("run; {why}"),
                };
                vec![
                    stage.name.clone(),
                    stage.needs.join(","),
                    stage.backend.clone(),
                    action,
                ]
            })
            .collect();
        table(
            (!session.out.no_headers).then_some(&["STAGE", "NEEDS", "BACKEND", "ACTION"][..]),
            &rows,
        )
    })?;
    Ok(0)
}

/// Which stages do not run side by side although the graph would let them.
fn tell_turns(session: &Session, pipeline: &Pipeline) {
    for sentence in turns(pipeline) {
        session.progress.note(&format!(
            "{sentence}; for side by side give each outputs of its own, such as out/${{matrix.x}}/**"
        ));
    }
}

fn names(pipeline: &Pipeline) -> String {
    let names: Vec<&str> = pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
    names.join("\n")
}

fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn read(selection: &Selection) -> Result<Read<Vec<Stage>>, CliError> {
    let dir = here()?;
    let path = match &selection.file {
        Some(path) => dir.join(path),
        None => nearest(&dir)?,
    };
    project_file::read(&path, &dir)
}

fn made(
    session: &Session,
    read: &Read<Vec<Stage>>,
    selection: &Selection,
    max_parallel: Option<u32>,
) -> Result<Pipeline, CliError> {
    let id = PipelineId::mint();
    let variables = variables(&selection.variables)?;
    let named = named_backend(selection.backend.as_deref())?;
    let expanded = project_file::expanded(
        &read.file,
        read.source(),
        &variables,
        &id.to_string(),
        named.as_deref(),
    )
    .map_err(|complaints| project_file::refused(read.source(), &complaints))?;
    if expanded.instances.is_empty() {
        return Err(CliError::usage(format!("{} has no stages", read.shown))
            .fix("add some under `stages:`; `qwexctl help spec` shows how"));
    }
    known(&expanded, &selection.stages)?;
    let wanted = Wanted {
        id,
        name: read.file.name.clone(),
        file: read
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        max_parallel: max_parallel.or(read.file.max_parallel.as_ref().map(|most| most.value)),
        no_cache: selection.no_cache,
        only: selection.stages.clone(),
    };
    let mut pipeline = make(wanted, expanded);
    if !selection.no_uv {
        uv::run_stages_through(session, directory(&read.path), &mut pipeline);
    }
    Ok(pipeline)
}

fn known(expanded: &project_file::Expanded, stages: &[String]) -> Result<(), CliError> {
    let is_known = |name: &&String| {
        expanded
            .instances
            .iter()
            .any(|one| one.name == **name || one.stage == **name)
    };
    let Some(unknown) = stages.iter().find(|name| !is_known(name)) else {
        return Ok(());
    };
    let names = || expanded.instances.iter().map(|one| one.stage.as_str());
    let error = CliError::new(Exit::NotFound, format!("there is no stage {unknown:?}")).code("not_found");
    Err(match project_file::nearest(unknown, names()) {
        Some(near) => error.fix(format!("did you mean {near}?")),
        None => {
            let mut all: Vec<&str> = names().collect();
            all.dedup();
            error.fix(format!("the stages are {}", all.join(", ")))
        }
    })
}
