//! Whether a word on the command line means a run of this directory or one of the server.

use std::sync::{Arc, Once};

use qwex_core::RunId;
use qwex_runner::StoreError;

use super::resolve;
use super::session::Session;
use crate::direct::{Direct, DirectError};
use crate::error::{CliError, Exit};
use crate::remote::JobApiClient;

/// A run and who has it.
pub enum Target {
    Here(Box<Direct>, RunId),
    Remote(Arc<dyn JobApiClient>, RunId),
}

/// Finds the run: one of this directory if the word means one here, else one of the server. Of two newest ones the
/// newer is meant.
pub async fn find(session: &Session, word: &str) -> Result<Target, CliError> {
    let here = here(session, word)?;
    let Some((local, id)) = here else {
        if session.settings.server.is_none() {
            return Err(absent(word, records(session)?.as_ref()));
        }
        let client = session.client()?;
        let id = resolve::remote(session, client.as_ref(), word).await?;
        return Ok(Target::Remote(client, id));
    };
    if word.starts_with('@') && session.settings.server.is_some() {
        let client = session.client()?;
        match resolve::remote(session, client.as_ref(), word).await {
            // Ids begin with their time.
            Ok(there) if there > id => return Ok(Target::Remote(client, there)),
            Ok(_) => {}
            Err(error) => session.progress.note(&format!(
                "{}, so the newest of this directory is meant",
                error.what
            )),
        }
    }
    Ok(Target::Here(Box::new(local), id))
}

/// Without a server the word can only mean a run of this directory, and there is none.
fn absent(word: &str, direct: Option<&Direct>) -> CliError {
    let has_any = direct.is_some_and(|direct| direct.ids().is_ok_and(|ids| !ids.is_empty()));
    let told = |what: String| CliError::new(Exit::NotFound, what).code("not_found");
    let error = match (direct, word) {
        (Some(direct), word) if has_any => {
            let what = match word {
                "@last-failed" => "no run here has failed".to_owned(),
                word => format!("no run here is named `{word}`"),
            };
            let why = format!("{} has no such run", direct.path().display());
            told(what).why(why).fix("see what is here: `qwexctl ps --local`")
        }
        (Some(_) | None, _) => told("there are no runs here yet".to_owned())
            .why("none is recorded in this directory or above it, and no server is set")
            .fix("start one: `qwexctl run -- echo hello`")
            .fix("or change to the directory in which the run was started"),
    };
    error.fix("a run of a server: name the server, with --server URL or a context")
}

/// The run of this directory that a word means, where those of a server are not meant; `why` says what about them.
pub fn recorded(direct: &Direct, word: &str, why: &str) -> Result<RunId, CliError> {
    direct.resolve(word).map_err(|error| {
        let is_absent = matches!(error, DirectError::Store(StoreError::NotFound { .. }));
        let told = CliError::from(error);
        if !is_absent {
            return told;
        }
        if direct.ids().is_ok_and(|ids| ids.is_empty()) {
            return CliError::new(told.exit, "there are no runs here")
                .why(format!("{} is empty; {why}", direct.path().display()))
                .fix("change to the directory in which the run was started")
                .code("not_found");
        }
        told.why(format!("{word:?} names no record of this directory; {why}"))
    })
}

/// The runs that are recorded in this directory or above it.
pub fn records(session: &Session) -> Result<Option<Direct>, CliError> {
    let (direct, passed_over) = Direct::find()?;
    tell_passed_over(session, passed_over.as_ref());
    Ok(direct)
}

/// Says once whose records were not looked at, and what to do if they should be.
pub fn tell_passed_over(session: &Session, passed_over: Option<&StoreError>) {
    static TOLD: Once = Once::new();
    if let Some(error @ StoreError::Foreign { path, .. }) = passed_over {
        let project = path.parent().unwrap_or(path).display();
        TOLD.call_once(|| {
            session.progress.note(&format!(
                "{error}; if you trust whoever wrote it: QWEX_SAFE_DIRECTORY={project}"
            ));
        });
    }
}

fn here(session: &Session, word: &str) -> Result<Option<(Direct, RunId)>, CliError> {
    let Some(local) = records(session)? else {
        return Ok(None);
    };
    match local.resolve(word) {
        Ok(id) => Ok(Some((local, id))),
        Err(DirectError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
