//! The requests of runs that take parameters, as [`Call`]s. Pure.

use qwex_core::{RunId, RunStatus};
use reqwest::Method;

use super::client::{EventQuery, LogQuery, RunFilter};
use super::send::Call;

pub fn list_call(filter: &RunFilter) -> Call {
    let statuses: Vec<&str> = filter
        .statuses
        .iter()
        .map(|status: &RunStatus| status.as_str())
        .collect();
    let statuses = (!statuses.is_empty()).then(|| statuses.join(","));
    let mut call = Call::new(Method::GET, &["runs"])
        .query("project", filter.project.as_ref())
        .query("status", statuses)
        .query("name", filter.name.as_ref())
        .query("id_prefix", filter.id_prefix.as_ref());
    for label in &filter.labels {
        call = call.query("label", Some(label));
    }
    call.query("cluster", filter.cluster.as_ref())
        .query("queue", filter.queue.as_ref())
        .query("created_after", filter.created_after)
        .query("created_before", filter.created_before)
        .query("page_size", filter.page_size)
        .query("page_token", filter.page_token.as_ref())
}

pub fn events_call(id: RunId, query: EventQuery) -> Call {
    Call::new(Method::GET, &["runs", &id.to_string(), "events"]).query("after", query.after)
}

pub fn log_call(id: RunId, query: &LogQuery) -> Call {
    Call::new(Method::GET, &["runs", &id.to_string(), "logs"])
        .query("cursor", query.cursor.as_ref())
        .query("follow", query.follow.then_some(true))
        .query("tail", query.tail)
        .query("since", query.since)
        .query("until", query.until)
        .query("attempt", query.attempt)
        .query("stream", query.stream.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_is_in_the_query() {
        assert!(list_call(&RunFilter::default()).query.is_empty());
        let filter = RunFilter {
            statuses: vec![RunStatus::Pending, RunStatus::Running],
            labels: vec!["a=b".to_owned(), "c=d".to_owned()],
            page_size: Some(1),
            ..RunFilter::default()
        };
        let query = list_call(&filter).query;
        assert_eq!(
            query,
            [
                ("status", "pending,running".to_owned()),
                ("label", "a=b".to_owned()),
                ("label", "c=d".to_owned()),
                ("page_size", "1".to_owned())
            ]
        );
    }
}
