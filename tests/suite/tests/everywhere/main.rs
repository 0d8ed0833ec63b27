//! `qwexctl` on every backend at once, as a user has them: the same words everywhere, and one pipeline through four of
//! them that is killed again and again.

mod bed;
mod pipeline;
mod unsendable;
mod words;
