//! Runs on other machines over the user's own ssh: configuration, agent, jump hosts and known hosts are
//! those of the `ssh` program ([`link`]). A supervisor over there owns each attempt: the program of qwex
//! itself, or a shell script where that cannot run ([`install`]). Both keep small files in a directory
//! per attempt; one shell on the host reads them for us ([`serve`]), and what they say becomes
//! observations in [`snapshot`].
//!
//! Used by qwexctl. Knows no other runner, no API and no SQL.
//!
//! # How a command line opens it
//! ```
//! use qwex_runner_ssh::{SshBackend, SshSettings};
//!
//! // `--host build1`, and what the user's files say of ssh hosts, if anything.
//! let settings = SshSettings::default();
//! let backend = SshBackend::open(Some("build1"), "__supervise", &settings)?;
//! assert_eq!(backend.address(), "build1");
//! # Ok::<(), qwex_runner::RunnerError>(())
//! ```
//! Nothing is connected yet: [`probe`](qwex_runner::Backend::probe) tells whether the host answers. The
//! address is handed to `ssh` as it is, so it may be a `Host` of `~/.ssh/config`. Nothing is ever asked of
//! the user: a host key that is not known and a key with a passphrase that no agent holds are refused, with
//! the command that mends it.
//!
//! # What supervises over there
//! The running program itself (`/proc/self/exe`), copied to `~/.cache/qwex/supervisor/<sha-256>/qwex` once per
//! version and called as `qwex SUBCOMMAND DIRECTORY`. `SUBCOMMAND` is the hidden one by which that program
//! also supervises runs of its own machine; it has to print `error: …` first where the directory holds no
//! work, and it is proven to do so before any run depends on it. A statically linked program runs on
//! more hosts. Where it cannot run (another system or processor, another libc, a cache on a mount without
//! `exec`), or where [`SupervisorKind::Script`] is set, a POSIX shell script does the same; `probe` says so
//! in its notes.

mod backend;
mod cancel;
mod collect;
mod config;
mod control;
mod error;
mod install;
mod link;
mod logs;
mod records;
mod scripts;
mod serve;
mod snapshot;
mod submit;
mod watch;
mod words;
mod workspace;

pub use backend::{FEATURES, NAME, SshBackend};
pub use config::{SshConfig, SshSettings, Supervisor, SupervisorKind};
pub use control::stale_connections;
