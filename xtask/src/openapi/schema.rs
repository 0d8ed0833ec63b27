//! Compares the schema of a body with its next version. A request may only ask for less, a response
//! may only give more. Knows what our documents use: `$ref`, properties, items,
//! additionalProperties, allOf, oneOf, anyOf, type, enum.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::breaking::entries;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Request,
    Response,
}

pub struct Compare<'d> {
    before: &'d Value,
    now: &'d Value,
    pub found: BTreeSet<String>,
    /// Pairs of schemas on the way down: a schema may hold itself.
    open: Vec<(&'d Value, &'d Value)>,
}

impl<'d> Compare<'d> {
    pub fn new(before: &'d Value, now: &'d Value) -> Self {
        Self {
            before,
            now,
            found: BTreeSet::new(),
            open: Vec::new(),
        }
    }

    /// Compares two schemas of the body `of`.
    pub fn schema(&mut self, side: Side, of: &str, before: &'d Value, now: &'d Value) {
        self.field(
            &Place {
                side,
                of,
                field: String::new(),
            },
            before,
            now,
        );
    }

    fn field(&mut self, place: &Place<'_>, before: &'d Value, now: &'d Value) {
        if self
            .open
            .iter()
            .any(|open| std::ptr::eq(open.0, before) && std::ptr::eq(open.1, now))
        {
            return;
        }
        self.open.push((before, now));
        let (old, new) = (Shape::of(before, self.before), Shape::of(now, self.now));
        self.types(place, &old, &new);
        self.values(place, &old, &new);
        self.properties(place, &old, &new);
        self.below(&place.child("[]"), old.items, new.items);
        self.below(&place.child("{}"), old.values, new.values);
        self.open.pop();
    }

    fn below(&mut self, place: &Place<'_>, before: Option<&'d Value>, now: Option<&'d Value>) {
        if let (Some(before), Some(now)) = (before, now) {
            self.field(place, before, now);
        }
    }

    fn types(&mut self, place: &Place<'_>, old: &Shape<'_>, new: &Shape<'_>) {
        if old.types.is_empty() || new.types.is_empty() {
            return;
        }
        let (lost, word) = match place.side {
            Side::Request => (old.types.difference(&new.types), "may no longer be"),
            Side::Response => (new.types.difference(&old.types), "may now be"),
        };
        self.found
            .extend(lost.map(|kind| place.say(&format!("{word} {kind}"))));
    }

    fn values(&mut self, place: &Place<'_>, old: &Shape<'_>, new: &Shape<'_>) {
        // Readers accept unknown values, so only a request can lose one.
        if place.side == Side::Request && !new.allowed.is_empty() {
            let lost = old.allowed.iter().filter(|value| !new.allowed.contains(value));
            self.found
                .extend(lost.map(|value| place.say(&format!("no longer takes {value}"))));
        }
    }

    fn properties(&mut self, place: &Place<'_>, old: &Shape<'d>, new: &Shape<'d>) {
        for (name, before) in &old.properties {
            let child = place.child(&format!(".{name}"));
            match new.properties.get(name) {
                Some(now) => self.field(&child, before, now),
                None => drop(self.found.insert(child.say("is gone"))),
            }
            if place.side == Side::Response && old.required.contains(name) && !new.required.contains(name) {
                self.found.insert(child.say("may now be missing"));
            }
        }
        if place.side == Side::Request {
            let asked = new.required.difference(&old.required);
            self.found
                .extend(asked.map(|name| place.child(&format!(".{name}")).say("is now required")));
        }
    }
}

/// Where in which body.
struct Place<'o> {
    side: Side,
    of: &'o str,
    field: String,
}

impl<'o> Place<'o> {
    fn child(&self, step: &str) -> Place<'o> {
        Place {
            side: self.side,
            of: self.of,
            field: format!("{}{step}", self.field),
        }
    }

    fn say(&self, what: &str) -> String {
        match self.field.trim_start_matches('.') {
            "" => format!("{}: the body {what}", self.of),
            field => format!("{}: {field} {what}", self.of),
        }
    }
}

/// A schema with its references followed and its alternatives laid over one another.
#[derive(Default)]
struct Shape<'d> {
    types: BTreeSet<&'d str>,
    allowed: Vec<&'d Value>,
    properties: BTreeMap<&'d str, &'d Value>,
    required: BTreeSet<&'d str>,
    items: Option<&'d Value>,
    values: Option<&'d Value>,
}

impl<'d> Shape<'d> {
    fn of(schema: &'d Value, document: &'d Value) -> Self {
        let mut shape = Self::default();
        shape.add(schema, document, 0);
        shape
    }

    fn add(&mut self, schema: &'d Value, document: &'d Value, depth: usize) {
        // Deeper than any document of ours: a chain of references that never ends.
        if depth > 16 {
            return;
        }
        if let Some(name) = reference(schema) {
            self.add(
                document
                    .pointer(name.trim_start_matches('#'))
                    .unwrap_or(&Value::Null),
                document,
                depth + 1,
            );
        }
        self.types.extend(strings(&schema["type"]));
        self.allowed
            .extend(schema["enum"].as_array().into_iter().flatten());
        self.properties.extend(entries(&schema["properties"]));
        self.items = self.items.or(schema.get("items"));
        self.values = self.values.or(schema
            .get("additionalProperties")
            .filter(|values| values.is_object()));
        self.required.extend(strings(&schema["required"]));
        for all in schema["allOf"].as_array().into_iter().flatten() {
            self.add(all, document, depth + 1);
        }
        for either in ["oneOf", "anyOf"]
            .into_iter()
            .filter_map(|key| schema[key].as_array())
            .flatten()
        {
            let required = self.required.clone();
            self.add(either, document, depth + 1);
            // What one alternative requires, the whole does not.
            self.required = required;
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    let one = value.as_str().into_iter();
    one.chain(value.as_array().into_iter().flatten().filter_map(Value::as_str))
}
