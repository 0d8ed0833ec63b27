//! Lists of runs: filtered, paged, or watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use qwex_api::run::RunRow;
use qwex_api::{ErrorCode, Page, Problem};
use qwex_core::{ClusterName, Project, QueueName, RunId, RunName, RunStatus};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::super::access::Caller;
use super::super::context::Asked;
use super::super::error::{HttpError, HttpResult};
use super::super::page::{self, Pager};
use super::super::params::{Query, flag, optional};
use super::super::{App, scope, stream};
use super::watch;
use crate::runs::RunQuery;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Another project than the token's own; for admins of the project `default`
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    project: Option<Project>,
    /// Statuses, separated by commas
    #[param(example = "pending,running")]
    status: Option<String>,
    /// The whole name
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    name: Option<RunName>,
    /// First hex digits of the id
    id_prefix: Option<String>,
    /// `key=value`; may be repeated, all must match
    #[serde(default)]
    label: Vec<String>,
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    queue: Option<QueueName>,
    /// RFC 3339
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<Timestamp>,
    /// RFC 3339
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Timestamp>,
    /// Most items of the page
    #[param(minimum = 1, maximum = 500)]
    page_size: Option<u32>,
    /// `next_page_token` of the page before
    page_token: Option<String>,
    /// Stays open (server-sent events): each row of the first page, and again whenever it changes
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<String>, example = "")]
    watch: bool,
}

/// Runs, newest first, without their specs.
///
/// With `watch`, or `Accept: text/event-stream`, the answer stays open: `event: run` with each row of the first page, oldest
/// first, and again whenever what it shows changes; `id:` is a cursor, and `Last-Event-ID` goes on behind it without a
/// gap or a repeat, on any replica. `event: end` comes when the server leaves: connect again.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", security(("token" = ["viewer"])),
    params(ListParams, ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that was seen")), responses(
    (status = 200, content((Page<RunRow> = "application/json"), (String = "text/event-stream")),
        headers(("Link" = String, description = "The next page"))),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(params): Query<ListParams>,
    asked: Asked,
) -> HttpResult<Response> {
    let scope = scope::of_list(&who, params.project.clone())?;
    let mut query = params.query()?;
    if params.watch || stream::accepts(&asked.headers, "text/event-stream") {
        let pager = Pager::new(&("watch", &scope, &query));
        let told = watch::resume(&pager, &asked.headers)?;
        let rows = watch::rows(app.clone(), scope, query, (pager, told));
        let end = stream::data("end", &json!({ "reason": "the server leaves: connect again" }));
        return Ok(stream::events(app, who, asked.request_id, rows, Some(end)));
    }
    let pager = Pager::new(&(&scope, &query));
    query.after = params.page_token.map(|token| after(&pager, &token)).transpose()?;
    let page = app.runs.list(&scope, &query).await?;
    let next_page_token = page.next.map(|id| pager.token(&id.to_string()));
    let items = page.runs;
    Ok(page::answer(
        Page {
            items,
            next_page_token,
        },
        &asked.uri,
    ))
}

fn after(pager: &Pager, token: &str) -> HttpResult<RunId> {
    let position = pager.position(token)?;
    position
        .parse()
        .map_err(|_| HttpError::new(ErrorCode::InvalidCursor, "this is no page token"))
}

impl ListParams {
    fn query(&self) -> HttpResult<RunQuery> {
        Ok(RunQuery {
            // The scope holds it.
            project: None,
            statuses: statuses(self.status.as_deref().unwrap_or_default())?,
            name: self.name.as_ref().map(ToString::to_string),
            id_prefix: self.id_prefix.as_deref().map(prefix).transpose()?,
            labels: labels(&self.label)?,
            cluster: self.cluster.as_ref().map(ToString::to_string),
            queue: self.queue.as_ref().map(ToString::to_string),
            created_after: self.created_after,
            created_before: self.created_before,
            after: None,
            limit: page::size(self.page_size)?,
        })
    }
}

fn statuses(text: &str) -> HttpResult<Vec<RunStatus>> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            RunStatus::from_word(word).ok_or_else(|| {
                let all: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
                HttpError::parameter(
                    "status",
                    format!("{word:?} is no status; there are {}", all.join(", ")),
                )
            })
        })
        .collect()
}

fn prefix(text: &str) -> HttpResult<String> {
    let digits = text.chars().filter(|c| *c != '-').count();
    let hex = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if hex && (1..=32).contains(&digits) {
        Ok(text.to_owned())
    } else {
        Err(HttpError::parameter("id_prefix", "it is 1 to 32 hex digits"))
    }
}

fn labels(pairs: &[String]) -> HttpResult<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(HttpError::parameter(
                "label",
                format!("{pair:?} is not key=value"),
            ));
        };
        if labels
            .insert(key.to_owned(), value.to_owned())
            .is_some_and(|before| before != value)
        {
            return Err(HttpError::parameter(
                "label",
                format!("{key:?} is given twice with other values"),
            ));
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_strictly() {
        assert_eq!(
            statuses("pending, failed,").unwrap(),
            [RunStatus::Pending, RunStatus::Failed]
        );
        assert!(statuses("done").is_err());
        assert!(prefix("0199-ab").is_ok());
        assert!(prefix("").is_err() && prefix("xyz").is_err() && prefix("---").is_err());
        let pairs = |texts: &[&str]| labels(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(pairs(&["a=b", "c=d=e"]).unwrap()["c"], "d=e");
        assert!(pairs(&["a"]).is_err() && pairs(&["a=1", "a=2"]).is_err());
    }
}
