//! The API from outside: the real binary over a real Postgres, asked by every kind of caller.

mod answers;
mod bad_input;
mod dev;
mod fuzz;
mod imports;
mod leaving;
mod matrix;
mod outage;
mod runs;
mod tokens;
mod transfer;
mod uploads;
mod watched;
