//! Wire types and error codes of the HTTP API `/v1`. Used by the server and by the client's hand-written
//! `JobApiClient`. Holds no routing and no HTTP client.
//!
//! Responses: clients ignore unknown fields. Requests: the server refuses them.

pub mod cluster;
pub mod error;
pub mod log;
pub mod meta;
pub mod page;
pub mod project;
pub mod record;
pub mod run;
mod strict;
pub mod token;
pub mod webhook;

pub use error::{ErrorCode, FieldProblem, Problem};
pub use page::Page;
