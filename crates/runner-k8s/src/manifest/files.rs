//! The helper containers of a run whose workspace goes over or whose outputs come back, and the scripts in them. The
//! command's own container stays the user's image and command; it only sees `/workspace`.
//!
//! Before the command an init container looks whether its image has what is needed and, where files go over, waits
//! until they are there (`crate::files::send` brings them). Beside the command a second container keeps the pod until
//! the outputs were fetched (`crate::files::collect`), or for a limit: a container cannot see that its neighbour ended.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PodSpec, Probe, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use qwex_core::spec::PullPolicy;
use qwex_runner::{Transfer, Work};

use super::security::Security;
use super::{clamp, pull_policy};
use crate::config::{FilesPolicy, Policy};
use crate::names;

const WORKSPACE_VOLUME: &str = "qwex-workspace";
const CONTROL_VOLUME: &str = "qwex-control";

/// `$1`: `send` or `check`; `$2`: most seconds to wait.
const IN: &str = r#"trap 'exit 143' TERM
for tool in tar find touch sleep date; do
  command -v "$tool" >/dev/null 2>&1 && continue
  echo "the image has no $tool, which qwex needs to carry files; use one that has sh, tar and find, or set an image for the files" >/dev/termination-log
  exit 1
done
[ "$1" = check ] && exit 0
end=$(($(date +%s) + $2))
until [ -e /qwex/sent ]; do
  if [ "$(date +%s)" -ge "$end" ]; then
    echo "the files of the workspace did not come within $2 s: whoever submitted the run has gone" >/dev/termination-log
    exit 1
  fi
  sleep 0.2 2>/dev/null || sleep 1
done"#;

/// `$1`: most seconds to wait.
const OUT: &str = r#"trap 'exit 143' TERM
end=$(($(date +%s) + $1))
until [ -e /qwex/fetched ] || [ "$(date +%s)" -ge "$end" ]; do sleep 1; done
[ -e /qwex/fetched ] && echo fetched >/dev/termination-log
exit 0"#;

/// What of files a run needs.
pub(super) struct Files<'a> {
    policy: &'a FilesPolicy,
    sends: bool,
    outputs: bool,
    image: Option<String>,
    pull: Option<PullPolicy>,
    timeout: Option<i64>,
}

impl<'a> Files<'a> {
    /// `None` where nothing goes over and nothing comes back.
    pub fn of(work: &Work, policy: &'a Policy) -> Option<Self> {
        let policy = policy.files.as_ref()?;
        let sends = match work.workspace.as_ref().map(|workspace| &workspace.send) {
            Some(Transfer::Everything) => true,
            Some(Transfer::Only(paths)) => !paths.is_empty(),
            Some(Transfer::Nothing) | None => false,
        };
        let outputs = !work.spec.outputs.is_empty();
        (sends || outputs).then(|| Self {
            policy,
            sends,
            outputs,
            image: policy.image.clone().or_else(|| work.spec.image.clone()),
            pull: work.spec.pull_policy,
            timeout: work.spec.timeout.map(|timeout| clamp(timeout.as_secs_ceil())),
        })
    }

    pub fn keeps_outputs(&self) -> bool {
        self.outputs
    }

    /// The seconds after which the command itself is ended, because the Job's deadline cannot do it.
    pub fn deadline(&self) -> Option<i64> {
        self.timeout.filter(|_| self.outputs)
    }

    /// Adds helpers and volumes; gives the command its workspace and, where the pod outlives it, its deadline.
    pub fn add_to(
        &self,
        pod: &mut PodSpec,
        main: &mut Container,
        volumes: &mut Vec<Volume>,
        security: &Security,
    ) {
        volumes.extend([WORKSPACE_VOLUME, CONTROL_VOLUME].map(empty_dir));
        // Before the user's own mounts, which may lie inside.
        let mounts = main.volume_mounts.get_or_insert_default();
        mounts.insert(0, mount(WORKSPACE_VOLUME, names::WORKSPACE));
        let what = if self.sends { "send" } else { "check" };
        let limit = clamp(self.policy.send_limit.as_secs());
        let taking = self.helper(names::FILES_IN, IN, &[what, &limit.to_string()], security);
        pod.init_containers = Some(vec![taking]);
        if self.outputs {
            let keep = clamp(self.policy.keep.as_secs()).saturating_add(self.timeout.unwrap_or(0));
            let keeping = self.helper(names::FILES_OUT, OUT, &[&keep.to_string()], security);
            pod.containers.push(keeping);
            main.liveness_probe = self.deadline().map(deadline);
        }
    }

    fn helper(&self, name: &str, script: &str, arguments: &[&str], security: &Security) -> Container {
        let words = ["sh", "-c", script, name];
        let words = words.iter().chain(arguments).map(|word| super::literal(word));
        Container {
            name: name.to_owned(),
            image: self.image.clone(),
            image_pull_policy: Some(pull_policy(self.pull).to_owned()),
            command: Some(words.collect()),
            working_dir: Some("/".to_owned()),
            volume_mounts: Some(vec![
                mount(WORKSPACE_VOLUME, names::WORKSPACE),
                mount(CONTROL_VOLUME, names::CONTROL),
            ]),
            termination_message_policy: Some("File".to_owned()),
            security_context: Some(security.container()),
            ..Container::default()
        }
    }
}

/// Ends the command, and only it, after so many seconds: a probe that cannot succeed and begins then. A Job's own
/// deadline would count the time in which outputs wait, and take a run that ended well for one that ran too long.
/// One second late, so that whole seconds tell who was stopped (`observe` compares start and end).
fn deadline(seconds: i64) -> Probe {
    Probe {
        // Nothing listens on port 1, whatever the image.
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::Int(1),
            host: None,
        }),
        initial_delay_seconds: Some(i32::try_from(seconds.saturating_add(1)).unwrap_or(i32::MAX)),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        failure_threshold: Some(1),
        ..Probe::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}
