//! Webhooks from outside: real `qwexcloud serve`, real Postgres, real runs, a receiver that answers by script. Each
//! test is named by its row of the fault catalogue. Time is moved in SQL: the server's clock is the database's.

mod crash;
mod disable;
mod fairness;
mod guard;
mod replicas;
mod retry;
mod signature;
mod support;
