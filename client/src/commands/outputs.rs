//! `outputs`: the files that a run made elsewhere and that came back, and one more try to bring those that did not. Beside
//! it what every other command says of outputs that are not here.

use qwex_core::{Run, RunId};
use serde_json::json;

use super::Done;
use super::full_disk;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::OutputsArgs;
use crate::direct::{Asked, Direct, Outputs};
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
    let brought = brought(session, &direct, &run, args).await?;
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
async fn brought(
    session: &Session,
    direct: &Direct,
    run: &Run,
    args: &OutputsArgs,
) -> Result<Vec<String>, CliError> {
    let id = run.id;
    let is_on_its_way = run.logs.is_none() && direct.is_kept(id)?;
    let mut outputs = match direct.outputs(id)? {
        None if !is_on_its_way || run.started_at.is_none() => return Ok(Vec::new()),
        Some(outputs) if outputs.collected.is_some() || !outputs.is_there => outputs,
        None | Some(_) => asked(session, direct, id, args).await?,
    };
    if !outputs.held.is_empty() {
        outputs = direct.put_held_outputs(id, args.force).await?;
    }
    let Some(trouble) = outputs.trouble() else {
        let paths = outputs.collected.into_iter().flatten();
        return Ok(paths.map(|path| path.display().to_string()).collect());
    };
    let (exit, what) = match (outputs.held.is_empty(), outputs.is_tried) {
        (true, true) => (Exit::Unavailable, "cannot be brought"),
        (true, false) => (Exit::Failure, "cannot be brought"),
        (false, _) => (Exit::Conflict, "are not all put into the workspace"),
    };
    let told = CliError::new(exit, format!("the outputs of run {id} {what}")).why(trouble);
    let told = told.code("outputs_missing");
    Err(ways(direct, id, &outputs).into_iter().fold(told, CliError::fix))
}

/// What the keeper answers, within a limit.
async fn asked(
    session: &Session,
    direct: &Direct,
    id: RunId,
    args: &OutputsArgs,
) -> Result<Outputs, CliError> {
    let place = direct.placed(id)?.words();
    session
        .progress
        .stage("bringing", &format!("the outputs of run {id} from {place}"));
    let tell = |why: &str| {
        let words =
            format!("{place} cannot be asked: {why}; trying again, Ctrl-C leaves it to the run's keeper");
        session.progress.stage("waiting", &words);
    };
    let limit = args.timeout.as_duration();
    match direct.ask_for_outputs(id, limit, tell).await? {
        Asked::Answered(outputs) => Ok(outputs),
        Asked::Unanswered => Err(CliError::new(
            Exit::Unavailable,
            format!("the outputs of run {id} cannot be brought"),
        )
        .why(format!(
            "no word came from {place} for {}; the run's keeper goes on, and `qwexctl get {id}` says what comes of it",
            args.timeout
        ))
        .fix(format!("wait longer: `qwexctl outputs {id} --timeout 10m`"))
        .fix(format!("or give them up: `qwexctl rm --force {id}`"))
        .code("outputs_missing")),
    }
}

fn of_server(id: RunId) -> CliError {
    CliError::usage(format!("run {id} is one of a server, which brings no files back"))
        .why("only runs that this directory keeps have outputs")
        .fix("let its command store its files itself; what it wrote to its log: `qwexctl logs`")
        .code("remote_files")
}

/// The exit code of a run for whoever waited for it: a success whose outputs are not here is none.
pub fn outputs_code(session: &Session, direct: &Direct, run: &Run, code: u8) -> Done {
    if code != 0
        && let Some((trouble, way)) = full_disk::trouble(direct, run.id)
    {
        session.progress.note(&format!("{trouble}; {way}"));
    }
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
    Ok(outputs.and_then(|outputs| {
        let ways = ways(direct, run.id, &outputs).join("; ");
        Some((outputs.trouble()?, ways))
    }))
}

fn ways(direct: &Direct, id: RunId, outputs: &Outputs) -> Vec<String> {
    let give_up = format!("or give them up: `qwexctl rm --force {id}`");
    if !outputs.held.is_empty() {
        let place = direct.held_outputs(id).unwrap_or_default();
        return vec![
            format!("look at what came: {}", place.display()),
            format!("have it take the place of what is there: `qwexctl outputs --force {id}`"),
            format!("or move your own away, then: `qwexctl outputs {id}`"),
        ];
    }
    match (outputs.is_there, outputs.is_away) {
        (true, false) => vec![format!("have them brought now: `qwexctl outputs {id}`"), give_up],
        (true, true) => vec![
            format!("mend the way there, then have them brought: `qwexctl outputs {id}`"),
            give_up,
        ],
        (false, _) => vec![format!("have them made again: `qwexctl rerun {id}`")],
    }
}
