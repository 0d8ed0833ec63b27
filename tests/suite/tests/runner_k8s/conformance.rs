//! The laws of every backend, kept by Kubernetes with the user's own rights.

use std::sync::Arc;
use std::time::Duration;

use qwex_runner::conformance::Subject;
use qwex_testbed::{images, shared};

use crate::rig::Rig;

async fn subject() -> Subject {
    let alpha = shared::alpha().await.expect("alpha runs");
    let rig = Rig::direct(alpha, |_| {}).await.expect("a namespace");
    let backend = Arc::new(rig.backend.clone());
    Subject {
        runner: backend.clone(),
        watcher: backend,
        image: Some(images::BUSYBOX.to_owned()),
        limit: Duration::from_secs(180),
        keep: Box::new(rig),
    }
}

qwex_runner::conformance!(subject().await);
