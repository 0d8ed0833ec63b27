//! The local backend with real processes: its own tests and the rows of the fault list that it must
//! survive, each named by its row.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod conformance;
mod disk_faults;
mod elsewhere;
mod emptied;
mod faults;
mod foreground;
mod lifecycle;
mod support;
mod torn;
mod waiting;
