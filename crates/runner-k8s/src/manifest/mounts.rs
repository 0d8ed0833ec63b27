//! The portable mounts of a spec as volumes of a pod. Which kinds and sources are let through was checked before.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use qwex_core::{JobSpec, Mount, MountKind};

/// Volumes and where they appear, in the order of the spec.
pub(super) fn of(spec: &JobSpec) -> (Vec<Volume>, Vec<VolumeMount>) {
    let named = spec.mounts.iter().enumerate().filter_map(|(index, mount)| {
        let name = format!("mount-{index}");
        Some((volume(&name, mount)?, place(name, mount)))
    });
    named.unzip()
}

fn place(name: String, mount: &Mount) -> VolumeMount {
    VolumeMount {
        name,
        mount_path: mount.target.clone(),
        read_only: mount.read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn volume(name: &str, mount: &Mount) -> Option<Volume> {
    let source = mount.source.clone().unwrap_or_default();
    let mut volume = Volume {
        name: name.to_owned(),
        ..Volume::default()
    };
    match mount.kind {
        MountKind::EmptyDir => {
            volume.empty_dir = Some(EmptyDirVolumeSource {
                size_limit: mount.size.clone().map(Quantity),
                ..EmptyDirVolumeSource::default()
            });
        }
        MountKind::Pvc => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: source,
                read_only: mount.read_only.then_some(true),
            });
        }
        MountKind::ConfigMap => {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: source,
                ..ConfigMapVolumeSource::default()
            });
        }
        MountKind::Secret => {
            volume.secret = Some(SecretVolumeSource {
                secret_name: Some(source),
                ..SecretVolumeSource::default()
            });
        }
        MountKind::Bind => {
            // Without a type: the path is taken as it is, and must be there.
            volume.host_path = Some(HostPathVolumeSource {
                path: source,
                type_: None,
            });
        }
        MountKind::Volume | MountKind::Unknown => return None,
    }
    Some(volume)
}
