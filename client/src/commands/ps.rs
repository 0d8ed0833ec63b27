//! `ps`: lists runs, newest first.

use jiff::Timestamp;
use qwex_api::run::RunRow;
use qwex_core::Run;

use super::Done;
use super::session::Session;
use super::target::records;
use crate::cli::PsArgs;
use crate::direct::Direct;
use crate::error::CliError;
use crate::output::RunHere;
use crate::remote::{Answer, JobApiClient, RunFilter, row_of};

/// Largest page asked for.
const PAGE: usize = 200;

pub async fn ps(session: &Session, args: &PsArgs) -> Done {
    let found = if args.local || (!args.remote && session.settings.server.is_none()) {
        let runs = here(session, args)?;
        session.out.list(runs.iter().map(|run| (run, &run.row)))?;
        runs.len()
    } else {
        let client = session.client()?;
        let limit = if args.limit == 0 { usize::MAX } else { args.limit };
        let mut rows = rows(client.as_ref(), filter(session, args), limit.saturating_add(1)).await?;
        cut(session, limit, rows.len());
        rows.truncate(limit);
        session.out.list(rows.iter().map(|row| (&row.value, &row.json)))?;
        rows.len()
    };
    if found == 0 && session.out.for_people() {
        session
            .progress
            .note("no runs; start one: `qwexctl run -- echo hello`");
    }
    Ok(0)
}

/// The runs of this directory that the flags mean.
fn here(session: &Session, args: &PsArgs) -> Result<Vec<RunHere>, CliError> {
    let Some(local) = records(session)? else {
        return Ok(Vec::new());
    };
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let filter = filter(session, args);
    // One more than is shown tells whether there are more.
    let most = limit.saturating_add(1);
    let (runs, damaged) = local.list_newest(most, |run| is_meant(&row_of(run), &filter))?;
    for sentence in damaged {
        session.progress.note(&sentence);
    }
    cut(session, limit, runs.len());
    let shown = runs.iter().take(limit).map(|run| RunHere {
        row: row_of(run),
        backend: backend_of(&local, run),
    });
    Ok(shown.collect())
}

/// The word of `--backend`, with the host or context where one was named. A record without it is still a run.
fn backend_of(local: &Direct, run: &Run) -> String {
    let placed = local.placed(run.id).unwrap_or_default();
    match placed.address {
        Some(address) => format!("{}:{address}", placed.backend),
        None => placed.backend,
    }
}

/// Nobody may take a part of the list for all of it.
fn cut(session: &Session, limit: usize, found: usize) {
    if found > limit {
        session.progress.note(&format!(
            "the newest {limit} are shown and there are more; all: --limit 0"
        ));
    }
}

/// The filter of the API, for records of this machine. Their project is no border.
fn is_meant(row: &RunRow, filter: &RunFilter) -> bool {
    let label = |wanted: &String| {
        let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
        row.labels.get(key).is_some_and(|known| known == value)
    };
    (filter.statuses.is_empty() || filter.statuses.contains(&row.status))
        && filter
            .name
            .as_ref()
            .is_none_or(|name| row.name.as_ref().is_some_and(|known| known.as_str() == name))
        && filter.labels.iter().all(label)
        && filter
            .cluster
            .as_ref()
            .is_none_or(|cluster| row.cluster.as_ref() == Some(cluster))
        && filter
            .queue
            .as_ref()
            .is_none_or(|queue| row.queue.as_ref() == Some(queue))
        && filter.created_after.is_none_or(|after| row.created_at > after)
        && filter.created_before.is_none_or(|before| row.created_at < before)
}

fn filter(session: &Session, args: &PsArgs) -> RunFilter {
    let now = Timestamp::now();
    RunFilter {
        project: session.project(),
        statuses: args.status.clone(),
        name: args.name.clone(),
        labels: args
            .labels
            .iter()
            .map(|pair| format!("{}={}", pair.key, pair.value))
            .collect(),
        cluster: args.cluster.clone(),
        queue: args.queue.clone(),
        created_after: args.since.map(|moment| moment.before(now)),
        created_before: args.until.map(|moment| moment.before(now)),
        ..RunFilter::default()
    }
}

/// As many pages as the limit needs.
async fn rows(
    client: &dyn JobApiClient,
    mut filter: RunFilter,
    limit: usize,
) -> Result<Vec<Answer<RunRow>>, CliError> {
    let mut rows = Vec::new();
    while rows.len() < limit {
        let size = (limit - rows.len()).min(PAGE);
        filter.page_size = u32::try_from(size).ok();
        let page = client.list_runs(&filter).await?;
        rows.extend(page.items);
        filter.page_token = page.next_page_token;
        if filter.page_token.is_none() {
            break;
        }
    }
    rows.truncate(limit);
    Ok(rows)
}
