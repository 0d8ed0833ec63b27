//! What a spec may ask for on Kubernetes, said before anything is made. One list for both who ask: `Backend::validate`
//! before a submit, and the manifest, which makes nothing of a spec that is refused here.

use qwex_core::{JobSpec, Mount, MountKind, SpecProblem};
use qwex_runner::backend::{Feature, unsupported};

use crate::config::Policy;
use crate::names;

/// What every cluster has.
const ALWAYS: [Feature; 13] = [
    Feature::Image,
    Feature::Secrets,
    Feature::Cpu,
    Feature::Memory,
    Feature::Gpu,
    Feature::Queue,
    Feature::Priority,
    Feature::PullPolicy,
    Feature::User,
    Feature::Mount(MountKind::EmptyDir),
    Feature::Mount(MountKind::Pvc),
    Feature::Mount(MountKind::ConfigMap),
    Feature::Mount(MountKind::Secret),
];

/// What the policy leaves of the features of Kubernetes.
#[must_use]
pub(crate) fn features(policy: &Policy) -> Vec<Feature> {
    let mut all = ALWAYS.to_vec();
    let mut add = |allowed: bool, feature| {
        if allowed {
            all.push(feature);
        }
    };
    add(policy.files.is_some(), Feature::Outputs);
    add(policy.env_secrets, Feature::EnvSecrets);
    add(
        policy.service_accounts != crate::config::Names::None,
        Feature::ServiceAccount,
    );
    add(!policy.host_paths.is_empty(), Feature::Mount(MountKind::Bind));
    all
}

/// Everything that is refused, in the order of the spec.
pub(crate) fn problems(
    name: &str,
    features: &[Feature],
    policy: &Policy,
    spec: &JobSpec,
) -> Vec<SpecProblem> {
    let mut problems = unsupported(name, features, spec);
    let mut refuse = |pointer: String, code, detail: String| {
        problems.push(SpecProblem {
            pointer,
            code,
            detail,
        });
    };
    if spec.image.is_none() {
        let detail = "a run on Kubernetes needs a container image; name one with --image or `image:`";
        refuse("/image".to_owned(), "required", detail.to_owned());
    }
    if let Some(user) = &spec.user
        && let Err(detail) = User::parse(user, policy)
    {
        refuse("/user".to_owned(), "invalid", detail);
    }
    if let Some(account) = &spec.service_account
        && features.contains(&Feature::ServiceAccount)
        && !policy.service_accounts.allows(account)
    {
        let detail = format!("the policy does not let runs use the service account {account:?}");
        refuse("/service_account".to_owned(), "forbidden", detail);
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        let at = format!("/mounts/{index}");
        if features.contains(&Feature::Mount(mount.kind)) {
            check_mount(mount, &at, policy, &mut refuse);
        }
    }
    problems
}

