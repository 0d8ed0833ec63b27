//! Prints data to stdout: tables like kubectl's, JSON with the shape of the API, YAML, names. Talk goes to stderr and
//! is not here. Used by `commands`; knows neither `remote` nor `direct`.

pub mod age;
pub mod color;
pub mod escape;
mod format;
mod rows;
mod table;

pub use format::{Format, Output, print, print_bytes};
pub use rows::{Row, RunHere, pairs, reason, status_words};
pub use table::table;
