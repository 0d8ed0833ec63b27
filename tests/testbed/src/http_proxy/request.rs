//! What a request asks of a Kubernetes API server, read from its method, path and query. Used by rules and the ledger.

use hyper::Method;

/// The API server's own verbs, with reading a pod log set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    /// `GET .../pods/<name>/log`, followed or not.
    Log,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

/// One request, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    pub method: Method,
    pub path: String,
    /// Without the question mark, still encoded.
    pub query: String,
    pub verb: Verb,
    /// `jobs`, `pods/log`, ...; empty for paths that are no resource (`/version`).
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl ApiRequest {
    pub(super) fn new(method: Method, path: &str, query: Option<&str>) -> Self {
        let (query, path) = (query.unwrap_or_default().to_owned(), path.to_owned());
        let (namespace, resource, name, sub) = parts(&path);
        let resource = match (resource, sub) {
            (Some(resource), Some(sub)) => format!("{resource}/{sub}"),
            (Some(resource), None) => resource,
            (None, _) => String::new(),
        };
        let verb = verb(&method, &resource, name.is_some(), &query);
        Self {
            method,
            path,
            query,
            verb,
            resource,
            namespace,
            name,
        }
    }
}

type Parts = (Option<String>, Option<String>, Option<String>, Option<String>);

/// Namespace, resource, name and subresource of a path.
fn parts(path: &str) -> Parts {
    let mut rest = path.split('/').filter(|part| !part.is_empty());
    let skipped = match rest.next() {
        Some("api") => rest.next(),
        Some("apis") => rest.nth(1),
        Some(_) | None => None,
    };
    let mut rest: Vec<&str> = if skipped.is_some() {
        rest.collect()
    } else {
        Vec::new()
    };
    let mut namespace = None;
    // `namespaces/x/finalize` and `/status` are the namespace itself; `namespaces/x/pods` is something in it.
    if rest.len() > 2 && rest[0] == "namespaces" && !["finalize", "status"].contains(&rest[2]) {
        namespace = Some(rest[1].to_owned());
        rest.drain(..2);
    }
    let mut rest = rest.into_iter().map(str::to_owned);
    (namespace, rest.next(), rest.next(), rest.next())
}

fn verb(method: &Method, resource: &str, named: bool, query: &str) -> Verb {
    let watches = query
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"));
    match *method {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if named => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ if watches => Verb::Watch,
        _ if resource.ends_with("/log") => Verb::Log,
        _ if named || resource.is_empty() => Verb::Get,
        _ => Verb::List,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, path: &str, query: &str) -> (Verb, String, Option<String>, Option<String>) {
        let request = ApiRequest::new(method, path, Some(query));
        (request.verb, request.resource, request.namespace, request.name)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn paths_are_taken_apart() {
        let jobs = "/apis/batch/v1/namespaces/n/jobs";
        assert_eq!(
            read(Method::POST, jobs, ""),
            (Verb::Create, "jobs".into(), some("n"), None)
        );
        assert_eq!(
            read(Method::GET, jobs, "limit=5"),
            (Verb::List, "jobs".into(), some("n"), None)
        );
        assert_eq!(
            read(Method::GET, jobs, "a=b&watch=true"),
            (Verb::Watch, "jobs".into(), some("n"), None)
        );
        assert_eq!(
            read(Method::DELETE, jobs, ""),
            (Verb::DeleteCollection, "jobs".into(), some("n"), None)
        );
        let log = "/api/v1/namespaces/n/pods/p/log";
        assert_eq!(
            read(Method::GET, log, "follow=true"),
            (Verb::Log, "pods/log".into(), some("n"), some("p"))
        );
        let namespace = "/api/v1/namespaces/n";
        assert_eq!(
            read(Method::GET, namespace, ""),
            (Verb::Get, "namespaces".into(), None, some("n"))
        );
        assert_eq!(
            read(Method::GET, "/version", ""),
            (Verb::Get, String::new(), None, None)
        );
    }
}
