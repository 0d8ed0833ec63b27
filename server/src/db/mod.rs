//! Every SQL statement of the server, checked at compile time: one file a table or question.
//!
//! Called by the services (`runs`, `recorder`, `dispatch`, `logs`, `webhooks`, `auth`…). Names no axum and
//! no kube. A function takes a connection; transactions are opened one level above and never span a
//! network call.

pub mod cleanup;
pub mod cluster;
pub mod delivery;
pub mod dispatch;
pub mod error;
pub mod hint;
pub mod history;
pub mod idempotency;
pub mod import;
pub mod lease;
pub mod log;
pub mod migrate;
pub mod outbox;
pub mod pool;
pub mod project;
pub mod record;
pub mod run;
pub mod submit;
pub mod token;
pub mod upload;
pub mod waiting;
pub mod webhook;

pub use error::{DbError, DbResult};
pub use pool::{PoolSizes, Pools};

pub(crate) use jiff_sqlx::Timestamp as Ts;
pub(crate) use sqlx::types::Json;

use qwex_core::{Attempt, RunStatus};

/// A status as SQL holds it.
pub(crate) fn read_status(word: &str) -> DbResult<RunStatus> {
    RunStatus::from_word(word).ok_or_else(|| DbError::Unreadable {
        column: "status",
        value: word.to_owned(),
    })
}

/// An attempt number as SQL holds it.
pub(crate) fn read_attempt(number: i32) -> DbResult<Attempt> {
    u32::try_from(number)
        .map(Attempt)
        .map_err(|_| DbError::Unreadable {
            column: "attempt",
            value: number.to_string(),
        })
}

/// A checked name (project, run, cluster, queue) as SQL holds it.
pub(crate) fn read_name<T: TryFrom<String>>(column: &'static str, value: String) -> DbResult<T> {
    T::try_from(value.clone()).map_err(|_| DbError::Unreadable { column, value })
}

pub(crate) fn to_i32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
