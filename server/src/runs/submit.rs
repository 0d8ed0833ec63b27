//! From a request to a recorded run: check, mint, record, answer. Repeats land on the same run.

use jiff::Timestamp;
use qwex_api::run::{RerunRequest, SubmitRequest};
use qwex_core::{ClusterName, Project, Run, RunId, SpecProblem, validate_labels};
use qwex_runner::backend::{SERVER_FEATURES, unsupported};
use sha2::{Digest, Sha256};

use super::{Runs, RunsError};
use crate::auth::Principal;
use crate::db;
use crate::db::submit::{NewRun, SubmitKey};

/// The answer to a submit.
#[derive(Debug, Clone)]
pub struct Submission {
    pub run: Run,
    /// False: the same run was there already.
    pub created: bool,
    /// True: an idempotency key brought back the run of an earlier request.
    pub replayed: bool,
}

/// A rerun of a recorded run.
pub type Rerun = RerunRequest;

impl Runs {
    /// Records a run durably and returns at once.
    ///
    /// # Errors
    /// The request is not valid, its id or key belongs to another run, or nothing could be recorded.
    pub async fn submit(
        &self,
        who: &Principal,
        request: SubmitRequest,
        key: Option<String>,
    ) -> Result<Submission, RunsError> {
        let project = request.project.clone().unwrap_or_else(|| who.project.clone());
        self.check_project(who, &project).await?;
        let fingerprint = fingerprint(&request);
        let id = request.id.unwrap_or_else(RunId::mint);
        let name = request.name.clone();
        let labels = request.labels.clone();
        let asked_for_id = request.id.is_some();
        let spec = request.into_spec();
        let mut problems = spec.validate().err().unwrap_or_default();
        problems.extend(validate_labels(&labels).err().unwrap_or_default());
        problems.extend(unsupported("remote", SERVER_FEATURES, &spec));
        if asked_for_id && let Err(error) = id.check_age(Timestamp::now()) {
            problems.push(SpecProblem {
                pointer: "/id".to_owned(),
                code: "invalid",
                detail: error.to_string(),
            });
        }
        problems.extend(self.check_cluster(spec.cluster.as_ref()).await?);
        if !problems.is_empty() {
            return Err(RunsError::Invalid(problems));
        }
        let key = key.map(|key| SubmitKey {
            project: project.clone(),
            principal: who.token_id.clone(),
            key,
            request_hash: fingerprint,
        });
        let spec_hash = spec.hash();
        let new = NewRun {
            id,
            project,
            name,
            labels,
            spec,
            spec_hash,
            created_by: who.label(),
        };
        self.lane.submit(new, key).await
    }

    /// Submits the recorded spec again as a new run.
    ///
    /// # Errors
    /// The run does not exist in the asker's scope, or as [`Runs::submit`].
    pub async fn rerun(
        &self,
        who: &Principal,
        id: RunId,
        change: Rerun,
        key: Option<String>,
    ) -> Result<Submission, RunsError> {
        let known = self.get(&who.scope(), id).await?.run;
        let mut request = SubmitRequest::from_spec(known.spec);
        request.id = change.id;
        request.name = known.name;
        request.project = Some(known.project);
        request.labels = known.labels;
        request.cluster = change.cluster.or(request.cluster);
        request.queue = change.queue.or(request.queue);
        // Scoped by the run, so that one key reruns one run.
        let key = key.map(|key| format!("rerun/{id}/{key}"));
        self.submit(who, request, key).await
    }

    /// A cluster that is not registered would be waited for in vain.
    async fn check_cluster(&self, cluster: Option<&ClusterName>) -> Result<Option<SpecProblem>, RunsError> {
        let Some(cluster) = cluster else { return Ok(None) };
        if db::cluster::cluster_exists(&self.pools.api, cluster).await? {
            return Ok(None);
        }
        Ok(Some(SpecProblem {
            pointer: "/cluster".to_owned(),
            code: "unknown",
            detail: format!("there is no cluster {cluster}; `GET /v1/clusters` lists those there are"),
        }))
    }

    pub(super) async fn check_project(&self, who: &Principal, project: &Project) -> Result<(), RunsError> {
        let own = *project == who.project;
        if own || (who.may_enter(project) && db::project::project_exists(&self.pools.api, project).await?) {
            return Ok(());
        }
        Err(RunsError::NoProject(project.to_string()))
    }
}

/// SHA-256 of the request in canonical form, so that a permuted body is the same body.
fn fingerprint(request: &SubmitRequest) -> Vec<u8> {
    let json = serde_json::to_vec(request).expect("a request of strings and numbers serialises");
    Sha256::digest(json).to_vec()
}
