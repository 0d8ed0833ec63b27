//! After a complete list: every attempt that SQL believes to be there and the list does not show is read
//! again by itself. Only that read may prove it absent.

use std::collections::HashSet;

use futures::StreamExt;
use qwex_runner::{Handle, ObjectRef};

use super::{Context, Ended};
use crate::clusters::within;
use crate::recorder::Batch;

const IN_FLIGHT: usize = 8;

pub(super) async fn look_for(context: &Context, listed: &[ObjectRef]) -> Result<(), Ended> {
    let there: HashSet<_> = listed
        .iter()
        .map(|object| (object.run_id, object.attempt, &object.uid))
        .collect();
    let open = context.reach.open_attempts().await;
    let missing = open.into_iter().filter(|handle| {
        handle
            .backend
            .uid
            .as_ref()
            .is_none_or(|uid| !there.contains(&(handle.run_id, handle.attempt, uid)))
    });
    let looks = futures::stream::iter(missing)
        .map(|handle| look(context, handle))
        .buffer_unordered(IN_FLIGHT);
    let observations: Vec<_> = looks.collect::<Vec<_>>().await.into_iter().flatten().collect();
    if observations.is_empty() {
        return Ok(());
    }
    tracing::info!(cluster = %context.backend.name, facts = observations.len(), "attempts were missing from the list");
    let batch = Batch {
        observations,
        guard: Some(context.guard.clone()),
        ..Batch::default()
    };
    context.recorder.record(batch).await?;
    Ok(())
}

/// Blind is not dead: an error says nothing.
async fn look(context: &Context, handle: Handle) -> Vec<qwex_core::Observation> {
    match within(context.backend.watcher.observe(&handle)).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::info!(run = %handle.run_id, error = &error as &dyn std::error::Error, "a missing attempt cannot be read");
            Vec::new()
        }
    }
}
