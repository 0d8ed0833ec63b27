//! The server of qwex, one module per room; ARCHITECTURE.md draws the arrows between them and
//! `cargo xtask check-deps` holds them.

pub mod answers;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod hints;
pub mod http;
pub mod placement;
pub mod projects;
pub mod recorder;
pub mod runs;
pub mod telemetry;
