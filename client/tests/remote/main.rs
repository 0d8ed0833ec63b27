//! The way through qwexcloud against a real one: the binary `qwexcloud dev` with its Postgres and its embedded cluster.

mod conformance;
mod server;
