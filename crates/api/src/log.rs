//! Log lines of a run, live and archived, by one cursor.

use jiff::Timestamp;
use qwex_core::{Attempt, LogVerdict};
use serde::{Deserialize, Serialize};

/// One line of a log in `application/jsonl` and as the data of SSE events `line`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Where to go on after this line; opaque, the same live and archived.
    pub cursor: String,
    pub attempt: Attempt,
    /// `output`, `stdout` or `stderr`.
    pub stream: String,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The line without its newline, where it is valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The line's bytes without its newline in base64, where it is not valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// True on a part of a line that goes on in the next item (long lines, no newline yet).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Bytes are missing before the next line; this is the reason. Such an item has no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// One stream of a run's log (`GET /v1/runs/{id}/logs/streams`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogStreamInfo {
    pub ordinal: u32,
    pub attempt: Attempt,
    /// Pod UID or process identity.
    pub episode: String,
    pub stream: String,
    pub bytes: u64,
    pub lines: u64,
    /// Set once sealed.
    #[serde(default)]
    pub verdict: Option<LogVerdict>,
    #[serde(default)]
    pub sha256: Option<String>,
    /// Why the verdict is not `complete`.
    #[serde(default)]
    pub message: Option<String>,
}

/// Why the log archive does not take what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ArchiveTrouble {
    /// The disk or the quota is full.
    NoSpace,
    /// The server may not write there.
    Denied,
    ReadOnly,
    /// It cannot be reached, or not in time.
    NoAnswer,
    /// What the archive holds of this log cannot be read back.
    Damaged,
    /// Anything else; the server's log has the archive's own words.
    Refused,
    /// A word of a newer server. Never written by this one.
    #[serde(other)]
    Unknown,
}

impl ArchiveTrouble {
    /// Every value this version writes.
    pub const ALL: &'static [Self] = &[
        Self::NoSpace,
        Self::Denied,
        Self::ReadOnly,
        Self::NoAnswer,
        Self::Damaged,
        Self::Refused,
    ];

    /// The spelling on the wire and in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSpace => "no_space",
            Self::Denied => "denied",
            Self::ReadOnly => "read_only",
            Self::NoAnswer => "no_answer",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the spelling of SQL. A word of a newer version is `Unknown`.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let known = Self::ALL.iter().find(|trouble| trouble.as_str() == word);
        known.copied().unwrap_or(Self::Unknown)
    }

    /// For people; fits behind a colon.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoSpace => "no space left on its device",
            Self::Denied => "the server may not write there",
            Self::ReadOnly => "it is mounted read-only",
            Self::NoAnswer => "it does not answer",
            Self::Damaged => "a stored part of the log cannot be read back",
            Self::Refused => "it refused",
            Self::Unknown => "for a reason that only a newer version knows",
        }
    }

    /// What whoever runs the server can do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoSpace => {
                "whoever runs the server makes room where QWEX_ARCHIVE_URL points; the log is then completed by itself"
            }
            Self::Denied | Self::ReadOnly => {
                "whoever runs the server lets it write where QWEX_ARCHIVE_URL points; the log is then completed by itself"
            }
            Self::NoAnswer => {
                "whoever runs the server looks at what QWEX_ARCHIVE_URL points to; once it answers, the log is completed by itself"
            }
            Self::Damaged => {
                "whoever runs the server brings the archive's objects of this run back from a copy; the server's log names the one"
            }
            Self::Refused | Self::Unknown => "the server's log has the archive's own words",
        }
    }
}

/// Bytes of a run's log are not in the archive yet, because it does not take them. None of them is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogWaiting {
    pub code: ArchiveTrouble,
    /// One sentence.
    pub message: String,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// When the archive last refused.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub last_refused_at: Timestamp,
    /// Streams of the log that wait.
    pub streams: u32,
    /// What to do about it.
    pub hint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_spelled_alike_on_the_wire_and_in_sql() {
        for trouble in ArchiveTrouble::ALL {
            let wire = serde_json::to_value(trouble).unwrap();
            assert_eq!(wire, trouble.as_str());
            assert_eq!(ArchiveTrouble::from_word(trouble.as_str()), *trouble);
        }
        assert_eq!(ArchiveTrouble::from_word("newer"), ArchiveTrouble::Unknown);
    }
}
