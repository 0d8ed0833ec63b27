//! The laws of every backend, kept through a server.

use std::sync::Arc;
use std::time::Duration;

use qwex_runner::conformance::Subject;

use crate::server;

async fn subject() -> Subject {
    let backend = server::shared().await.expect("a server runs").backend();
    Subject::new(Arc::new(backend), Duration::from_secs(90), ()).with_log_of_at_most(
        16 * 1024 * 1024,
        "16 MB in this suite: each line goes over the wire as an event, and tests are built without optimisation",
    )
}

qwex_runner::conformance!("remote", {
    qwex_testbed::require!(Postgres);
    subject().await
});
