//! How a backend may refuse or fail, told apart by what the caller should do next.

use std::time::Duration;

/// An error of a backend. `message` is the backend's own, word for word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunnerError {
    /// The backend refuses the run for ever: asking again gives the same answer.
    #[error("{message}")]
    Rejected { message: String },
    /// An object of that name exists and is not ours. It was left untouched.
    #[error("object {object} exists and is not ours: {message}")]
    NameConflict { object: String, message: String },
    /// The backend has no such object.
    #[error("not found: {message}")]
    NotFound { message: String },
    /// The spec asks for what this backend does not have.
    #[error("not supported by this backend: {message}")]
    Unsupported { message: String },
    /// No connection was made, so nothing was sent. Says nothing about the run.
    #[error("unreachable: {message}")]
    NoConnection { message: String },
    /// No answer: the connection broke or time is up, and whether the request arrived is open. Says nothing about the
    /// run.
    #[error("unreachable: {message}")]
    Unreachable { message: String },
    /// Our credentials are refused.
    #[error("not authorised: {message}")]
    Unauthorized { message: String },
    /// The backend asks us to slow down.
    #[error("throttled: {message}")]
    Throttled {
        retry_after: Option<Duration>,
        message: String,
    },
    /// The position to resume from is too old; start over with a full list.
    #[error("the position to resume from is gone: {message}")]
    PositionGone { message: String },
    /// The backend failed in a way that may pass.
    #[error("the backend failed: {message}")]
    Failed { message: String },
}

impl RunnerError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected { .. }
            | Self::NameConflict { .. }
            | Self::NotFound { .. }
            | Self::Unsupported { .. } => false,
            Self::NoConnection { .. }
            | Self::Unreachable { .. }
            | Self::Unauthorized { .. }
            | Self::Throttled { .. }
            | Self::PositionGone { .. }
            | Self::Failed { .. } => true,
        }
    }

    /// Whether it means that we are blind, which is never a verdict on a run.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.is_cut() || matches!(self, Self::Unauthorized { .. } | Self::Throttled { .. })
    }

    /// Whether the way to the backend is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::NoConnection { .. } | Self::Unreachable { .. })
    }

    /// Whether the request may have been taken although this is the answer: a submit may have started something.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Failed { .. } => true,
            Self::Rejected { .. }
            | Self::NameConflict { .. }
            | Self::NotFound { .. }
            | Self::Unsupported { .. }
            | Self::NoConnection { .. }
            | Self::Unauthorized { .. }
            | Self::Throttled { .. }
            | Self::PositionGone { .. } => false,
        }
    }
}
