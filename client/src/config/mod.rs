//! Settings and where each came from. Precedence: flag > `QWEX_*` > project `qwex.yaml` > the user's context file >
//! default. Beside them `config.yaml` of user and system: policy and ssh hosts. Used by `commands`; asks nobody over
//! the network.

pub mod contexts;
pub mod file;
pub mod hosts;
mod settings;

pub use contexts::{Context, ContextFile};
pub use hosts::Hosts;
pub use settings::{Choices, Origin, Settings, Surroundings, Valued};
