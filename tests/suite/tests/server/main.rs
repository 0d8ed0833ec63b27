//! The whole server, from outside: real `qwexcloud serve`, real Postgres, real clusters. Each test is named by its row of
//! the fault catalogue and ends with the laws.

mod archive;
mod blind;
mod dispatch;
mod end_to_end;
mod kills;
mod logs;
mod queue;
mod replicas;
mod retries;
mod support;
mod truth;
mod usage;
