//! Files of a workspace on their way to a backend and back: which of them go over ([`list`]), as a tar
//! ([`pack`]), and how a tar from a machine that is not trusted is written down ([`unpack`]).
//!
//! Used by backends that cannot see the caller's files (ssh, Kubernetes) and by whoever looks for
//! outputs. Synchronous; talks to no backend and keeps nothing.

mod globs;
mod list;
mod pack;
mod place;
mod unpack;

pub use globs::{BadGlob, Globs, find};
pub use list::{Entry, Kind, Listing, Skipped, list, list_everything, list_only};
pub use pack::{Packer, pack};
pub use place::{check_link, check_path};
pub use unpack::{Limits, unpack};

/// Names that are never sent, wherever they are in the tree.
pub const NEVER_SENT: &[&str] = &[".git", ".qwex"];

/// Whether a path has one of [`NEVER_SENT`] in it, as a file system without cases sees it too.
#[must_use]
pub fn is_never_sent(path: &std::path::Path) -> bool {
    path.iter()
        .any(|part| NEVER_SENT.iter().any(|never| part.eq_ignore_ascii_case(never)))
}

/// Rules like those of `.gitignore`, which they go before, for what is sent.
pub const IGNORE_FILE: &str = ".qwexignore";

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
