//! The cases, each runnable alone. A case measures qwex and its peer by turns, and fails where a run is lost or
//! doubled.

pub mod b0;
pub mod b1;
pub mod b10;
pub mod b15;
pub mod b16;
pub mod b2;
pub mod b3;
pub mod b4;
pub mod b6;
mod cli;
mod submits;
