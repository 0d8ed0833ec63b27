//! Makes the container of an attempt and starts its command, exactly once. Called under the attempt's lock, by submit
//! and by the end of a pull.

use std::time::{Duration, Instant};

use bollard::models::LocalNodeState;
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, InspectNetworkOptions, StartContainerOptions,
};
use qwex_runner::{Key, RunnerError, Work};

use crate::ask::ask;
use crate::backend::Inner;
use crate::deadline;
use crate::ending::short;
use crate::errors;
use crate::manifest;
use crate::names;
use crate::record::{EndCause, Locked, Record};
use crate::snapshot::{Phase, Snapshot};
use crate::usage;
use crate::user::Caller;

/// How long the name may be taken by a container that is being removed.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// Networks that engines have or make themselves; the last three are podman's.
const OWN_NETWORKS: [&str; 7] = [
    "none",
    "bridge",
    "host",
    "default",
    "private",
    "slirp4netns",
    "pasta",
];

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// Container made and start asked for; or the record holds why it cannot.
    Up,
    /// Nothing was made: the image is not there.
    NoImage,
}

impl Inner {
    /// Goes on from wherever the record says the attempt is.
    ///
    /// # Errors
    /// The engine refuses, does not answer, or has somebody else's container of that name.
    pub async fn bring_up(
        self: &std::sync::Arc<Self>,
        work: &Work,
        record: &mut Record,
        lock: &Locked,
    ) -> Result<Brought, RunnerError> {
        let key = Key::of_work(work);
        let (id, fresh) = match record.container.clone() {
            Some(id) => (id, false),
            None => match self.create(work, record).await? {
                Made::Created(id) => (id, true),
                Made::Found(id) => (id, false),
                Made::NoImage => return Ok(Brought::NoImage),
            },
        };
        if record.container.is_none() {
            record.container = Some(id.clone());
            self.records.write(key, record, lock)?;
        }
        // Who finds a container does not know whether its command has run already.
        let startable = fresh || self.is_startable(&id).await?;
        if startable {
            self.start(key, &id, record, lock).await?;
        }
        if work.spec.timeout.is_some() {
            deadline::guard(self, key);
        }
        usage::measure(self, key);
        Ok(Brought::Up)
    }

    async fn is_startable(&self, id: &str) -> Result<bool, RunnerError> {
        let found = self.inspect(id).await?;
        Ok(found.is_some_and(|found| {
            found.phase == Phase::Created && !found.was_started() && found.error.is_empty()
        }))
    }

