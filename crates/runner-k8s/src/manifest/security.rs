//! As whom a pod runs. On a server always within Pod Security `restricted`: some user that is not root. With the user's
//! own rights the image's user, as every container engine does; a run that names a user of its own is within
//! `restricted` there too.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};
use qwex_runner::Work;

use crate::check::User;
use crate::config::K8sConfig;

pub(super) struct Security {
    uid: Option<i64>,
    gid: Option<i64>,
    restricted: bool,
}

impl Security {
    /// A named user was checked before.
    pub fn of(work: &Work, config: &K8sConfig) -> Self {
        let named = work
            .spec
            .user
            .as_deref()
            .and_then(|user| User::parse(user, &config.policy).ok());
        match named {
            Some(user) => Self {
                uid: Some(user.uid),
                gid: Some(user.gid.unwrap_or(user.uid)),
                restricted: user.uid != 0,
            },
            None if config.policy.any_user => Self {
                uid: None,
                gid: None,
                restricted: false,
            },
            None => {
                let usual = config.tuning.run_as_user;
                Self {
                    uid: usual,
                    gid: usual,
                    restricted: true,
                }
            }
        }
    }

    pub fn pod(&self) -> PodSecurityContext {
        PodSecurityContext {
            run_as_non_root: self.restricted.then_some(true),
            run_as_user: self.uid,
            run_as_group: self.gid,
            fs_group: self.gid,
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }
    }

    pub fn container(&self) -> SecurityContext {
        SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: self.restricted.then(|| Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }
    }
}
