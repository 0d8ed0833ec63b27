//! Complete and consistent lists, page by page, in which one odd object costs only itself.

use qwex_runner::RunnerError;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::rest::{CallError, Rest, target};

/// A whole list and the position behind it.
pub(crate) struct Listed<T> {
    pub items: Vec<T>,
    pub resource_version: String,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

/// Lists with most-recent semantics (no resourceVersion: the API server proves it is up to date; a
/// lagging replica cannot answer with the past).
pub(crate) async fn list_all<T: DeserializeOwned>(
    rest: &Rest,
    path: &str,
    selector: &str,
    page_size: u32,
) -> Result<Listed<T>, RunnerError> {
    let labels = [("labelSelector", selector)];
    let filter = if selector.is_empty() { &[][..] } else { &labels[..] };
    list_all_where(rest, path, filter, page_size).await
}

/// The same with any filter (`labelSelector`, `fieldSelector`).
pub(crate) async fn list_all_where<T: DeserializeOwned>(
    rest: &Rest,
    path: &str,
    filter: &[(&str, &str)],
    page_size: u32,
) -> Result<Listed<T>, RunnerError> {
    let limit = page_size.to_string();
    let mut next = String::new();
    let mut items = Vec::new();
    loop {
        let mut query = vec![("limit", limit.as_str())];
        query.extend_from_slice(filter);
        if !next.is_empty() {
            query.push(("continue", next.as_str()));
        }
        let body = rest.get_bytes(&target(path, &query)).await?;
        let page = read_page::<T>(&body)?;
        items.extend(page.items);
        if page.metadata.next.is_empty() {
            return Ok(Listed {
                items,
                resource_version: page.metadata.resource_version,
            });
        }
        next = page.metadata.next;
    }
}

/// Fast way first; only a page with an odd object is read item by item.
fn read_page<T: DeserializeOwned>(body: &[u8]) -> Result<Page<T>, CallError> {
    if let Ok(page) = serde_json::from_slice::<Page<T>>(body) {
        return Ok(page);
    }
    let page: Page<serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| CallError::Unreadable {
            message: error.to_string(),
        })?;
    let items = page.items.into_iter().filter_map(read_item).collect();
    Ok(Page {
        metadata: page.metadata,
        items,
    })
}

fn read_item<T: DeserializeOwned>(item: serde_json::Value) -> Option<T> {
    let name = item.pointer("/metadata/name").map(ToString::to_string);
    serde_json::from_value(item)
        .inspect_err(|error| tracing::warn!(?name, %error, "skipped an object that cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::PodView;

    #[test]
    fn c07_one_odd_object_costs_only_itself() {
        let body = br#"{"metadata":{"resourceVersion":"7"},"items":[
            {"metadata":{"name":"a"}},
            {"metadata":{"name":"b"},"status":{"phase":42}},
            {"metadata":{"name":"c"},"status":{"containerStatuses":null,"phase":"Running"}}]}"#;
        let page = read_page::<PodView>(body).unwrap();
        let names: Vec<_> = page.items.iter().map(|pod| pod.metadata.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(page.metadata.resource_version, "7");
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        assert!(read_page::<PodView>(b"<html>").is_err());
        assert!(read_page::<PodView>(br#"{"items":3}"#).is_err());
    }
}
