//! The laws of every backend, as a server's embedded cluster and as a laptop has it.

use std::sync::Arc;
use std::time::Duration;

use qwex_runner::conformance::Subject;

use crate::support::{Bench, embedded, laptop};

fn subject(bench: Bench) -> Subject {
    let (backend, dir) = (Arc::new(bench.backend.clone()), bench.dir().to_owned());
    Subject::new(backend, Duration::from_secs(30), bench).in_workspace(dir)
}

mod merged {
    use super::*;
    qwex_runner::conformance!("embedded", subject(embedded()));
}

mod split {
    use super::*;
    qwex_runner::conformance!("local", subject(laptop()));
}
