//! `pull`: runs that a server keeps, into the records of this directory.

use futures::StreamExt;
use qwex_core::{Run, RunEvent, RunId, Span};
use qwex_runner::StoreError;

use super::Done;
use super::resolve;
use super::session::Session;
use super::transfer::{Carried, Tally, differs, found, not_over};
use crate::cli::PullArgs;
use crate::direct::{Direct, DirectError, History};
use crate::error::CliError;
use crate::remote::{Answer, EventQuery, JobApiClient, Listing, LogQuery};

/// Longest long-poll asked of the server.
const POLL: Span = Span::from_secs(30);
/// The log of a run is sealed soon after its end; the server tells no time.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

pub async fn pull(session: &Session, args: &PullArgs) -> Done {
    let client = session.client()?;
    let mut ids = Vec::new();
    for word in &args.runs {
        ids.push(resolve::remote(session, client.as_ref(), word).await?);
    }
    let direct = Direct::open()?;
    let mut tally = Tally::new(session, "pulled");
    for id in ids {
        tally.take(id, one(&direct, client.as_ref(), id, args.wait).await)?;
    }
    tally.finish()
}

async fn one(
    direct: &Direct,
    client: &dyn JobApiClient,
    id: RunId,
    is_patient: bool,
) -> Result<Carried, CliError> {
    let run = sealed(client, id, is_patient).await?;
    let carried = |run, is_new, words: String| Carried { run, is_new, words };
    match direct.get(id) {
        Ok(here) => {
            let here = direct.settled(here).await?;
            return match here.difference(&run.value) {
                None => Ok(carried(run, false, format!("from {}", client.server()))),
                Some(what) => Err(differs(id, what, "this directory has")),
            };
        }
        Err(DirectError::Store(StoreError::NotFound { .. })) => {}
        Err(error) => return Err(error.into()),
    }
    let history = history(client, id).await?;
    let mut receiving = direct.receive(&run.value, history)?;
    let mut bytes = client.read_log(id, &LogQuery::default()).await?;
    while let Some(part) = bytes.next().await {
        receiving.write(&part?)?;
    }
    let json = serde_json::to_vec(&run.json).expect("JSON that was read can be written");
    receiving.finish(&run.value, &json, client.server())?;
    let size = run.value.logs.as_ref().map_or(0, |logs| logs.bytes);
    let words = format!("{size} bytes of log, from {}", client.server());
    Ok(carried(run, true, words))
}

/// The run once nothing of it changes any more.
async fn sealed(client: &dyn JobApiClient, id: RunId, is_patient: bool) -> Result<Answer<Run>, CliError> {
    let mut run = client.get_run(id, None).await?;
    loop {
        let is_over = run.value.status.is_terminal();
        if is_over && run.value.logs.is_some() {
            return Ok(run);
        }
        if !is_patient {
            return Err(
                not_over(&run.value, "pulled").fix(format!("wait for it: `qwexctl pull {id} --wait`"))
            );
        }
        if is_over {
            tokio::time::sleep(LOOK).await;
        }
        run = client.get_run(id, Some(POLL).filter(|_| !is_over)).await?;
    }
}

async fn history(client: &dyn JobApiClient, id: RunId) -> Result<History, CliError> {
    let attempts = whole(client.list_attempts(id).await?)?;
    let log_streams = whole(client.list_log_streams(id).await?)?;
    let why = found(client.why(id).await)?;
    Ok(History {
        attempts,
        events: events(client, id).await?,
        log_streams,
        why: why.map(|why| why.value),
    })
}

/// All of them, however many there are.
async fn events(client: &dyn JobApiClient, id: RunId) -> Result<Vec<RunEvent>, CliError> {
    let mut events: Vec<RunEvent> = Vec::new();
    loop {
        let after = events.last().map(|event| event.seq);
        let page = client.list_events(id, EventQuery { after }).await?;
        let is_last = page.next_page_token.is_none();
        let before = events.len();
        events.extend(page.items.into_iter().map(|event| event.value));
        if is_last || events.len() == before {
            return Ok(events);
        }
    }
}

/// A list of which nothing may be missing.
fn whole<T>(listing: Listing<T>) -> Result<Vec<T>, CliError> {
    if listing.next_page_token.is_some() {
        let sentence = "the server lists more than this qwexctl reads".to_owned();
        return Err(DirectError::Told(sentence).into());
    }
    Ok(listing.items.into_iter().map(|item| item.value).collect())
}
