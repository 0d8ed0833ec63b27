//! Settings and where each came from. Precedence: flag > `QWEX_*` > project `qwex.yaml` > the user's context file >
//! default. Used by `commands`; asks nobody over the network.

pub mod contexts;
mod settings;

pub use contexts::{Context, ContextFile};
pub use settings::{Choices, Origin, Settings, Surroundings, Valued};
