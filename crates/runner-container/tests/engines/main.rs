//! The backend with a real dockerd and a real podman: the laws of every backend, what a spec may ask, and the rows of
//! the fault list, each test named by its row.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod asked;
mod clocks;
mod conflicts;
mod conformance;
mod crashes;
mod fake_engine;
mod frames;
mod intents;
mod many;
mod owners;
mod pulls;
mod races;
mod registry;
mod skewed_engine;
mod support;
mod usage;
