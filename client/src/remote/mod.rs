//! The way through qwexcloud, and the only room that names an HTTP client: [`JobApiClient`] by hand over the types of
//! `qwex-api`, [`HttpJobApiClient`] that speaks `/v1`, streams that resume by cursor, and [`Backend`], the Runner and
//! Watcher over it. Prints nothing and runs nothing here.

mod answer;
mod api;
mod backend;
mod calls;
mod client;
mod error;
mod follow;
mod http;
pub mod lines;
mod offer;
mod retry;
mod rows;
mod send;
mod sse;
mod streams;
mod upload;

pub use answer::{Answer, Listing, Verbatim};
pub use backend::Backend;
pub use client::{
    ByteStream, EventQuery, EventStream, EventsItem, JobApiClient, LogQuery, LogStream, LogUpload, LogsItem,
    RunFilter, Submission,
};
pub use error::ApiError;
pub use follow::{FollowPatience, follow_events, follow_log};
pub use http::{Endpoint, HttpJobApiClient};
pub use retry::Notice;
pub use rows::row_of;
