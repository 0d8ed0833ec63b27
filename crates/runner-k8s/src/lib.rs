//! Kubernetes as a backend: one Job per attempt, watched into observations, with its logs.
//!
//! The server makes a [`K8sBackend`] per registered cluster with [`K8sBackend::connect`] and uses it
//! as `qwex_runner::Runner` and `qwex_runner::Watcher`. Kueue is the same backend with a queue label.
//!
//! | who | module |
//! |---|---|
//! | acts | [`manifest`] (attempt → Job, pure), `submit`, `cancel` |
//! | reads | `watch` (list + watch into a view), [`observe`] (view → facts, pure), `logs` |
//! | meets the API | `connect`, [`probe`], `rest`, `list`, [`decode`] |
//!
//! Nothing here retries: an error ends the call or the stream, and whoever supervises it decides.
//! Nothing here judges a run: facts go to `qwex_core::transition`.

pub mod config;
pub mod connect;
pub mod decode;
pub mod manifest;
pub mod names;
pub mod observe;
pub mod probe;

mod backend;
mod cancel;
mod list;
mod logs;
mod paths;
mod rest;
mod submit;
mod trouble;
mod watch;

pub use backend::K8sBackend;
pub use config::{Access, K8sConfig, Tuning};
pub use connect::ConnectError;
pub use probe::{Check, KueueInfo, ProbeReport, QueueInfo};
