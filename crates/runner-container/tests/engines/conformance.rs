//! The laws of every backend, by docker and by podman.

mod docker {
    use crate::support::Which;

    qwex_runner::conformance!("docker", {
        qwex_testbed::require!(Root, Docker);
        Which::Docker.bench().await.subject()
    });
}

mod podman {
    use crate::support::Which;

    qwex_runner::conformance!("podman", {
        qwex_testbed::require!(Root, Podman);
        Which::Podman.bench().await.subject()
    });
}
