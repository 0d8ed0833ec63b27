//! Lists of runs by keyset: a page begins after the last id of the one before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_api::run::RunRow;
use qwex_core::{Project, RunId, RunStatus};
use sqlx::PgPool;
use uuid::Uuid;

use super::RunsError;
use super::shown::{BadCursor, Reading, Told};
use crate::auth::Scope;
use crate::db::DbError;
use crate::db::run::{self, ListedRun, RunFilter};

/// What a list shows. Empty and `None`: no restriction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunQuery {
    pub project: Option<Project>,
    pub statuses: Vec<RunStatus>,
    pub name: Option<String>,
    /// The first hex digits of an id, with or without dashes.
    pub id_prefix: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub cluster: Option<String>,
    pub queue: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    /// The page begins after this run.
    pub after: Option<RunId>,
    /// Runs a page, 1 to 500.
    pub limit: u32,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPage {
    pub runs: Vec<RunRow>,
    /// What `after` of the next page is; `None` on the last one.
    pub next: Option<RunId>,
}

pub(super) async fn list(pool: &PgPool, scope: &Scope, query: &RunQuery) -> Result<RunPage, RunsError> {
    let Some(filter) = filter(scope, query) else {
        return Ok(RunPage {
            runs: Vec::new(),
            next: None,
        });
    };
    let mut runs: Vec<RunRow> = run::list_runs(pool, &filter)
        .await?
        .into_iter()
        .map(|listed| listed.row)
        .collect();
    let more = runs.len() > query.limit as usize;
    runs.truncate(query.limit as usize);
    let next = if more { runs.last().map(|row| row.id) } else { None };
    Ok(RunPage { runs, next })
}

/// The rows of the first page that were not told as they are now, oldest first, each with what will be told once
/// it is.
pub(super) async fn news(
    pool: &PgPool,
    scope: &Scope,
    query: &RunQuery,
    told: &Told,
) -> Result<Vec<(RunRow, Told)>, RunsError> {
    let Some(filter) = filter(scope, query) else {
        return Ok(Vec::new());
    };
    let mut listed = run::list_runs(pool, &filter).await?;
    let full = listed.len() > query.limit as usize;
    listed.truncate(query.limit as usize);
    news_of(listed, full, told).map_err(|BadCursor| {
        RunsError::Database(DbError::Unreadable {
            column: "shown_xid",
            value: "no transaction".to_owned(),
        })
    })
}

/// `full`: there are older runs than those listed.
fn news_of(listed: Vec<ListedRun>, full: bool, told: &Told) -> Result<Vec<(RunRow, Told)>, BadCursor> {
    let (Some(first), Some(last)) = (listed.first(), listed.last()) else {
        return Ok(Vec::new());
    };
    let reading = Reading {
        snapshot: first.snapshot.parse()?,
        oldest: if full { last.row.id.as_uuid() } else { Uuid::nil() },
    };
    let mut news = Vec::new();
    for one in listed.into_iter().rev() {
        let id = one.row.id.as_uuid();
        if !told.has(id, one.shown_by.parse().map_err(|_| BadCursor)?) {
            news.push((one.row, told.and_part(&reading, id)));
        }
    }
    if let Some((_, last)) = news.last_mut() {
        *last = Told::all_of(reading);
    }
    Ok(news)
}

/// The filter of a query; `None` where nothing can match.
fn filter(scope: &Scope, query: &RunQuery) -> Option<RunFilter> {
    let project = match (scope, &query.project) {
        (Scope::One(own), Some(asked)) if own != asked => return None,
        (Scope::One(own), _) => Some(own.to_string()),
        (Scope::All, asked) => asked.as_ref().map(ToString::to_string),
    };
    let (prefix_from, prefix_to) = match &query.id_prefix {
        Some(prefix) => prefix_range(prefix).map(|(from, to)| (Some(from), Some(to)))?,
        None => (None, None),
    };
    let after = query.created_after.map(run::id_floor);
    let before = query.created_before.map(run::id_floor);
    let statuses: Vec<String> = query.statuses.iter().map(ToString::to_string).collect();
    Some(RunFilter {
        project,
        statuses: (!statuses.is_empty()).then_some(statuses),
        name: query.name.clone(),
        id_from: prefix_from.max(after),
        id_to: match (prefix_to, before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
        labels: query.labels.clone(),
        cluster: query.cluster.clone(),
        queue: query.queue.clone(),
        before: query.after.map(|id| id.as_uuid()),
        limit: i64::from(query.limit) + 1,
    })
}

/// The smallest and the largest UUID that begin with these hex digits.
fn prefix_range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = prefix.chars().filter(|c| *c != '-').collect();
    if digits.is_empty() || digits.len() > 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let from = u128::from_str_radix(&format!("{digits:0<32}"), 16).ok()?;
    let to = u128::from_str_radix(&format!("{digits:f<32}"), 16).ok()?;
    Some((Uuid::from_u128(from), Uuid::from_u128(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        let (from, to) = prefix_range("0199-a").unwrap();
        assert_eq!(from.to_string(), "0199a000-0000-0000-0000-000000000000");
        assert_eq!(to.to_string(), "0199afff-ffff-ffff-ffff-ffffffffffff");
        assert!(prefix_range("xyz").is_none());
        assert!(prefix_range("").is_none());
    }

    #[test]
    fn another_project_shows_nothing() {
        let scope = Scope::One("a".parse().unwrap());
        let query = RunQuery {
            project: Some("b".parse().unwrap()),
            limit: 10,
            ..RunQuery::default()
        };
        assert!(filter(&scope, &query).is_none());
    }
}
