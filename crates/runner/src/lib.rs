//! What every backend offers: a [`Runner`] that starts and cancels, a [`Watcher`] that reads and
//! yields observations, what is written once over both ([`wait()`]), and the run store of a project.
//!
//! Used by every runner, the server and the client. Knows no HTTP API and no SQL.

pub mod backend;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod durable;
pub mod error;
pub mod key;
pub mod log;
pub mod runner;
pub mod store;
pub mod supervised;
pub mod wait;
pub mod watcher;
pub mod workspace;

pub use backend::{Backend, Details, Feature, Probe};
pub use clock::Skew;
pub use error::RunnerError;
pub use key::Key;
pub use log::{LineTime, LogChunk, LogItem, LogPosition, LogSource};
pub use runner::{CancelProgress, Handle, Runner, Submitted, Transfer, Work, Workspace};
pub use store::{Applied, Journal, Listing, Store, StoreError};
pub use wait::{wait, wait_with};
pub use watcher::{Claim, ObjectRef, Sighting, SightingStream, WatchPosition, Watcher};
