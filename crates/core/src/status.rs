//! Where a run stands: status, the reason of waiting, the reason of failure, flags.
//!
//! The spellings here are on the wire and in SQL. Readers accept unknown values of newer versions.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! word_enum {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? } $($unknown:ident)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum $type {
            $($(#[$vdoc])* $variant,)+
            $(
                /// A word of a newer version. Never written by this one.
                #[serde(other)]
                $unknown,
            )?
        }

        impl $type {
            /// Every value this version writes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling on the wire and in SQL.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                    $(Self::$unknown => "unknown",)?
                }
            }

            /// Reads the spelling of the wire and of SQL.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use word_enum;

word_enum!(
    /// Status of a run, flat. A closed set: every reader decides by it, so it does not grow within v1.
    RunStatus {
        Pending = "pending",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
    }
);

impl RunStatus {
    /// Terminal is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

word_enum!(
    /// Why a run waits, in the order in which a run meets them.
    PendingCode {
        /// Recorded, no cluster was looked for yet.
        Accepted = "accepted",
        /// No cluster can take it now; the message says why.
        Queued = "queued",
        /// Handed to a cluster, nothing seen there yet.
        Dispatched = "dispatched",
        /// Waits for quota in a Kueue queue.
        Admission = "admission",
        /// Waits for a node.
        Scheduling = "scheduling",
        /// The image is being pulled, or cannot be.
        Image = "image",
        /// The container is being made.
        Starting = "starting",
        /// The last attempt failed and the next one waits for its time.
        Backoff = "backoff",
    } Unknown
);

word_enum!(
    /// Why a run failed; the same on every backend.
    FailureCode {
        /// The command ended with an exit code other than 0.
        ExitCode = "exit_code",
        /// The command was ended by a signal.
        Signal = "signal",
        /// Killed for memory.
        Oom = "oom",
        /// The run's own timeout passed.
        Timeout = "timeout",
        /// The image cannot be pulled or is not valid.
        Image = "image",
        /// The container or process could not be started.
        StartError = "start_error",
        /// Evicted from its node (pressure, drain, eviction API).
        Evicted = "evicted",
        /// Made room for a run of higher priority.
        Preempted = "preempted",
        /// The node died or left.
        NodeLost = "node_lost",
        /// Somebody deleted the object, not qwex.
        DeletedExternally = "deleted_externally",
        /// The backend refuses the run for ever; the message is its own.
        Rejected = "rejected",
        /// An object of that name exists and is not ours.
        NameConflict = "name_conflict",
        /// Nothing can tell how it ended.
        Lost = "lost",
    } Unknown
);

word_enum!(
    /// Facts that ride beside the status.
    Flag {
        CancelRequested = "cancel_requested",
        ClusterUnreachable = "cluster_unreachable",
        LogsIncomplete = "logs_incomplete",
        /// More than one pod ran for one attempt at the same time.
        DuplicateStart = "duplicate_start",
    } Unknown
);

/// A set of flags, in a stable order.
pub type Flags = BTreeSet<Flag>;

/// Why a run waits. Set only while the status is pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Pending {
    pub code: PendingCode,
    /// A sentence for people, in the backend's words where it has any.
    pub message: String,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
}

/// Why a run failed. Set only while the status is failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    pub code: FailureCode,
    /// A sentence for people, in the backend's words where it has any.
    pub message: String,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
}

impl Failure {
    #[must_use]
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            exit_code: None,
            signal: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word of the wire, of SQL and of Display must be one.
    macro_rules! spelt_alike {
        ($type:ty) => {
            for value in <$type>::ALL {
                let word = value.as_str();
                assert_eq!(serde_json::to_value(value).unwrap(), word);
                assert_eq!(
                    serde_json::from_value::<$type>(word.into()).unwrap(),
                    *value
                );
                assert_eq!(<$type>::from_word(word), Some(*value));
                assert_eq!(value.to_string(), word);
            }
            assert_eq!(<$type>::from_word("word_of_tomorrow"), None);
        };
    }

    #[test]
    fn every_word_is_spelt_alike_everywhere() {
        spelt_alike!(RunStatus);
        spelt_alike!(PendingCode);
        spelt_alike!(FailureCode);
        spelt_alike!(Flag);
        spelt_alike!(crate::event::EventKind);
        spelt_alike!(crate::run::BackendKind);
        spelt_alike!(crate::run::LogVerdict);
        spelt_alike!(crate::spec::PullPolicy);
    }

    #[test]
    fn words_of_newer_versions_are_read() {
        fn read<T: serde::de::DeserializeOwned>() -> T {
            serde_json::from_str("\"word_of_tomorrow\"").unwrap()
        }
        assert_eq!(read::<PendingCode>(), PendingCode::Unknown);
        assert_eq!(read::<FailureCode>(), FailureCode::Unknown);
        assert_eq!(read::<Flag>(), Flag::Unknown);
        assert_eq!(
            read::<crate::event::EventKind>(),
            crate::event::EventKind::Unknown
        );
        assert_eq!(
            read::<crate::run::BackendKind>(),
            crate::run::BackendKind::Unknown
        );
        assert_eq!(read::<crate::run::LogVerdict>(), crate::run::LogVerdict::Unknown);
    }

    #[test]
    fn the_set_of_statuses_is_closed() {
        assert!(serde_json::from_str::<RunStatus>("\"paused\"").is_err());
        assert_eq!(
            RunStatus::ALL
                .iter()
                .filter(|status| status.is_terminal())
                .count(),
            3
        );
    }
}
