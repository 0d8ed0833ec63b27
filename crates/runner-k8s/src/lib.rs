//! Kubernetes as a backend: one Job per attempt, watched into observations, with its logs.
//!
//! The server makes a [`K8sBackend`] per registered cluster with [`K8sBackend::connect`] and uses it
//! as `qwex_runner::Runner` and `qwex_runner::Watcher`; the command line makes one with the user's own
//! rights with [`K8sBackend::connect_direct`] and uses it as `qwex_runner::backend::Backend`. Kueue is the
//! same backend with a queue label.
//!
//! | who | module |
//! |---|---|
//! | acts | [`manifest`] (attempt → Job, pure), `submit`, `cancel`, `files` (over `exec`) |
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
mod check;
mod direct;
mod files;
mod list;
mod logs;
mod paths;
mod place;
mod rest;
mod submit;
mod trouble;
mod watch;

pub use backend::K8sBackend;
pub use config::{Access, FilesPolicy, K8sConfig, Names, Policy, Tuning};
pub use connect::ConnectError;
pub use direct::{K8sDirectConfig, Surroundings, Word};
pub use probe::{Check, KueueInfo, ProbeReport, QueueInfo};
