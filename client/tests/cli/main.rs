//! The real binary `qwexctl` from outside: what is typed, what it prints, its exit code. A scripted server stands in
//! where a real one cannot show the fault; runs of this machine are real processes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod clusters;
mod config;
mod cut;
mod doctor;
mod durable;
mod faults;
mod full_disk;
mod hosts;
mod kept;
mod local;
mod openapi;
mod outputs;
mod pipeline;
mod pipeline_blind;
mod pipeline_files;
mod pipeline_foreign;
mod policy;
mod project_file;
mod prune;
mod refusals;
mod runs;
mod ssh;
mod support;
mod tty;
mod usage;
mod uv;
