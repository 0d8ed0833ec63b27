//! testbed
pub mod http_proxy;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod require;
pub mod scratch;
pub mod tcp_proxy;
pub mod wait;
pub mod webhook_sink;
