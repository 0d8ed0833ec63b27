//! Routes, extractors and problem documents of the API.

mod body;
mod context;
mod error;
mod page;
mod params;
mod suggest;
