//! The values that a field of `qwex.yaml` may have, each checked where it is read.

use std::collections::BTreeMap;
use std::fmt;

use qwex_core::spec::Backoff;
use qwex_core::{FailureCode, Mount, MountKind, Resources, RetryPolicy, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::at::At;

/// A command: a string is run by `sh -c`, a list is executed as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    Shell(String),
    Exec(Vec<String>),
}

impl CommandLine {
    /// Program and arguments, with every word filled in by `fill`.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn words<E>(&self, mut fill: impl FnMut(&str) -> Result<String, E>) -> Result<Vec<String>, E> {
        match self {
            Self::Shell(line) => Ok(vec!["sh".to_owned(), "-c".to_owned(), fill(line)?]),
            Self::Exec(words) => words.iter().map(|word| fill(word)).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CommandVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command: a string for `sh -c`, or a list of program and arguments")
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<CommandLine, E> {
        if line.trim().is_empty() {
            return Err(E::custom("the command is empty"));
        }
        Ok(CommandLine::Shell(line.to_owned()))
    }

    /// `true` and `false` are programs.
    fn visit_bool<E: Error>(self, word: bool) -> Result<CommandLine, E> {
        Ok(CommandLine::Shell(word.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CommandLine, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = seq.next_element::<String>()? {
            words.push(word);
        }
        match words.first().map(String::is_empty) {
            None | Some(true) => Err(A::Error::custom("the command is empty")),
            Some(false) => Ok(CommandLine::Exec(words)),
        }
    }
}

impl JsonSchema for CommandLine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A string is run by `sh -c`; a list of program and arguments is executed as it is.",
            "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1}
            ]
        })
    }
}

/// Text that people also write as a number or a truth.
pub fn scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "number", "boolean"]})
}

/// A map of such text.
pub fn scalars(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
}

/// Resources asked for; request and limit are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Processors: 2, 0.5 or 500m.
    #[serde(default)]
    #[schemars(schema_with = "scalar")]
    pub cpu: Option<String>,
    /// Memory: 512Mi, 4Gi.
    #[serde(default)]
    #[schemars(schema_with = "scalar")]
    pub memory: Option<String>,
    /// Whole GPUs.
    #[serde(default)]
    pub gpu: Option<u32>,
    /// Most processes and threads at a time.
    #[serde(default)]
    pub pids: Option<u32>,
}

impl Asked {
    /// These, and those of `defaults` where nothing is said.
    #[must_use]
    pub fn over(&self, defaults: &Self) -> Resources {
        Resources {
            cpu: self.cpu.clone().or_else(|| defaults.cpu.clone()),
            memory: self.memory.clone().or_else(|| defaults.memory.clone()),
            gpu: self.gpu.or(defaults.gpu),
            pids: self.pids.or(defaults.pids),
        }
    }
}

/// When a failed attempt is followed by another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first; 0 to 100.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub limit: u32,
    /// Failures worth another attempt: exit_code, signal, oom, timeout, image, start_error, evicted, preempted, node_lost.
    /// Absent: whatever the same command may survive on another try.
    #[serde(default)]
    #[schemars(schema_with = "failure_codes")]
    pub on: Vec<At<String>>,
    #[serde(default)]
    pub backoff: Option<Pauses>,
}

/// How long the next attempt waits: `initial`, then `factor` times as long each time, at most `max`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pauses {
    /// Default: 5s.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub initial: Option<Span>,
    /// 1 to 10. Default: 2.
    #[serde(default)]
    #[schemars(with = "Option<u32>", range(min = 1, max = 10))]
    pub factor: Option<At<u32>>,
    /// Default: 5m.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub max: Option<Span>,
}

impl Pauses {
    fn backoff(&self) -> Backoff {
        let usual = Backoff::default();
        Backoff {
            initial: self.initial.unwrap_or(usual.initial),
            factor: self.factor.as_ref().map_or(usual.factor, |factor| factor.value),
            max: self.max.unwrap_or(usual.max),
        }
    }
}

