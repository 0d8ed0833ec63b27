//! The server of qwex, one module per room; ARCHITECTURE.md draws the arrows between them and
//! `cargo xtask check-deps` holds them.

pub mod answers;
pub mod auth;
pub mod cleanup;
pub mod cli;
pub mod clusters;
pub mod config;
pub mod db;
pub mod dev;
pub mod dispatch;
pub mod hints;
pub mod http;
pub mod logs;
pub mod placement;
pub mod projects;
pub mod recorder;
pub mod runs;
pub mod sealing;
pub mod telemetry;
pub mod watch;
pub mod webhooks;
