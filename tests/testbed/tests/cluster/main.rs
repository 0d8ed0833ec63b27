//! The testbed's own clusters: what a pod does on each, what can be done to them, and that nothing of them outlives the
//! process that started them.

mod alpha;
mod beta;
mod cleanup;
mod faults;
mod objects;
