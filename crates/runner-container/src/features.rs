//! What a spec may ask of an engine.

use qwex_core::MountKind;
use qwex_runner::backend::Feature;

use crate::engine::Engine;

/// GPUs last: podman's Docker API takes no request for them (its own `--device nvidia.com/gpu=…` has no place there).
const ALL: [Feature; 15] = [
    Feature::Image,
    Feature::Cpu,
    Feature::Memory,
    Feature::Pids,
    Feature::Ulimits,
    Feature::PullPolicy,
    Feature::Mount(MountKind::Bind),
    Feature::Mount(MountKind::Volume),
    Feature::Mount(MountKind::EmptyDir),
    Feature::Network,
    Feature::Ports,
    Feature::User,
    Feature::Outputs,
    Feature::SeparateStreams,
    Feature::Gpu,
];

pub fn of(engine: Engine) -> &'static [Feature] {
    match engine {
        Engine::Docker => &ALL,
        Engine::Podman => ALL.split_last().map_or(&ALL, |(_gpu, rest)| rest),
    }
}
