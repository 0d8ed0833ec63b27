//! Settings and where each came from. Precedence: flag > `QWEX_*` > project `qwex.yaml` > the user's context file >
//! default. Used by `commands`; asks nobody over the network.

pub mod contexts;
pub mod project_file;
mod settings;

pub use contexts::{Context, ContextFile};
pub use project_file::ProjectFile;
pub use settings::{Choices, Origin, Settings, Surroundings, Valued};
