//! Tests of `qwex_core::transition::next` as its callers see it: the whole grid, random histories, the
//! races of a cancel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod cancel;
mod grid;
mod histories;
mod order;
mod support;
