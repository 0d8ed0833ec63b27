//! Names people give: of projects, clusters, queues and runs. Each is checked where it is made, so
//! that a name in hand is a valid one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not a usable name. Display says what, why and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {kind} name must not be empty")]
    Empty { kind: &'static str },
    #[error("this {kind} name has {length} characters, the most is {max}")]
    TooLong {
        kind: &'static str,
        length: usize,
        max: usize,
    },
    #[error("the {kind} name {name:?} has the character {bad:?}; {allowed}")]
    BadCharacter {
        kind: &'static str,
        name: String,
        bad: char,
        allowed: &'static str,
    },
    #[error("the {kind} name {name:?} must begin and end with a letter or digit")]
    BadEdge { kind: &'static str, name: String },
}

const LABEL: &str = "allowed are lower-case letters, digits and `-`";
const OBJECT: &str = "allowed are lower-case letters, digits, `-` and `.`";
const FREE: &str = "allowed are letters, digits, `-`, `_` and `.`";

/// Checks a DNS label of at most `max` characters (RFC 1123).
fn check_label(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    check(kind, name, max, LABEL, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    })
}

fn check(
    kind: &'static str,
    name: &str,
    max: usize,
    allowed: &'static str,
    ok: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { kind });
    }
    let length = name.chars().count();
    if length > max {
        return Err(NameError::TooLong { kind, length, max });
    }
    if let Some(bad) = name.chars().find(|c| !ok(*c)) {
        return Err(NameError::BadCharacter {
            kind,
            name: name.to_owned(),
            bad,
            allowed,
        });
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !edge(name.chars().next()) || !edge(name.chars().next_back()) {
        return Err(NameError::BadEdge {
            kind,
            name: name.to_owned(),
        });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                let check: fn(&'static str, &str) -> Result<(), NameError> = $check;
                check($kind, &name)?;
                Ok(Self(name))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A project: a DNS label of at most 40 characters, so that `qwex-<project>` is a namespace.
    Project, "project", |kind, name| check_label(kind, name, 40)
);
name!(
    /// A registered cluster: a DNS label of at most 63 characters.
    ClusterName, "cluster", |kind, name| check_label(kind, name, 63)
);
name!(
    /// A Kueue WorkloadPriorityClass: an object's name of at most 63 characters, because a label carries it.
    PriorityClass, "priority class", |kind, name| {
        check(kind, name, 63, OBJECT, |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.'
        })
    }
);
name!(
    /// A Kueue LocalQueue, by name in the namespace of the run: a DNS label of at most 63 characters.
    QueueName, "queue", |kind, name| check_label(kind, name, 63)
);
name!(
    /// A name people give a run, not unique: at most 63 letters, digits, `-`, `_`, `.`. It never
    /// forms the name of an object.
    RunName, "run", |kind, name| check(kind, name, 63, FREE, |c| c.is_ascii_alphanumeric() || "-_.".contains(c))
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_rfc_1123() {
        for name in ["a", "default", "team-9", "0", "a--b"] {
            assert!(Project::new(name).is_ok(), "{name}");
        }
        for name in [
            "", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", "a b", "a\0", "../x",
        ] {
            assert!(Project::new(name).is_err(), "{name:?}");
            assert!(ClusterName::new(name).is_err(), "{name:?}");
            assert!(QueueName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn run_names_are_freer() {
        for name in ["train", "Train_2.b", "0"] {
            assert!(RunName::new(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "_a", "a.", "ä", "a\n"] {
            assert!(RunName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_have_a_length() {
        assert!(Project::new("a".repeat(40)).is_ok());
        assert!(Project::new("a".repeat(41)).is_err());
        assert!(RunName::new("a".repeat(63)).is_ok());
        assert!(RunName::new("a".repeat(300)).is_err());
    }

    #[test]
    fn errors_say_what_is_allowed() {
        let told = |name: &str| RunName::new(name).unwrap_err().to_string();
        assert_eq!(told(""), "a run name must not be empty");
        assert_eq!(
            told(&"a".repeat(300)),
            "this run name has 300 characters, the most is 63"
        );
        assert_eq!(
            told("a/b"),
            "the run name \"a/b\" has the character '/'; allowed are letters, digits, `-`, `_` and `.`"
        );
        assert_eq!(
            told("-a"),
            "the run name \"-a\" must begin and end with a letter or digit"
        );
    }

    #[test]
    fn reading_checks() {
        assert!(serde_json::from_str::<Project>("\"a/b\"").is_err());
        assert_eq!(
            serde_json::from_str::<Project>("\"default\"").unwrap().as_str(),
            "default"
        );
    }
}