impl Retry {
    /// The policy of the spec. Words that are no failure were refused by the check.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            limit: self.limit,
            on: self
                .on
                .iter()
                .filter_map(|word| FailureCode::from_word(&word.value))
                .collect(),
            backoff: self.backoff.as_ref().map(Pauses::backoff),
        }
    }
}

fn failure_codes(_: &mut SchemaGenerator) -> Schema {
    let words: Vec<&str> = FailureCode::ALL
        .iter()
        .filter(|code| **code != FailureCode::Lost)
        .map(|code| code.as_str())
        .collect();
    json_schema!({"type": "array", "items": {"enum": words}})
}

/// Files that appear at `target`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mounted {
    /// bind (a path of the machine that executes), volume, empty_dir, pvc, config_map or secret.
    #[schemars(with = "String", extend("enum" = ["bind", "volume", "empty_dir", "pvc", "config_map", "secret"]))]
    pub kind: At<String>,
    /// A path for `bind`, else a name; none for `empty_dir`.
    #[serde(default)]
    pub source: Option<At<String>>,
    /// Absolute path inside.
    pub target: At<String>,
    #[serde(default)]
    pub read_only: bool,
    /// Most bytes of an `empty_dir`: 512Mi.
    #[serde(default)]
    pub size: Option<String>,
}

impl Mounted {
    /// The mount of the spec, with its texts filled in by `fill`. Words that are no kind were refused by the check.
    pub fn mount(&self, mut fill: impl FnMut(&At<String>) -> String) -> Mount {
        Mount {
            kind: MountKind::from_word(&self.kind.value).unwrap_or(MountKind::Unknown),
            source: self.source.as_ref().map(&mut fill),
            target: fill(&self.target),
            read_only: self.read_only,
            size: self.size.clone(),
        }
    }
}

/// Which clusters may take it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// Labels a cluster must have, with these values.
    #[serde(default)]
    #[schemars(schema_with = "scalars")]
    pub require: BTreeMap<String, String>,
}

/// A stage once for every combination of the values of its axes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix {
    /// In the order of the file.
    pub axes: Vec<(At<String>, Vec<String>)>,
    /// Combinations besides, or values added to those that fit.
    pub include: Vec<At<BTreeMap<String, String>>>,
    /// Combinations left out: all whose values are these.
    pub exclude: Vec<At<BTreeMap<String, String>>>,
}

impl<'de> Deserialize<'de> for Matrix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MatrixVisitor)
    }
}

struct MatrixVisitor;

impl<'de> Visitor<'de> for MatrixVisitor {
    type Value = Matrix;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a matrix: a list of values for each name, and `include` and `exclude`")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Matrix, A::Error> {
        let mut matrix = Matrix::default();
        while let Some(key) = map.next_key::<At<String>>()? {
            match key.value.as_str() {
                "include" => matrix.include = map.next_value()?,
                "exclude" => matrix.exclude = map.next_value()?,
                _ => {
                    let values = map.next_value::<Vec<String>>()?;
                    matrix.axes.push((key, values));
                }
            }
        }
        Ok(matrix)
    }
}

impl JsonSchema for Matrix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matrix".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let scalar = json_schema!({"type": ["string", "number", "boolean"]});
        let combinations =
            json_schema!({"type": "array", "items": {"type": "object", "additionalProperties": scalar}});
        json_schema!({
            "description": "The stage once for every combination; its name becomes train[lr=0.1,seed=1].",
            "type": "object",
            "properties": {"include": combinations, "exclude": combinations},
            "additionalProperties": {"type": "array", "minItems": 1, "items": scalar}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_text_or_a_list() {
        let read = |text: &str| serde_saphyr::from_str::<CommandLine>(text);
        assert_eq!(read("pytest -q").unwrap(), CommandLine::Shell("pytest -q".into()));
        assert_eq!(read("true").unwrap(), CommandLine::Shell("true".into()));
        assert_eq!(
            read("[echo, 1]").unwrap(),
            CommandLine::Exec(vec!["echo".into(), "1".into()])
        );
        for bad in ["[]", "['']", "' '", "{a: b}", "5"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
