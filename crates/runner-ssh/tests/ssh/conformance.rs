//! The laws of every backend, with our program as supervisor on the host and with the script.

use std::sync::Arc;
use std::time::Duration;

use qwex_runner::conformance::Subject;

use crate::support::{Bench, program, script};

fn subject(bench: Bench) -> Subject {
    let backend = Arc::new(bench.backend.clone());
    Subject::new(backend, Duration::from_secs(180), bench)
}

mod by_program {
    use super::*;
    qwex_runner::conformance!("ssh", subject(program().await));
}

mod by_script {
    use super::*;
    qwex_runner::conformance!("ssh-script", subject(script().await));
}
