//! Runs as processes of this machine. A detached supervisor owns each attempt ([`supervise`]); what it
//! and submit write below the root is all there is to know ([`snapshot`]), so that any number of
//! readers may come and go.
//!
//! Used by qwexctl for runs on a laptop and by qwexcloud for its embedded cluster. Knows no other
//! runner, no API and no SQL.

pub mod backend;
mod cancel;
mod check;
mod command_line;
pub mod config;
mod foreground;
pub mod identity;
pub mod layout;
mod limits;
mod logs;
mod oom;
pub mod records;
pub mod snapshot;
mod submit;
pub mod supervise;
pub mod survivors;
mod sys;
pub mod waiting;
mod watch;

pub use backend::LocalBackend;
pub use config::{Environment, LocalConfig};
pub use foreground::{Followed, Foreground};
pub use layout::Layout;
pub use records::OutputMode;
pub use waiting::Waiting;
