//! Parts of requests that live in `core`, read strictly: a stored record may have fields of a newer version, a
//! request may not.

use std::collections::BTreeMap;

use qwex_core::spec::{Backoff, Placement};
use qwex_core::{Resources, RetryOn, RetryPolicy};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(remote = "RetryPolicy", deny_unknown_fields)]
pub(crate) struct StrictRetry {
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    on: Vec<RetryOn>,
    #[serde(default)]
    backoff: Option<Backoff>,
}

#[derive(Deserialize)]
#[serde(remote = "Placement", deny_unknown_fields)]
pub(crate) struct StrictPlacement {
    #[serde(default)]
    require: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(remote = "Resources", deny_unknown_fields)]
pub(crate) struct StrictResources {
    #[serde(default, deserialize_with = "qwex_core::resources::text_or_number")]
    cpu: Option<String>,
    #[serde(default, deserialize_with = "qwex_core::resources::text_or_number")]
    memory: Option<String>,
    #[serde(default)]
    gpu: Option<u32>,
    #[serde(default)]
    pids: Option<u32>,
}
