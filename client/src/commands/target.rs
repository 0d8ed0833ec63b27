//! Whether a word on the command line means a run of this directory or one of the server.

use std::sync::{Arc, Once};

use qwex_core::RunId;
use qwex_runner::StoreError;

use super::resolve;
use super::session::Session;
use crate::direct::{Direct, DirectError};
use crate::error::CliError;
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
        if let (None, Some(direct)) = (&session.settings.server, records(session)?) {
            return Err(absent(word, &direct));
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
fn absent(word: &str, direct: &Direct) -> CliError {
    let not_found = StoreError::NotFound {
        word: word.to_owned(),
    };
    CliError::from(DirectError::from(not_found))
        .why(format!("{} has no such run", direct.path().display()))
        .fix("a run of a server: name the server, with --server URL or a context")
}

/// The run of this directory that a word means, where those of a server are not meant; `why` says what about them.
pub fn recorded(direct: &Direct, word: &str, why: &str) -> Result<RunId, CliError> {
    direct.resolve(word).map_err(|error| {
        let is_absent = matches!(error, DirectError::Store(StoreError::NotFound { .. }));
        let told = CliError::from(error);
        if !is_absent {
            return told;
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
