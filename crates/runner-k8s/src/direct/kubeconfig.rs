//! Finds the user's own kubeconfig as kubectl does: a named file, else the list in `KUBECONFIG`, else `~/.kube/config`, else the
//! service account of the pod we run in.
//!
//! Called by `K8sBackend::connect_direct` alone: here programs may be run to log in and files may be read, because the machine and its
//! files are the user's. A kubeconfig that others send goes through [`crate::connect`], which refuses both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kube::config::{
    AuthInfo, Cluster, Context, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster, NamedContext,
};

use crate::connect::{ConnectError, incomplete};

/// Where Kubernetes puts a pod's credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The name of everything in the kubeconfig that stands for the pod's own service account.
const IN_CLUSTER: &str = "in-cluster";

/// What of the machine leads to a cluster.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The value of `KUBECONFIG`.
    pub kubeconfig: Option<OsString>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Host and port of the cluster that this process runs in.
    pub service: Option<(String, String)>,
    /// The directory with `token`, `ca.crt` and `namespace`.
    pub service_account: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok();
        let port = std::env::var("KUBERNETES_SERVICE_PORT").ok();
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
            service: host.zip(port),
            service_account: PathBuf::from(SERVICE_ACCOUNT),
        }
    }
}

/// A way to a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub kubeconfig: Kubeconfig,
    pub context: String,
    /// The context's own, else `default`.
    pub namespace: String,
    /// For people: the files it was read from.
    pub origin: String,
}

/// Looks for a kubeconfig and chooses the context in it.
///
/// # Errors
/// None is there, one cannot be read, or the context is not in it.
pub(crate) fn find(
    file: Option<&Path>,
    context: Option<&str>,
    around: &Surroundings,
) -> Result<Found, ConnectError> {
    let files = candidates(file, around);
    let (kubeconfig, origin) = match read_all(&files, file.is_some())? {
        Some(read) => read,
        None => in_cluster(&files, around)?,
    };
    choose(kubeconfig, context, origin)
}

fn candidates(file: Option<&Path>, around: &Surroundings) -> Vec<PathBuf> {
    if let Some(file) = file {
        return vec![file.to_owned()];
    }
    let listed: Vec<PathBuf> = around
        .kubeconfig
        .iter()
        .flat_map(|list| std::env::split_paths(list).collect::<Vec<_>>())
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let own = around.home.as_ref().map(|home| home.join(".kube/config"));
    own.into_iter().collect()
}

/// All files that are there, merged as kubectl merges them: the first to name a thing wins.
fn read_all(files: &[PathBuf], must_exist: bool) -> Result<Option<(Kubeconfig, String)>, ConnectError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut read = Vec::new();
    for file in files {
        let next = match Kubeconfig::read_from(file) {
            Ok(next) => next,
            Err(KubeconfigError::ReadConfig(error, _))
                if error.kind() == std::io::ErrorKind::NotFound && !must_exist =>
            {
                continue;
            }
            Err(error) => return Err(unreadable(file, &error)),
        };
        read.push(file.display().to_string());
        merged = Some(match merged {
            Some(so_far) => so_far.merge(next).map_err(|error| unreadable(file, &error))?,
            None => next,
        });
    }
    Ok(merged.map(|kubeconfig| (kubeconfig, read.join(", "))))
}

fn unreadable(file: &Path, error: &dyn std::error::Error) -> ConnectError {
    let mut message = format!("{}: {error}", file.display());
    let mut cause = error.source();
    while let Some(inner) = cause {
        message = format!("{message}: {inner}");
        cause = inner.source();
    }
    ConnectError::Unreadable { message }
}

/// The pod's service account, written as a kubeconfig: its token is read again when it is renewed.
fn in_cluster(looked_at: &[PathBuf], around: &Surroundings) -> Result<(Kubeconfig, String), ConnectError> {
    let dir = &around.service_account;
    let token = dir.join("token");
    let Some((host, port)) = around.service.as_ref().filter(|_| token.exists()) else {
        let looked: Vec<_> = looked_at.iter().map(|path| path.display().to_string()).collect();
        return Err(ConnectError::NoKubeconfig {
            looked: if looked.is_empty() {
                "no file".to_owned()
            } else {
                looked.join(", ")
            },
        });
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let namespace = std::fs::read_to_string(dir.join("namespace")).ok();
    let path = |name: &str| Some(dir.join(name).display().to_string());
    let kubeconfig = Kubeconfig {
        clusters: vec![NamedCluster {
            name: IN_CLUSTER.to_owned(),
            cluster: Some(Cluster {
                server: Some(format!("https://{host}:{port}")),
                certificate_authority: path("ca.crt"),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: IN_CLUSTER.to_owned(),
            auth_info: Some(AuthInfo {
                token_file: path("token"),
                ..AuthInfo::default()
            }),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: IN_CLUSTER.to_owned(),
            context: Some(Context {
                cluster: IN_CLUSTER.to_owned(),
                user: Some(IN_CLUSTER.to_owned()),
                namespace: namespace.map(|name| name.trim().to_owned()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(IN_CLUSTER.to_owned()),
        ..Kubeconfig::default()
    };
    Ok((
        kubeconfig,
        format!("the pod's service account in {}", dir.display()),
    ))
}

fn choose(kubeconfig: Kubeconfig, context: Option<&str>, origin: String) -> Result<Found, ConnectError> {
    let names = || kubeconfig.contexts.iter().map(|named| named.name.as_str());
    let wanted = context
        .or(kubeconfig.current_context.as_deref())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| incomplete("current context", names()))?
        .to_owned();
    let chosen = kubeconfig
        .contexts
        .iter()
        .find(|named| named.name == wanted)
        .and_then(|named| named.context.as_ref())
        .ok_or_else(|| incomplete(&format!("context {wanted:?}"), names()))?;
    let namespace = chosen
        .namespace
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    Ok(Found {
        namespace,
        context: wanted,
        kubeconfig,
        origin,
    })
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
