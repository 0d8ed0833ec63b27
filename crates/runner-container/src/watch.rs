//! Watches everything of ours on one engine. The events begin before the list does, and results are read by inspecting
//! containers that nobody removes: an end between two looks cannot be missed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures::stream::{BoxStream, StreamExt};
use qwex_core::Observation;
use qwex_runner::{Key, ObjectRef, RunnerError, Sighting, SightingStream, WatchPosition};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use crate::ask::{ask, ask_stream};
use crate::backend::Inner;
use crate::deadline;
use crate::errors;
use crate::logs;
use crate::names;
use crate::observe::View;
use crate::usage;

/// Without news for this long, the watch says that it is alive.
const ALIVE: Duration = Duration::from_secs(10);
/// How often attempts without a container are looked at, and what is running is looked at again: podman's events may be
/// switched off, and other processes' pulls tell us nothing.
const LOOK: Duration = Duration::from_secs(1);
/// Things done to a container that move no run.
const NOISE: [&str; 7] = ["attach", "exec_", "top", "resize", "rename", "export", "update"];

pub async fn stream(inner: Arc<Inner>) -> Result<SightingStream, RunnerError> {
    let mut news = inner.changed.subscribe();
    let mut events = events(&inner).await?;
    Ok(Box::pin(async_stream::stream! {
        let mut eye = Eye::default();
        match eye.list(&inner).await {
            Ok(sightings) => for sighting in sightings {
                yield Ok(sighting);
            },
            Err(error) => {
                yield Err(error);
                return;
            }
        }
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        let mut told = tokio::time::Instant::now();
        loop {
            let looked = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => match key_of(&event) {
                        Some(key) => eye.look(&inner, key).await,
                        None => continue,
                    },
                    Some(Err(error)) => Err(errors::runner_error(&error)),
                    None => Err(RunnerError::Unreachable {
                        message: "the engine closed its stream of events".to_owned(),
                    }),
                },
                key = news.recv() => match key {
                    Ok(key) if inner.config.only.is_none_or(|run| run == key.run_id) => eye.look(&inner, key).await,
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_) | RecvError::Closed) => eye.look_at_all(&inner).await,
                },
                _ = ticks.tick() => eye.look_at_all(&inner).await,
            };
            match looked {
                Ok(sightings) => for sighting in sightings {
                    told = tokio::time::Instant::now();
                    yield Ok(sighting);
                },
                Err(error) => {
                    yield Err(error);
                    return;
                }
            }
            if told.elapsed() >= ALIVE {
                told = tokio::time::Instant::now();
                yield Ok(Sighting::Alive);
            }
        }
    }))
}

type Events = BoxStream<'static, Result<EventMessage, Error>>;

/// The request goes out when the stream is first read, behind the list: what happens meanwhile is told again.
async fn events(inner: &Arc<Inner>) -> Result<Events, RunnerError> {
    let docker = inner.link.client().await?.docker.clone();
    let since = jiff::Timestamp::now().as_second() - 1;
    let mut filters = names::filter(inner.config.only);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let options = EventsOptions {
        since: Some(since.to_string()),
        filters: Some(filters),
        ..EventsOptions::default()
    };
    Ok(ask_stream(move || docker.events(Some(options.clone()))).boxed())
}

fn key_of(event: &EventMessage) -> Option<Key> {
    let action = event.action.as_deref().unwrap_or_default();
    if NOISE.iter().any(|noise| action.starts_with(noise)) {
        return None;
    }
    names::of_labels(event.actor.as_ref()?.attributes.as_ref()?)
}

type Labels = HashMap<String, String>;

/// Labels from a list in which podman names a state that Docker does not have.
fn labels_of_podman(error: Error) -> Result<Vec<Option<Labels>>, RunnerError> {
    #[derive(Deserialize)]
    struct Listed {
        #[serde(rename = "Labels")]
        labels: Option<Labels>,
    }
    let read = match &error {
        Error::JsonDataError { contents, .. } => serde_json::from_str::<Vec<Listed>>(contents).ok(),
        _ => None,
    };
    let read = read.ok_or_else(|| errors::runner_error(&error))?;
    Ok(read.into_iter().map(|container| container.labels).collect())
}

/// `None`: the attempt is on another engine, which must not blind us for those that are here.
async fn view(inner: &Inner, key: Key) -> Result<Option<View>, RunnerError> {
    let record = inner.records.read(key)?;
    let elsewhere = match &record {
        Some(record) => inner.is_at_home(record).await.is_err(),
        None => false,
    };
    if elsewhere {
        return Ok(None);
    }
    inner.view(key).await.map(Some)
}

