//! Kubernetes as a backend: one Job per attempt, watched into observations, with its logs.
//!
//! The server makes a [`K8sBackend`] per registered cluster with [`K8sBackend::connect`] and uses it
//! as `qwex_runner::Runner` and `qwex_runner::Watcher`; the command line makes one with the user's own
//! rights with [`K8sBackend::connect_direct`] and uses it as `qwex_runner::backend::Backend`. Kueue is the
//! same backend with a queue label.
//!
//! # Straight from the command line
//!
//! `k8s` and `kueue` are one constructor. Every field of [`K8sDirectConfig`] may stay as it is:
//!
//! ```no_run
//! # async fn open() -> Result<(), qwex_runner::RunnerError> {
//! use qwex_runner_k8s::{K8sBackend, K8sDirectConfig, Word};
//!
//! // `--backend kueue --kube-context prod --namespace team --queue gpu`
//! let backend = K8sBackend::connect_direct(K8sDirectConfig {
//!     word: Word::Kueue,
//!     context: Some("prod".to_owned()),
//!     namespace: Some("team".to_owned()),
//!     queue: qwex_core::QueueName::new("gpu").ok(),
//!     ..K8sDirectConfig::default()
//! })
//! .await?;
//! # Ok(()) }
//! ```
//!
//! | what | where it comes from |
//! |---|---|
//! | kubeconfig | `kubeconfig`; else the list in `KUBECONFIG`; else `~/.kube/config`; else the service account of the pod we run in |
//! | context | `context`, else the current one; it is `address` of every run's `BackendInfo`. Who places a run keeps `K8sBackend::placement`, and with its context, namespace and `identity` a later process opens the same backend or is told that the context leads elsewhere |
//! | namespace | `namespace`, else the context's, else `default`; in a pod the pod's own |
//! | queue | the run's; else `queue`; with [`Word::Kueue`] else the only LocalQueue of the namespace. A run with a queue waits in it under either word |
//! | mounts of the node, service accounts | refused but for `host_paths`; any but for `service_accounts`: what the user's policy says |
//! | secrets | `name/key` is a Secret of the namespace; `env:VARIABLE` is read here at the submit and becomes a Secret owned by the Job |
//! | files | a run whose `Workspace::send` is not `Nothing` waits for `Backend::supply`; its outputs wait for `Backend::collect` |
//!
//! The rights it needs are those of `deploy/k8s/user.yaml`. Connecting asks the cluster nothing; `Backend::probe` does. A policy decides before a submit: `Backend::validate`.
//!
//! | who | module |
//! |---|---|
//! | acts | [`manifest`] (attempt → Job, pure), `submit`, `secrets`, `cancel`, `files` (over `exec`) |
//! | reads | `watch` (list + watch into a view), [`observe`] (view → facts, pure), `logs`, `usage` |
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
mod begun;
mod cancel;
mod check;
mod direct;
mod files;
mod list;
mod logs;
mod paths;
mod place;
mod rest;
mod secrets;
mod shortage;
mod submit;
mod trouble;
mod usage;
mod watch;

pub use backend::K8sBackend;
pub use config::{Access, FilesPolicy, K8sConfig, Measured, Names, Policy, Tuning};
pub use connect::ConnectError;
pub use direct::{Identity, K8sDirectConfig, Placement, Surroundings, Word};
pub use probe::{Check, KueueInfo, ProbeReport, QueueInfo};
