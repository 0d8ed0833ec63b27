//! The user's own credentials for a registry: Docker's `config.json` with its helpers, and podman's `auth.json`. They go
//! to the engine with one pull and are kept nowhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use crate::image::Reference;

/// What the user is logged in with according to the first of these files that knows. A file or a helper that fails is told
/// as a warning, not as an error: most images need no credentials, and the registry's own answer is the better one.
pub async fn credentials(logins: Vec<PathBuf>, image: &Reference) -> Option<DockerCredentials> {
    let key = image.credentials_key().to_owned();
    let asked = [key.clone(), image.registry().to_owned()];
    // Helpers are programs: they may take a while.
    let looked = tokio::task::spawn_blocking(move || {
        let mut found = logins
            .iter()
            .flat_map(|file| asked.iter().map(move |server| look(file, server)));
        found.find_map(|credential| credential)
    });
    let empty = DockerCredentials {
        serveraddress: Some(key),
        ..DockerCredentials::default()
    };
    looked.await.ok().flatten().map(|credential| match credential {
        DockerCredential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token),
            ..empty
        },
        DockerCredential::UsernamePassword(username, password) => DockerCredentials {
            username: Some(username),
            password: Some(password),
            ..empty
        },
    })
}

fn look(file: &Path, server: &str) -> Option<DockerCredential> {
    let open = File::open(file).ok()?;
    match get_credential_from_reader(open, server) {
        Ok(credential) => Some(credential),
        Err(CredentialRetrievalError::HelperFailure { helper, stderr, .. }) => {
            // Helpers say "credentials not found" this way; what they print may hold no secret of ours.
            tracing::debug!(helper, stderr, server, "the credential helper gave nothing");
            None
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => None,
        Err(error) => {
            let file = file.display();
            tracing::warn!(%error, %file, server, "the stored credentials cannot be used; pulling without");
            None
        }
    }
}
