//! Real surroundings for tests and people: Kubernetes clusters, Postgres, container engines, sshd and proxies that do
//! harm, each started on this machine on free loopback ports, awaited and taken down, with nothing left behind even
//! when the test is killed. Used by tests and by the binary `qwex-testbed`; qwex itself never depends on it.

pub mod artifacts;
pub mod certs;
pub mod cluster;
pub mod dockerd;
mod engine;
pub mod http_proxy;
pub mod images;
pub mod link;
pub mod podman;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod queue;
pub mod require;
pub mod scratch;
pub mod shared;
pub mod sshd;
pub mod tcp_proxy;
pub mod wait;
pub mod webhook_sink;

pub use cluster::Cluster;
