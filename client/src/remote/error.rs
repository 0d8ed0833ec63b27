//! How a request may fail, told apart by what the caller can do.

use std::time::Duration;

use qwex_api::Problem;

/// A request that got no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server answered with a problem document.
    #[error("{}: {}", problem.title, problem.detail)]
    Problem {
        problem: Box<Problem>,
        /// The server's own wish, from `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No connection: nothing was sent.
    #[error("{server} does not answer: {message}")]
    Unreachable { server: String, message: String },
    /// Something answers, but cannot prove to be the server.
    #[error("the certificate of {server} is not trusted: {message}")]
    Untrusted { server: String, message: String },
    /// The connection broke or timed out: the request may have been heard.
    #[error("the connection to {server} broke: {message}")]
    Cut { server: String, message: String },
    /// Something answered that is not qwexcloud, or not of a version we know.
    #[error("{server} answered {status}: {message}")]
    Foreign {
        server: String,
        status: u16,
        message: String,
    },
    #[error("{server:?} is not the address of a server: {message}")]
    BadAddress { server: String, message: String },
    #[error("no HTTP client can be made: {message}")]
    Setup { message: String },
}

impl ApiError {
    /// Whether the request was surely not heard.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::BadAddress { .. }
            | Self::Setup { .. } => true,
            Self::Problem { .. } | Self::Cut { .. } | Self::Foreign { .. } => false,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Cut { .. } => true,
            Self::Problem { problem, .. } => problem.retryable,
            // A gateway in front of a server that is starting.
            Self::Foreign { status, .. } => matches!(status, 502..=504),
            Self::Untrusted { .. } | Self::BadAddress { .. } | Self::Setup { .. } => false,
        }
    }
}