fn check_mount(
    mount: &Mount,
    at: &str,
    policy: &Policy,
    refuse: &mut impl FnMut(String, &'static str, String),
) {
    let source = mount.source.as_deref().unwrap_or_default();
    match mount.kind {
        MountKind::Bind => {
            if !is_under(source, &policy.host_paths) {
                let detail = format!(
                    "the policy lets runs mount only what is below {} of a node",
                    policy.host_paths.join(", ")
                );
                refuse(format!("{at}/source"), "forbidden", detail);
            }
        }
        MountKind::Pvc | MountKind::ConfigMap | MountKind::Secret => {
            if !is_object_name(source) {
                let detail = format!(
                    "{source:?} is no name of an object; use lower-case letters, digits, `-` and `.`"
                );
                refuse(format!("{at}/source"), "invalid", detail);
            }
        }
        MountKind::EmptyDir | MountKind::Volume | MountKind::Unknown => {}
    }
    let target = mount.target.trim_end_matches('/');
    if target == names::CONTROL {
        let detail = format!("{} is qwex's own; choose another place", names::CONTROL);
        refuse(format!("{at}/target"), "reserved", detail);
    }
    if target.contains(':') {
        let detail = "Kubernetes takes no `:` in the place of a mount".to_owned();
        refuse(format!("{at}/target"), "invalid", detail);
    }
}

/// Whether a clean absolute path is one of the directories or below it. Node paths are not ours to resolve; so
/// nothing that needs resolving is let through.
fn is_under(path: &str, directories: &[String]) -> bool {
    let clean = path.starts_with('/') && !path.split('/').any(|part| part == ".." || part == ".");
    clean
        && directories.iter().any(|directory| {
            let directory = directory.trim_end_matches('/');
            path == directory
                || path
                    .strip_prefix(directory)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
}

fn is_object_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty() && name.len() <= 253 && name.chars().all(plain)
}

/// `uid[:gid]`, as numbers: Kubernetes knows no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: i64,
    pub gid: Option<i64>,
}

impl User {
    /// # Errors
    /// What is wrong and how to mend it.
    pub fn parse(text: &str, policy: &Policy) -> Result<Self, String> {
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (text, None),
        };
        let number = |part: &str| {
            part.parse::<u32>().map(i64::from).map_err(|_| {
                format!(
                    "Kubernetes knows users by number only, not {text:?}; write it like 1000 or 1000:1000"
                )
            })
        };
        let user = Self {
            uid: number(uid)?,
            gid: gid.map(number).transpose()?,
        };
        if user.uid == 0 && !policy.any_user {
            return Err("the policy lets no run be root; name a user above 0".to_owned());
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: MountKind, source: &str, target: &str) -> Mount {
        Mount {
            kind,
            source: Some(source.to_owned()),
            target: target.to_owned(),
            read_only: false,
            size: None,
        }
    }

    fn pointers(policy: &Policy, spec: &JobSpec) -> Vec<String> {
        let found = problems("k8s", &features(policy), policy, spec);
        found.into_iter().map(|problem| problem.pointer).collect()
    }

    fn image() -> JobSpec {
        JobSpec {
            image: Some("busybox".to_owned()),
            ..JobSpec::for_command(["true"])
        }
    }

    #[test]
    fn f08_the_server_lets_nothing_through_that_reaches_the_node() {
        let spec = JobSpec {
            mounts: vec![
                mount(MountKind::Bind, "/", "/host"),
                mount(MountKind::Volume, "v", "/v"),
            ],
            user: Some("0".to_owned()),
            service_account: Some("admin".to_owned()),
            network: Some("host".to_owned()),
            outputs: vec!["*".to_owned()],
            secrets: [("KEY".to_owned(), "env:SERVERS_OWN".to_owned())].into(),
            resources: qwex_core::Resources {
                pids: Some(1),
                ..Default::default()
            },
            ..image()
        };
        let mut found = pointers(&Policy::default(), &spec);
        found.sort();
        let wanted = [
            "/mounts/0/kind",
            "/mounts/1/kind",
            "/network",
            "/outputs",
            "/resources/pids",
            "/secrets",
            "/service_account",
            "/user",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn an_image_is_needed() {
        assert_eq!(
            pointers(&Policy::default(), &JobSpec::for_command(["true"])),
            ["/image"]
        );
        assert!(pointers(&Policy::default(), &image()).is_empty());
    }

    #[test]
    fn host_paths_are_below_what_is_allowed() {
        let policy = Policy {
            host_paths: vec!["/data/".to_owned()],
            ..Policy::default()
        };
        for (path, allowed) in [
            ("/data", true),
            ("/data/a", true),
            ("/database", false),
            ("/data/../etc", false),
            ("/", false),
            ("data", false),
        ] {
            let spec = JobSpec {
                mounts: vec![mount(MountKind::Bind, path, "/x")],
                ..image()
            };
            assert_eq!(pointers(&policy, &spec).is_empty(), allowed, "{path}");
        }
    }

    #[test]
    fn users_are_numbers() {
        let any = Policy {
            any_user: true,
            ..Policy::default()
        };
        assert_eq!(
            User::parse("1000:100", &any),
            Ok(User {
                uid: 1000,
                gid: Some(100)
            })
        );
        assert!(User::parse("0", &any).is_ok() && User::parse("0", &Policy::default()).is_err());
        for bad in ["root", "1:", ":1", "-1", "1:2:3", "4294967296"] {
            assert!(User::parse(bad, &any).is_err(), "{bad}");
        }
    }

    #[test]
    fn service_accounts_by_name() {
        let only = Policy {
            service_accounts: crate::config::Names::Only(vec!["builder".to_owned()]),
            ..Policy::default()
        };
        let with = |name: &str| JobSpec {
            service_account: Some(name.to_owned()),
            ..image()
        };
        assert!(pointers(&only, &with("builder")).is_empty());
        assert_eq!(pointers(&only, &with("admin")), ["/service_account"]);
    }
}
