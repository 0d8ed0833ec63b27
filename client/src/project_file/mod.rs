//! `qwex.yaml`: what runs of a directory have in common, and the stages of its pipeline. Read strictly: whatever cannot
//! be meant is told with line, column, a caret and a suggestion. Used by `config`, `pipeline` and the commands about the
//! file. Runs nothing, and asks nobody over the network.
//!
//! It is checked in and shared, so it may name a context of the user but never a server: a cloned repository must not be
//! able to draw a token to its own address.

mod at;
mod check;
mod complaint;
mod condition;
mod defaults;
mod detect;
mod expand;
mod graph;
mod locate;
mod matrix;
mod misread;
mod model;
mod parts;
mod place;
mod read;
mod schema;
mod surroundings;
mod variables;

pub use at::At;
pub use check::BACKENDS;
pub use complaint::{Complaint, FileKind, Source, nearest, refused, refused_as};
pub use condition::{Condition, Outcomes};
pub use defaults::of_run;
pub use detect::{Found, detect};
pub use expand::{Expanded, Instance, expanded};
pub use locate::{Located, PassedOver, locate};
pub use misread::Forms;
pub use model::{Common, ProjectFile, Stage};
pub use parts::{CommandLine, Matrix};
pub use place::field as place_of;
pub use read::{Read, find, parse, parse_strictly, read, text};
pub use schema::schema;
pub use surroundings::Variables;
pub use variables::{names_the_run, settle};

/// What the file is called, in a project's directory.
pub const FILE_NAME: &str = "qwex.yaml";

/// Stages are not looked at: for commands that need only what all runs have in common.
pub type Unread = serde::de::IgnoredAny;
