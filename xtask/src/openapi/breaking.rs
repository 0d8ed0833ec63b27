//! What changed between two OpenAPI documents that an existing client cannot live with. Pure.
//! `schema` compares what is inside the bodies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema::{Compare, Side};

const METHODS: &[&str] = &["get", "put", "post", "delete", "patch", "head", "options"];

/// One sentence per breaking change, sorted.
pub fn changes(before: &Value, now: &Value) -> Vec<String> {
    let mut look = Look {
        compare: Compare::new(before, now),
        found: BTreeSet::new(),
    };
    for (path, item) in entries(&before["paths"]) {
        let new = &now["paths"][path];
        if new.is_null() {
            look.found.insert(format!("path {path} is gone"));
            continue;
        }
        for method in METHODS.iter().copied().filter(|method| !item[*method].is_null()) {
            let name = format!("{} {path}", method.to_uppercase());
            match &new[method] {
                Value::Null => drop(look.found.insert(format!("operation {name} is gone"))),
                operation => look.operation(&name, &item[method], operation),
            }
        }
    }
    look.found.extend(look.compare.found);
    look.found.into_iter().collect()
}

pub fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

struct Look<'d> {
    compare: Compare<'d>,
    found: BTreeSet<String>,
}

impl<'d> Look<'d> {
    fn operation(&mut self, name: &str, before: &'d Value, now: &'d Value) {
        self.parameters(name, before, now);
        let (asked, asks) = (&before["requestBody"], &now["requestBody"]);
        if asks["required"] == true && asked["required"] != true {
            self.found.insert(format!("{name} now requires a body"));
        }
        self.content(Side::Request, &format!("{name} request"), asked, asks);
        for (status, old) in entries(&before["responses"]).filter(|(status, _)| status.starts_with('2')) {
            match &now["responses"][status] {
                Value::Null => drop(self.found.insert(format!("{name} no longer answers {status}"))),
                new => self.content(Side::Response, &format!("{name} {status}"), old, new),
            }
        }
    }

    fn content(&mut self, side: Side, of: &str, before: &'d Value, now: &'d Value) {
        for (kind, old) in entries(&before["content"]) {
            match &now["content"][kind] {
                Value::Null => drop(self.found.insert(format!("{of} no longer knows {kind}"))),
                new => self.compare.schema(side, of, &old["schema"], &new["schema"]),
            }
        }
    }

    fn parameters(&mut self, name: &str, before: &Value, now: &Value) {
        let same = |a: &Value, b: &Value| a["in"] == b["in"] && a["name"] == b["name"];
        for old in list(before) {
            if !list(now).any(|new| same(new, old)) {
                self.found
                    .insert(format!("{name} no longer takes parameter {}", old["name"]));
            }
        }
        for new in list(now).filter(|new| new["required"] == true) {
            let was = list(before).find(|old| same(old, new));
            if was.is_none_or(|old| old["required"] != true) {
                self.found
                    .insert(format!("{name} now requires parameter {}", new["name"]));
            }
        }
    }
}

fn list(operation: &Value) -> impl Iterator<Item = &Value> {
    operation["parameters"].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "paths": {"/v1/runs": {
                "get": {"parameters": [{"in": "query", "name": "status"}],
                        "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Run"}}}}}},
                "post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Submit"}}}},
                         "responses": {"201": {"description": "made"}}}
            }},
            "components": {"schemas": {
                "Run": {"type": "object", "required": ["id"], "properties": {
                    "id": {"type": "string"},
                    "parent": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Run"}]},
                    "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}}},
                "Event": {"type": "object", "properties": {"at": {"type": "string"}}},
                "Submit": {"type": "object", "required": ["command"], "properties": {
                    "command": {"type": "array", "items": {"type": "string"}},
                    "pull": {"type": "string", "enum": ["always", "never"]}}}
            }}
        })
    }

    /// What is found when the value at `pointer` is replaced, or removed by null.
    fn after(pointer: &str, value: Value) -> Vec<String> {
        let mut now = document();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/");
        let parent = now.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.remove(&key)),
            value => drop(parent.insert(key, value)),
        }
        changes(&document(), &now)
    }

    #[test]
    fn the_same_document_breaks_nothing() {
        assert_eq!(changes(&document(), &document()), [""; 0]);
    }

    #[test]
    fn what_was_taken_away_is_named() {
        assert_eq!(after("/paths/~1v1~1runs", json!(null)), ["path /v1/runs is gone"]);
        assert_eq!(
            after("/paths/~1v1~1runs/post", json!(null)),
            ["operation POST /v1/runs is gone"]
        );
        assert_eq!(
            after("/paths/~1v1~1runs/get/parameters", json!([])),
            ["GET /v1/runs no longer takes parameter \"status\""]
        );
        assert_eq!(
            after("/paths/~1v1~1runs/get/responses", json!({})),
            ["GET /v1/runs no longer answers 200"]
        );
    }

    #[test]
    fn a_response_field_that_went_is_named_however_deep() {
        assert_eq!(
            after("/components/schemas/Event/properties/at", json!(null)),
            [
                "GET /v1/runs 200: events[].at is gone",
                "GET /v1/runs 200: parent.events[].at is gone"
            ]
        );
        assert_eq!(
            after("/components/schemas/Run/required", json!([])),
            ["GET /v1/runs 200: id may now be missing"]
        );
    }

    #[test]
    fn a_request_that_asks_for_more_is_named() {
        assert_eq!(
            after("/components/schemas/Submit/required", json!(["command", "pull"])),
            ["POST /v1/runs request: pull is now required"]
        );
        assert_eq!(
            after(
                "/components/schemas/Submit/properties/pull/enum",
                json!(["always"])
            ),
            ["POST /v1/runs request: pull no longer takes \"never\""]
        );
        assert_eq!(
            after(
                "/paths/~1v1~1runs/get/parameters",
                json!([{"in": "query", "name": "status", "required": true}])
            ),
            ["GET /v1/runs now requires parameter \"status\""]
        );
    }

    #[test]
    fn a_type_may_widen_in_requests_and_narrow_in_responses_only() {
        let id = "/components/schemas/Run/properties/id";
        assert_eq!(
            after(id, json!({"type": ["string", "null"]})),
            [
                "GET /v1/runs 200: id may now be null",
                "GET /v1/runs 200: parent.id may now be null"
            ]
        );
        let pull = "/components/schemas/Submit/properties/pull";
        assert_eq!(after(pull, json!({"type": ["string", "null"]})), [""; 0]);
        assert_eq!(
            after(pull, json!({"type": "integer"})),
            ["POST /v1/runs request: pull may no longer be string"]
        );
    }

    #[test]
    fn what_is_added_breaks_nothing() {
        assert_eq!(
            after(
                "/components/schemas/Run/properties/note",
                json!({"type": "string"})
            ),
            [""; 0]
        );
        assert_eq!(
            after(
                "/components/schemas/Submit/properties/note",
                json!({"type": "string"})
            ),
            [""; 0]
        );
        assert_eq!(after("/paths/~1v2", json!({"get": {}})), [""; 0]);
    }
}
