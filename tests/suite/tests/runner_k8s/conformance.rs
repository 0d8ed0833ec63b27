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
    Subject::new(backend, Duration::from_secs(180), rig).with_image(images::BUSYBOX)
}

qwex_runner::conformance!("k8s", subject().await);
