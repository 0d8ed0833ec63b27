//! `ps`: lists runs, newest first.

use jiff::Timestamp;
use qwex_api::run::RunRow;

use super::Done;
use super::session::Session;
use crate::cli::PsArgs;
use crate::error::CliError;
use crate::remote::{Answer, JobApiClient, RunFilter};

/// Largest page asked for.
const PAGE: usize = 200;

pub async fn ps(session: &Session, args: &PsArgs) -> Done {
    let client = session.client()?;
    let rows = rows(client.as_ref(), filter(session, args), args.limit).await?;
    session.out.list(rows.iter().map(|row| (&row.value, &row.json)))?;
    if rows.is_empty() && session.out.for_people() {
        session.progress.note("no runs");
    }
    Ok(0)
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

/// As many pages as the limit needs; 0 is no limit.
async fn rows(
    client: &dyn JobApiClient,
    mut filter: RunFilter,
    limit: usize,
) -> Result<Vec<Answer<RunRow>>, CliError> {
    let limit = if limit == 0 { usize::MAX } else { limit };
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
