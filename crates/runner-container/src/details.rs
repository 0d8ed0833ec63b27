//! What the engine says of itself (`probe`) and of an attempt that is over (`details`).

use std::time::Duration;

use bollard::models::SystemInfo;
use jiff::Timestamp;
use qwex_runner::backend::{Details, Probe};
use qwex_runner::{Key, RunnerError, Skew};

use crate::ask::ask;
use crate::backend::Inner;
use crate::engine::{Engine, Flavor};
use crate::errors;

const LIMIT: Duration = Duration::from_secs(15);

impl Inner {
    pub async fn probe(&self) -> Result<Probe, RunnerError> {
        let asked = async {
            let client = self.link.client().await?;
            let before = Timestamp::now();
            let info = ask(|| client.docker.info()).await;
            let info = info.map_err(|error| errors::runner_error(&error))?;
            let theirs = info.system_time.and_then(|told| told.parse().ok());
            let skew = theirs.map(|theirs| Skew::of(theirs, before, Timestamp::now()));
            Ok((client, skew))
        };
        let (client, skew) =
            tokio::time::timeout(LIMIT, asked)
                .await
                .map_err(|_| RunnerError::Unreachable {
                    message: format!("{} gave no answer within {LIMIT:?}", self.link.address()),
                })??;
        let info = &client.info;
        let rootless = client.rootless;
        let rights = if rootless { "rootless" } else { "as root" };
        let storage = info.driver.clone().unwrap_or_else(|| "unknown".to_owned());
        let cgroups = info
            .cgroup_version
            .map_or_else(String::new, |version| format!(", cgroup v{version}"));
        Ok(Probe {
            version: Some(client.version.clone()),
            detail: format!("{} {rights}, storage {storage}{cgroups}", self.link.address()),
            notes: self.notes(client.flavor, info, rootless),
            skew,
        })
    }

    fn notes(&self, flavor: Flavor, info: &SystemInfo, rootless: bool) -> Vec<String> {
        let way = if rootless {
            "delegate the controllers to your user (cgroup v2, `Delegate=yes`)"
        } else {
            "enable the controller in the kernel"
        };
        let limit = |available: Option<bool>, what: &str| {
            let missing = available == Some(false);
            missing.then(|| format!("a limit of {what} has no effect here; {way}"))
        };
        let mut notes: Vec<String> = [
            limit(info.memory_limit, "memory"),
            limit(info.cpu_cfs_quota, "cpu"),
            limit(info.pids_limit, "processes"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if flavor == Flavor::Podman && self.config.engine == Engine::Docker {
            notes.push("podman answers at Docker's socket; --backend podman names it".to_owned());
        }
        if flavor == Flavor::Podman && !self.link.is_local() {
            notes.push(
                "the logs of a podman on another machine come with every last line ended by a newline"
                    .to_owned(),
            );
        }
        if !self.link.is_local() {
            notes.push(
                "the engine does not see this machine's files: workspaces cannot be mounted".to_owned(),
            );
        }
        if self.link.starts_own_service() {
            notes.push(
                "no podman service runs, so one is started while runs need it; `systemctl --user enable --now \
                 podman.socket` keeps one"
                    .to_owned(),
            );
        }
        notes
    }

    pub async fn details(&self, key: Key) -> Result<Details, RunnerError> {
        let client = self.link.client().await?;
        let known = Details {
            usage: self.usages.of(key),
            ..Details::default()
        };
        let Some(container) = self.inspect(&key.object()).await? else {
            return Ok(known);
        };
        let Some(image) = container.image_id else {
            return Ok(known);
        };
        let digest = match ask(|| client.docker.inspect_image(&image)).await {
            Ok(found) => found.repo_digests.unwrap_or_default().into_iter().next(),
            Err(error) if errors::is_not_found(&error) => None,
            Err(error) => return Err(errors::runner_error(&error)),
        };
        let host = nix::unistd::gethostname().ok();
        let host = host.and_then(|host| host.into_string().ok());
        Ok(Details {
            // An image that was built or loaded here has no digest in any registry, only its own id.
            image_digest: digest.or(Some(image)),
            host: host.filter(|_| self.link.is_local()),
            ..known
        })
    }
}
