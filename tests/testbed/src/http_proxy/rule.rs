//! Rules of the HTTP proxy: which request they are for, which match of it, and what answers instead of the API server.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::request::{ApiRequest, Verb};

/// What happens to a request that matches.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A failure with a Kubernetes `Status` body; the reason follows from code and verb.
    Status {
        code: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    /// These bytes, as JSON; for example the reply of an earlier list, taken from the ledger.
    Raw { code: u16, body: Bytes },
    /// Nothing at all, until the client goes away.
    Hang,
    /// The connection is closed without an answer.
    HangUp,
    /// The request goes on to the API server this much later.
    Delay(Duration),
    /// **The request is carried out**, its reply thrown away, and this answered instead.
    ApplyThen(Box<Answer>),
    /// The reply is passed on up to here, then ends: cleanly, as a watch that timed out, or cut off.
    Cut { after: Amount, clean: bool },
}

/// How much of a streamed reply passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Bytes(u64),
    /// Lines: watch events or log lines.
    Events(u64),
}

impl Answer {
    /// A failure with a message that says where it comes from.
    pub fn status(code: u16) -> Self {
        Self::Status {
            code,
            message: format!("scripted {code}"),
            retry_after: None,
        }
    }

    /// 429 with `Retry-After`, in whole seconds.
    pub fn too_many_requests(retry_after: Duration) -> Self {
        Self::Status {
            code: 429,
            message: "scripted 429".to_owned(),
            retry_after: Some(retry_after),
        }
    }

    /// The ambiguous create: carried out, but the client sees a gateway time-out.
    pub fn apply_then_504() -> Self {
        Self::ApplyThen(Box::new(Self::status(504)))
    }

    /// A watch that starts well and then says that its position is gone, as `code` (410: expired).
    pub fn watch_error(code: u16) -> Self {
        let object = status_body(code, "scripted: the position is too old", Verb::Watch);
        let event = json!({ "type": "ERROR", "object": object });
        Self::Raw {
            code: 200,
            body: format!("{event}\n").into(),
        }
    }
}

/// The `Status` object that a Kubernetes API server sends with a failure.
pub(super) fn status_body(code: u16, message: &str, verb: Verb) -> serde_json::Value {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 if verb == Verb::Create => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

/// Which requests an [`Answer`] is for. Without any restriction: all of them, for ever.
#[derive(Debug, Clone)]
pub struct Rule {
    verb: Option<Verb>,
    resource: Option<String>,
    path: Option<String>,
    query: Option<String>,
    skip: u64,
    times: u64,
    answer: Answer,
}

impl Rule {
    pub fn new(answer: Answer) -> Self {
        Self {
            verb: None,
            resource: None,
            path: None,
            query: None,
            skip: 0,
            times: u64::MAX,
            answer,
        }
    }

    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// `jobs`, `pods/log`, ... in any API group.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// A path in which `*` stands for any part of one segment and `**` for anything.
    pub fn path(mut self, pattern: &str) -> Self {
        self.path = Some(pattern.to_owned());
        self
    }

    /// The encoded query must contain this.
    pub fn query(mut self, part: &str) -> Self {
        self.query = Some(part.to_owned());
        self
    }

    /// Leaves the first `count` matches alone: `skip(1).times(1)` is the second match only.
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Answers this many matches, then no more.
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    fn matches(&self, request: &ApiRequest) -> bool {
        self.verb.is_none_or(|verb| verb == request.verb)
            && self
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == request.resource)
            && self
                .path
                .as_ref()
                .is_none_or(|pattern| glob(pattern.as_bytes(), request.path.as_bytes()))
            && self
                .query
                .as_ref()
                .is_none_or(|part| request.query.contains(part.as_str()))
    }
}

/// `*` matches within a segment, `**` across segments.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        [b'*', rest @ ..] => {
            let segment = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=segment).any(|at| glob(rest, &text[at..]))
        }
        [byte, rest @ ..] => text.first() == Some(byte) && glob(rest, &text[1..]),
    }
}

/// Names a rule that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

/// The rules in force. The first that matches and is neither before its turn nor used up answers.
#[derive(Debug, Default)]
pub(super) struct Rules {
    next: u64,
    active: Vec<(RuleId, Rule, u64)>,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        self.active.push((id, rule, 0));
        id
    }

    pub(super) fn remove(&mut self, id: RuleId) {
        self.active.retain(|(other, ..)| *other != id);
    }

    pub(super) fn clear(&mut self) {
        self.active.clear();
    }

    /// Finds the answer to a request and counts the match.
    pub(super) fn answer(&mut self, request: &ApiRequest) -> Option<(RuleId, Answer)> {
        for (id, rule, seen) in &mut self.active {
            if !rule.matches(request) {
                continue;
            }
            *seen += 1;
            if *seen > rule.skip && *seen - rule.skip <= rule.times {
                return Some((*id, rule.answer.clone()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::*;

    #[test]
    fn patterns() {
        let path = b"/apis/batch/v1/namespaces/n/jobs";
        assert!(glob(b"/apis/batch/v1/namespaces/*/jobs", path));
        assert!(glob(b"/apis/**", path));
        assert!(!glob(b"/apis/*", path));
        assert!(!glob(b"/apis/batch", path));
    }

    #[test]
    fn only_the_second_match() {
        let mut rules = Rules::default();
        let id = rules.add(Rule::new(Answer::Hang).verb(Verb::Create).skip(1).times(1));
        let create = ApiRequest::new(Method::POST, "/apis/batch/v1/namespaces/n/jobs", None);
        let get = ApiRequest::new(Method::GET, "/apis/batch/v1/namespaces/n/jobs/j", None);
        let mut answered =
            [&create, &get, &create, &create].map(|request| rules.answer(request).map(|(id, _)| id));
        assert_eq!(answered, [None, None, Some(id), None]);
        rules.remove(id);
        answered[0] = rules.answer(&create).map(|(id, _)| id);
        assert_eq!(answered[0], None);
    }
}
