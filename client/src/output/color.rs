//! Colour: `--color`, NO_COLOR, CLICOLOR_FORCE and TERM=dumb. What is not a terminal gets none.

use clap::ValueEnum;

/// The choice of `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR or TERM=dumb says no, or CLICOLOR_FORCE says yes.
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Sets it for the whole process; every writer of `anstream` obeys.
    pub fn apply(self) {
        match self {
            Self::Auto => {}
            Self::Always => anstream::ColorChoice::Always.write_global(),
            Self::Never => anstream::ColorChoice::Never.write_global(),
        }
    }
}
