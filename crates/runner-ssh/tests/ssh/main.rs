//! The ssh backend over a real sshd: the laws of every backend, its own tests, and the rows of the fault
//! list that it must survive, each named by its row.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod busybox;
mod conformance;
mod elsewhere;
mod emptied;
mod faults;
mod full;
mod housekeeping;
mod jump;
mod line;
mod many;
mod outputs;
mod support;
mod torn;
