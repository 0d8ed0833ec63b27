//! Each part of the testbed that is no cluster: started, used once for real, stopped, nothing left.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic is how a test fails")]

mod engines;
mod http_proxy;
mod postgres;
mod process;
mod queue;
mod tcp_proxy;
mod webhook_sink;
