//! Hands one attempt to the engine and returns: with the image there, its container is started; without, the image is
//! pulled in the background ([`crate::pull`]) and the record says so.

use std::sync::Arc;

use qwex_core::BackendInfo;
use qwex_core::spec::PullPolicy;
use qwex_runner::{Key, RunnerError, Submitted, Work};

use crate::backend::Inner;
use crate::create::Brought;
use crate::engine::Flavor;
use crate::manifest;
use crate::pull;
use crate::record::{EndCause, Locked, Record};

impl Inner {
    pub async fn submit(self: &Arc<Self>, work: &Work) -> Result<Submitted, RunnerError> {
        self.check(work)?;
        let key = Key::of_work(work);
        let hash = work.spec.hash();
        let home = &self.link.client().await?.home;
        let lock = self.records.lock(key).await?;
        let (mut record, known) = match self.records.read(key)? {
            Some(record) if record.spec_hash == hash || record.spec_hash.is_empty() => (record, true),
            Some(_) => {
                return Err(RunnerError::NameConflict {
                    object: work.object_name(),
                    message: "this attempt was submitted before with another spec".to_owned(),
                });
            }
            None => {
                let image = work.spec.image.clone().unwrap_or_default();
                (Record::new(hash, image).at(home.clone()), false)
            }
        };
        self.is_at_home(&record).await?;
        let before = record.uid.clone();
        if record.end.is_none() && record.stop.is_none() {
            if !known {
                self.records.write(key, &record, &lock)?;
            }
            if let Err(error) = self.go_on(work, &mut record, &lock).await {
                // Nothing was made: a refusal leaves nothing behind.
                if !known && !error.is_retryable() {
                    self.records.remove(key, &lock)?;
                }
                return Err(error);
            }
        }
        self.tell_changed(key);
        let mut backend: BackendInfo = self.backend_info(key);
        let adopted = known || record.uid != before;
        backend.uid = Some(record.uid);
        Ok(Submitted { backend, adopted })
    }

    async fn go_on(
        self: &Arc<Self>,
        work: &Work,
        record: &mut Record,
        lock: &Locked,
    ) -> Result<(), RunnerError> {
        let policy = work.spec.pull_policy.unwrap_or(PullPolicy::IfNotPresent);
        let first_pull = policy == PullPolicy::Always && record.container.is_none();
        let brought = if first_pull && !self.has_container(work).await? {
            Brought::NoImage
        } else {
            self.bring_up(work, record, lock).await?
        };
        match (brought, policy) {
            (Brought::Up, _) => {}
            (Brought::NoImage, PullPolicy::Never) => {
                let message = format!(
                    "the image {} is not on this machine and the pull policy is `never`; pull or build it first",
                    record.image
                );
                record.end(EndCause::Image, message);
                self.records.write(Key::of_work(work), record, lock)?;
            }
            (Brought::NoImage, PullPolicy::Always | PullPolicy::IfNotPresent) => {
                self.tell_progress(Key::of_work(work), format!("pulling {}", record.image));
                pull::spawn(self, work.clone());
            }
        }
        Ok(())
    }

    async fn has_container(&self, work: &Work) -> Result<bool, RunnerError> {
        Ok(self.inspect(&work.object_name()).await?.is_some())
    }

    /// Refuses what can be refused without the engine, so that it leaves no trace.
    fn check(&self, work: &Work) -> Result<(), RunnerError> {
        let problems = self.problems(&work.spec);
        if let Some(first) = problems.first() {
            return Err(RunnerError::Unsupported {
                message: first.detail.clone(),
            });
        }
        if work.workspace.is_some() && !self.link.is_local() {
            return Err(RunnerError::Unsupported {
                message: format!(
                    "the engine at {} does not see this machine's files, so the workspace cannot be mounted; run \
                     without a workspace, or on that machine by the backend ssh",
                    self.link.address()
                ),
            });
        }
        let record = Record::new(String::new(), String::new());
        let caller = crate::user::Caller::new(None, false);
        let flavor = match self.config.engine {
            crate::engine::Engine::Docker => Flavor::Docker,
            crate::engine::Engine::Podman => Flavor::Podman,
        };
        match manifest::container(work, &record, flavor, caller) {
            Ok(_) => Ok(()),
            Err(error) => Err(RunnerError::Rejected {
                message: error.to_string(),
            }),
        }
    }
}
