//! `outputs`: the files that a run made elsewhere and that came back, and one more try to bring those that did not. Beside
//! it what every other command says of outputs that are not here.

use qwex_core::{Run, RunId};
use serde_json::json;

use super::Done;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::OutputsArgs;
use crate::direct::{Direct, Outputs};
use crate::error::{CliError, Exit};
use crate::output::escape::one_line;

pub async fn outputs(session: &Session, args: &OutputsArgs) -> Done {
    let (direct, id) = match find(session, &args.run).await? {
        Target::Here(direct, id) => (direct, id),
        Target::Remote(_, id) => return Err(of_server(id)),
    };
    let run = direct.settled(direct.get(id)?).await?;
    if !run.status.is_terminal() {
        return Err(CliError::new(Exit::Conflict, format!("run {id} is not over"))
            .why("outputs are brought after the end")
            .fix(format!("wait for it: `qwexctl wait {id}`"))
            .code("wrong_state"));
    }
    if run.spec.outputs.is_empty() {
        return Err(
            CliError::new(Exit::NotFound, format!("run {id} names no outputs"))
                .why("only files that were named before it started are brought back")
                .fix("name them: `qwexctl run --outputs GLOB`, or `outputs:` of a stage in qwex.yaml")
                .code("no_outputs"),
        );
    }
    let brought = brought(session, &direct, &run).await?;
    let workspace = direct.placed(id)?.workspace;
    let found = json!({"id": id, "workspace": workspace, "paths": brought});
    // The names are of whatever ran there.
    let lines = || {
        brought
            .iter()
            .map(|path| format!("{}\n", one_line(path)))
            .collect::<String>()
    };
    session.out.one(&found, &brought.join("\n"), lines)?;
    if brought.is_empty() && session.out.for_people() {
        let place = workspace.unwrap_or_default();
        session.progress.note(&match run.started_at {
            None => format!("run {id} never started, and made nothing"),
            Some(_) => format!(
                "nothing was brought for run {id}: what it made in {} itself is there",
                place.display()
            ),
        });
    }
    Ok(0)
}

/// The paths that were brought, now or before; none: nothing had to be.
async fn brought(session: &Session, direct: &Direct, run: &Run) -> Result<Vec<String>, CliError> {
    let id = run.id;
    let known = direct.outputs(id)?;
    let outputs = match known {
        None => return Ok(Vec::new()),
        Some(outputs) if outputs.collected.is_none() && outputs.is_there => {
            let place = direct.placed(id)?.words();
            session
                .progress
                .stage("bringing", &format!("the outputs of run {id} from {place}"));
            direct.ask_for_outputs(id).await?
        }
        Some(outputs) => outputs,
    };
    let Some(trouble) = outputs.trouble() else {
        let paths = outputs.collected.into_iter().flatten();
        return Ok(paths.map(|path| path.display().to_string()).collect());
    };
    let exit = if outputs.is_tried {
        Exit::Unavailable
    } else {
        Exit::Failure
    };
    Err(
        CliError::new(exit, format!("the outputs of run {id} cannot be brought"))
            .why(trouble)
            .fix(way(id, &outputs))
            .code("outputs_missing"),
    )
}

fn of_server(id: RunId) -> CliError {
    CliError::usage(format!("run {id} is one of a server, which brings no files back"))
        .why("only runs that this directory keeps have outputs")
        .fix("let its command store its files itself; what it wrote to its log: `qwexctl logs`")
        .code("remote_files")
}

/// The exit code of a run for whoever waited for it: a success whose outputs are not here is none.
pub fn outputs_code(session: &Session, direct: &Direct, run: &Run, code: u8) -> Done {
    let Some((trouble, way)) = missing(direct, run)? else {
        return Ok(code);
    };
    if code != 0 {
        session.progress.note(&format!("{trouble}; {way}"));
        return Ok(code);
    }
    Err(CliError::new(
        Exit::Qwex,
        format!("run {} succeeded, but without its outputs", run.id),
    )
    .why(trouble)
    .fix(way)
    .code("outputs_missing"))
}

/// Why outputs of a run are not here, and what to do about it.
pub fn missing(direct: &Direct, run: &Run) -> Result<Option<(String, String)>, CliError> {
    let outputs = direct.missing_outputs(run)?;
    Ok(outputs.and_then(|outputs| Some((outputs.trouble()?, way(run.id, &outputs)))))
}

fn way(id: RunId, outputs: &Outputs) -> String {
    if outputs.is_there {
        format!("have them brought now: `qwexctl outputs {id}`; or give them up: `qwexctl rm --force {id}`")
    } else {
        format!("have them made again: `qwexctl rerun {id}`")
    }
}
