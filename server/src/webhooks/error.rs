//! What can go wrong with an endpoint or a delivery, told apart by what the caller should do.

use super::url::UrlError;
use crate::db::DbError;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    #[error("there is no webhook {0}, or the token may not see it")]
    NotFound(String),
    #[error("there is no delivery {0} of this webhook")]
    NoDelivery(String),
    #[error("the url is refused: {0}")]
    Url(#[from] UrlError),
    /// The field `events`: what is not an event of a run.
    #[error("{word:?} is no event that can be subscribed to; there are {known}")]
    Event { word: &'static str, known: String },
    #[error("the description is longer than {most} characters or holds control characters")]
    Description { most: usize },
    #[error("the project has {most} webhooks already")]
    TooMany { most: i64 },
    #[error("the webhook is disabled; send it a test, and when that arrives the webhook is enabled again")]
    Disabled,
    #[error("failed to reach the tables of webhooks")]
    Db(#[from] DbError),
}