/// What one watch has told so far.
#[derive(Debug, Default)]
struct Eye {
    attempts: BTreeMap<Key, Told>,
}

/// What was told about one attempt.
#[derive(Debug, Default)]
struct Told {
    observations: Vec<Observation>,
    logs: BTreeSet<String>,
    over: bool,
}

impl Eye {
    /// Everything there is, then the list of it.
    async fn list(&mut self, inner: &Arc<Inner>) -> Result<Vec<Sighting>, RunnerError> {
        let mut sightings = Vec::new();
        let mut objects = Vec::new();
        for key in self.keys(inner).await? {
            let Some(view) = view(inner, key).await? else {
                continue;
            };
            let object = view.uid().filter(|_| !view.was_removed()).map(|uid| ObjectRef {
                run_id: key.run_id,
                attempt: key.attempt,
                uid,
            });
            objects.extend(object);
            sightings.extend(self.take(inner, view));
        }
        sightings.push(Sighting::Listed(objects));
        sightings.push(Sighting::Position(WatchPosition("engine".to_owned())));
        Ok(sightings)
    }

    async fn keys(&self, inner: &Arc<Inner>) -> Result<BTreeSet<Key>, RunnerError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(names::filter(inner.config.only)),
            ..ListContainersOptions::default()
        };
        let client = inner.link.client().await?;
        let made = match ask(|| client.docker.list_containers(Some(options.clone()))).await {
            Ok(listed) => listed.into_iter().map(|container| container.labels).collect(),
            Err(error) => labels_of_podman(error)?,
        };
        let made = made
            .iter()
            .filter_map(|labels| names::of_labels(labels.as_ref()?));
        let recorded = inner.records.keys()?.into_iter();
        let wanted = |key: &Key| inner.config.only.is_none_or(|run| run == key.run_id);
        Ok(made.chain(recorded).filter(wanted).collect())
    }

    /// News of one attempt.
    async fn look(&mut self, inner: &Arc<Inner>, key: Key) -> Result<Vec<Sighting>, RunnerError> {
        if self.attempts.get(&key).is_some_and(|told| told.over) {
            return Ok(Vec::new());
        }
        let view = view(inner, key).await?;
        Ok(view.map(|view| self.take(inner, view)).unwrap_or_default())
    }

    /// News of everything that is not over, and of what nobody told us about.
    async fn look_at_all(&mut self, inner: &Arc<Inner>) -> Result<Vec<Sighting>, RunnerError> {
        let mut keys: BTreeSet<Key> = inner.records.keys()?.into_iter().collect();
        if let Some(run) = inner.config.only {
            keys.retain(|key| key.run_id == run);
        }
        keys.extend(self.attempts.keys().copied());
        let mut sightings = Vec::new();
        for key in keys {
            sightings.extend(self.look(inner, key).await?);
        }
        Ok(sightings)
    }

    fn take(&mut self, inner: &Arc<Inner>, view: View) -> Vec<Sighting> {
        if let Some(container) = view.container.as_ref().filter(|found| usage::is_running(found)) {
            usage::measure(inner, view.key);
            if container.timeout().is_some() {
                deadline::guard(inner, view.key);
            }
        }
        let told = self.attempts.entry(view.key).or_default();
        let all = view.observations(&inner.backend_info(view.key));
        let is_new = |seen: &&Observation| !told.observations.iter().any(|old| old.fact == seen.fact);
        let mut news: Vec<Sighting> = all.iter().filter(is_new).cloned().map(Sighting::Seen).collect();
        told.observations = all;
        told.over = view.is_over();
        for source in logs::sources(&view) {
            if told.logs.insert(source.stream.clone()) {
                news.push(Sighting::LogReady(source));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_states_of_podman_is_read() {
        let contents = r#"[{"Id":"a","State":"stopped","Labels":{"x":"y"}},{"Id":"b","Labels":null}]"#;
        let unknown = Error::JsonDataError {
            message: "unknown variant `stopped`".to_owned(),
            contents: contents.to_owned(),
            column: 1,
        };
        let labels = labels_of_podman(unknown).unwrap();
        assert_eq!(labels[0].as_ref().unwrap()["x"], "y");
        assert!(labels[1].is_none());
        let silent = Error::RequestTimeoutError;
        assert!(labels_of_podman(silent).unwrap_err().is_blind());
    }
}
