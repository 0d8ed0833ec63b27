//! The laws of every backend, with output merged as a server has it and split as a laptop has it.

use std::sync::Arc;
use std::time::Duration;

use qwex_runner::conformance::Subject;

use crate::support::{Bench, embedded, laptop};

fn subject(bench: Bench) -> Subject {
    let backend = Arc::new(bench.backend.clone());
    Subject {
        runner: backend.clone(),
        watcher: backend,
        image: None,
        limit: Duration::from_secs(30),
        keep: Box::new(bench),
    }
}

mod merged {
    use super::*;
    qwex_runner::conformance!(subject(embedded()));
}

mod split {
    use super::*;
    qwex_runner::conformance!(subject(laptop()));
}
