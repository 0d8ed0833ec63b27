//! The variables of the command: plain ones, those behind a Secret, and qwex's own. Values out of the caller's
//! environment are behind the Secret that `crate::secrets` makes beside the Job.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use qwex_core::secret_from_env;
use qwex_runner::Work;

use super::{ManifestError, literal};

/// Set by qwex alone; a user's variable of that name is left out.
const OWN_VARIABLES: [&str; 2] = ["QWEX_RUN_ID", "QWEX_ATTEMPT"];

pub(super) fn env(work: &Work) -> Result<Vec<EnvVar>, ManifestError> {
    let ours = [work.run_id.to_string(), work.attempt.to_string()];
    let users = work
        .spec
        .env
        .iter()
        .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
        .map(|(name, value)| plain(name, literal(value)));
    let secrets = work
        .spec
        .secrets
        .iter()
        .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
        .map(|(name, reference)| match secret_from_env(reference) {
            Some(_) => Ok(behind(name, &work.object_name(), name)),
            None => secret(name, reference),
        });
    let own = OWN_VARIABLES
        .into_iter()
        .zip(ours)
        .map(|(name, value)| Ok(plain(name, value)));
    users.map(Ok).chain(secrets).chain(own).collect()
}

fn plain(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }
}

/// `secret` or `secret/key`; the key defaults to the variable's name.
fn secret(variable: &str, reference: &str) -> Result<EnvVar, ManifestError> {
    let (name, key) = reference.split_once('/').unwrap_or((reference, variable));
    if name.is_empty() || key.is_empty() || key.contains('/') {
        return Err(ManifestError::BadSecret {
            variable: variable.to_owned(),
            reference: reference.to_owned(),
        });
    }
    Ok(behind(variable, name, key))
}

fn behind(variable: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: variable.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    }
}
