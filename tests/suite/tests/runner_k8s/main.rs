//! The Kubernetes backend against real API servers: cluster `alpha` with a real kubelet, `beta` with
//! simulated pods that end as asked. Test names begin with the row of the fault catalogue they prove.

mod cancel;
mod conformance;
mod direct;
mod endings;
mod files;
mod logs;
mod mounts;
mod probe;
mod queue;
mod requeue;
mod rig;
mod rights;
mod rotation;
mod secrets;
mod submit;
mod usage;
mod watch;
