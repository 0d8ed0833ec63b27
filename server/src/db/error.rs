//! What can go wrong between the server and Postgres, told apart by what the caller should do next.

/// An error of the database. Display is for the log; nothing of it leaves the server.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No connection, pool exhausted, server shutting down: the same call may succeed later.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A unique or foreign key refused the row.
    #[error("the constraint {constraint} refused the row")]
    Constraint {
        constraint: String,
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what this version cannot read.
    #[error("column {column} holds {value:?}, which this version cannot read")]
    Unreadable { column: &'static str, value: String },
    /// The lease under which a batch was to be written is no longer held.
    #[error("lease {lease} with epoch {epoch} is no longer held")]
    Fenced { lease: String, epoch: i64 },
    /// A bug in a statement or a broken database.
    #[error("the database refused a statement")]
    Broken(#[source] sqlx::Error),
}

pub type DbResult<T> = Result<T, DbError>;

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(inner) => match (inner.code().as_deref(), inner.constraint()) {
                (Some(code), _) if is_passing(code) => Self::Unavailable(error),
                (_, Some(constraint)) => Self::Constraint {
                    constraint: constraint.to_owned(),
                    source: error,
                },
                (_, None) => Self::Broken(error),
            },
            _ => Self::Broken(error),
        }
    }
}

/// SQLSTATE classes of a server that goes away, has no room, or asks to try again.
fn is_passing(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("53") || code.starts_with("57") || code.starts_with("40")
}

impl DbError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The constraint that refused the row, if one did.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { constraint, .. } => Some(constraint),
            Self::Unavailable(_) | Self::Unreadable { .. } | Self::Fenced { .. } | Self::Broken(_) => None,
        }
    }
}