    /// Makes the container; one that is there and ours is taken for it, with its UID.
    async fn create(&self, work: &Work, record: &mut Record) -> Result<Made, RunnerError> {
        let client = self.link.client().await?;
        let caller = Caller::new(self.config.outputs_belong_to, client.rootless);
        let body = manifest::container(work, record, client.flavor, caller).map_err(|error| {
            RunnerError::Rejected {
                message: error.to_string(),
            }
        })?;
        self.find_network(work.spec.network.as_deref()).await?;
        let name = work.object_name();
        let options = CreateContainerOptions {
            name: Some(name.clone()),
            ..CreateContainerOptions::default()
        };
        let begun = Instant::now();
        loop {
            let error = match client
                .docker
                .create_container(Some(options.clone()), body.clone())
                .await
            {
                Ok(made) => return Ok(Made::Created(made.id)),
                Err(error) => error,
            };
            if errors::is_image_missing(&error) {
                return Ok(Made::NoImage);
            }
            if !errors::is_name_taken(&error) && !errors::is_unclear(&error) {
                return Err(refused(&error));
            }
            match self.inspect(&name).await {
                Ok(Some(found)) if is_ours(&found, work, record) => {
                    record.uid = found.uid();
                    return Ok(Made::Found(found.id));
                }
                Ok(Some(found)) if found.phase != Phase::Removing => return Err(conflict(&found, work)),
                // The name is taken by a container that is not there: it is being removed.
                Ok(Some(_) | None) if errors::is_name_taken(&error) && begun.elapsed() < REMOVAL_LIMIT => {}
                Ok(Some(_) | None) | Err(_) => return Err(errors::runner_error(&error)),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Refuses a network that the engine surely does not have. Docker would find out only when it starts the container, and
    /// then it looks as if the command could not be started.
    async fn find_network(&self, name: Option<&str>) -> Result<(), RunnerError> {
        let Some(name) = name.filter(|name| !OWN_NETWORKS.contains(name)) else {
            return Ok(());
        };
        let client = self.link.client().await?;
        let asked = ask(|| client.docker.inspect_network(name, None::<InspectNetworkOptions>));
        match asked.await {
            Err(error) if errors::is_not_found(&error) && !self.is_in_swarm().await => {
                let engine = self.config.engine.name();
                Err(RunnerError::Rejected {
                    message: format!(
                        "{engine} has no network {name}; make it with `{engine} network create {name}`, or choose none, bridge \
                         or host"
                    ),
                })
            }
            // What cannot be read says nothing: the create will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A node of a swarm shows an overlay network only once one of its containers is attached to it.
    async fn is_in_swarm(&self) -> bool {
        let Ok(client) = self.link.client().await else {
            return true;
        };
        let Ok(info) = ask(|| client.docker.info()).await else {
            return true;
        };
        let state = info.swarm.and_then(|swarm| swarm.local_node_state);
        !matches!(
            state,
            None | Some(LocalNodeState::EMPTY | LocalNodeState::INACTIVE)
        )
    }

    /// Starts the command. An engine that answers no has not started it: that ends the attempt.
    async fn start(&self, key: Key, id: &str, record: &mut Record, lock: &Locked) -> Result<(), RunnerError> {
        let client = self.link.client().await?;
        let Err(error) = client
            .docker
            .start_container(id, None::<StartContainerOptions>)
            .await
        else {
            return Ok(());
        };
        match errors::status(&error) {
            // It runs already.
            Some(304) => return Ok(()),
            Some(_) => {}
            None => return Err(errors::runner_error(&error)),
        }
        // Where somebody removed it, that is to be told.
        let found = self.inspect(id).await?;
        if found.is_none_or(|found| found.was_started()) {
            return Ok(());
        }
        record.end(EndCause::StartError, self.start_error(&error));
        self.records.write(key, record, lock)
    }

    fn start_error(&self, error: &bollard::errors::Error) -> String {
        let told = errors::message(error);
        if !(told.contains("network") && told.contains("not found")) {
            return told;
        }
        let engine = self.config.engine.name();
        format!(
            "{told}; `{engine} network ls` lists the networks of this engine, and one of a swarm must be made with --attachable"
        )
    }

    /// The container of that name or id; `None` where the engine says that there is none.
    pub async fn inspect(&self, name: &str) -> Result<Option<Snapshot>, RunnerError> {
        let client = self.link.client().await?;
        let asked = ask(|| {
            client
                .docker
                .inspect_container(name, None::<InspectContainerOptions>)
        });
        let found = match asked.await {
            Ok(found) => Snapshot::of(found),
            // podman has more states than Docker.
            Err(bollard::errors::Error::JsonDataError { contents, .. }) => Snapshot::of_podman(&contents),
            Err(error) if errors::is_not_found(&error) => return Ok(None),
            Err(error) => return Err(errors::runner_error(&error)),
        };
        let found = found.ok_or_else(|| RunnerError::Failed {
            message: format!("the engine's answer about container {name} has no state"),
        })?;
        Ok(Some(self.judged(client, found).await))
    }
}

enum Made {
    Created(String),
    Found(String),
    NoImage,
}

/// Made for this very attempt, from the same spec.
pub fn is_ours(found: &Snapshot, work: &Work, record: &Record) -> bool {
    let same_spec = found.labels.get(names::SPEC_HASH) == Some(&record.spec_hash);
    found.key() == Some(Key::of_work(work)) && same_spec
}

fn conflict(found: &Snapshot, work: &Work) -> RunnerError {
    let message = match found.key() {
        None => "a container of that name exists that qwex did not make",
        Some(key) if key != Key::of_work(work) => {
            "the container of that name carries the labels of another run"
        }
        Some(_) => "the container of that name was made from another spec",
    };
    RunnerError::NameConflict {
        object: format!("{} ({})", found.name, short(&found.id)),
        message: message.to_owned(),
    }
}

/// A create that surely did not happen. What an engine calls an internal error is mostly a wish it cannot grant.
fn refused(error: &bollard::errors::Error) -> RunnerError {
    match errors::status(error) {
        Some(400 | 404 | 409 | 422 | 500) => RunnerError::Rejected {
            message: errors::message(error),
        },
        Some(_) | None => errors::runner_error(error),
    }
}
