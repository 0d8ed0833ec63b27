//! From a kubeconfig to clients, refusing what would run programs or read files of the server's
//! machine.
//!
//! Each purpose has its own client, hence its own connections: a storm of log streams never delays a
//! create, and a hung watch never blocks a read.

use std::time::Duration;

use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig};
use qwex_runner::RunnerError;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{Access, Tuning};
use crate::rest::Rest;

/// Why no client can be made. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("the kubeconfig cannot be read: {message}")]
    Unreadable { message: String },
    #[error("the kubeconfig has no {missing}; it has: {known}")]
    Incomplete { missing: String, known: String },
    #[error(
        "no kubeconfig was found (looked at {looked}) and this is no pod of a cluster; \
         name one with KUBECONFIG, or write ~/.kube/config as `kubectl` uses it"
    )]
    NoKubeconfig { looked: String },
    #[error(
        "user {user:?} of the kubeconfig runs a program to log in ({kind}), which qwex refuses; \
         use a token or a client certificate of a service account instead"
    )]
    RunsPrograms { user: String, kind: &'static str },
    #[error(
        "the kubeconfig names the file {file:?} ({field}), which is not here; \
         make it self-contained with `kubectl config view --raw --minify --flatten`"
    )]
    NamesFile { field: &'static str, file: String },
    #[error("the cluster cannot be used: {message}")]
    Unusable { message: String },
    #[error(
        "the address answers as another cluster (kube-system has UID {found}, registered is {expected}); \
         register it anew if it was rebuilt"
    )]
    OtherCluster { expected: String, found: String },
    #[error(
        "the context {context:?} of the kubeconfig leads to another cluster ({found}) than the one that the run was given to \
         ({expected}), so nothing can be known of the run; have the context lead there again, or name the kubeconfig in \
         which it does with KUBECONFIG"
    )]
    OtherContext {
        context: String,
        expected: String,
        found: String,
    },
}

/// For who opens backends by name. Without a way to the cluster nothing is known of its runs.
impl From<ConnectError> for RunnerError {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable {
            message: error.to_string(),
        }
    }
}

/// The clients of one cluster.
#[derive(Clone)]
pub(crate) struct Clients {
    /// Creates, cancels, releases.
    pub acts: Rest,
    /// Lists and watches.
    pub watches: Rest,
    /// Log streams and the reads around them.
    pub logs: Rest,
}

/// Builds the clients. Nothing is sent yet.
pub(crate) async fn clients(access: &Access, tuning: &Tuning) -> Result<Clients, ConnectError> {
    let config = match access {
        Access::Kubeconfig { yaml, context } => load(yaml, context.as_deref()).await?,
        Access::Own {
            kubeconfig, context, ..
        } => return own_clients(kubeconfig, context, tuning).await,
        Access::InCluster => {
            let mut config = kube::Config::incluster().map_err(|error| ConnectError::Unusable {
                message: format!("no service account of a pod is here: {error}"),
            })?;
            config.proxy_url = None;
            config
        }
    };
    Ok(Clients {
        acts: client(config.clone(), tuning, None)?,
        watches: client(config.clone(), tuning, Some(tuning.watch_timeout * 2))?,
        logs: client(config, tuning, None)?,
    })
}

/// How long the program that logs in may take: it may ask in the user's browser.
const LOGIN_LIMIT: Duration = Duration::from_secs(120);

/// The clients of the user's own kubeconfig. Making a client may run the program that logs in, which takes its time and
/// may ask in the user's browser: twice only, and off the runtime's threads.
async fn own_clients(
    kubeconfig: &Kubeconfig,
    context: &str,
    tuning: &Tuning,
) -> Result<Clients, ConnectError> {
    let config = resolve(kubeconfig.clone(), context.to_owned()).await?;
    let login = login_program(kubeconfig, context);
    let make = |read_timeout: Option<Duration>| {
        let (config, tuning) = (config.clone(), tuning.clone());
        within(login.clone(), LOGIN_LIMIT, move || {
            client(config, &tuning, read_timeout)
        })
    };
    let acts = make(None).await?;
    let watches = make(Some(tuning.watch_timeout * 2)).await?;
    Ok(Clients {
        logs: acts.clone(),
        acts,
        watches,
    })
}

/// Makes a client on a thread of its own, which a program that never ends may keep: neither the caller nor the end of this
/// process waits for it.
async fn within<T: Send + 'static>(
    login: Option<String>,
    limit: Duration,
    make: impl FnOnce() -> Result<T, ConnectError> + Send + 'static,
) -> Result<T, ConnectError> {
    // Making a client looks for the runtime it will live on.
    let runtime = tokio::runtime::Handle::current();
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _entered = runtime.enter();
        // Nobody may listen any more.
        tell.send(make()).ok();
    });
    let unusable = |message: String| Err(ConnectError::Unusable { message });
    let program = login.unwrap_or_else(|| "the way to log in".to_owned());
    match tokio::time::timeout(limit, told).await {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => unusable(format!("{program} of the kubeconfig cannot be used")),
        Err(_) => unusable(format!(
            "{program} of the kubeconfig has not logged in within {}s; run it by itself to see what it waits for",
            limit.as_secs()
        )),
    }
}

/// For people: the program that logs the user of a context in.
fn login_program(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let named = kubeconfig.contexts.iter().find(|named| named.name == context)?;
    let user = named.context.as_ref()?.user.as_ref()?;
    let named = kubeconfig.auth_infos.iter().find(|named| named.name == *user)?;
    let program = named.auth_info.as_ref()?.exec.as_ref()?.command.as_ref()?;
    Some(format!("the program {program:?}"))
}

async fn resolve(file: Kubeconfig, context: String) -> Result<kube::Config, ConnectError> {
    let options = KubeConfigOptions {
        context: Some(context),
        ..KubeConfigOptions::default()
    };
    kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|error| ConnectError::Unreadable {
            message: error.to_string(),
        })
}

/// `read_timeout` guards a connection against silence where silence is never normal.
fn client(
    mut config: kube::Config,
    tuning: &Tuning,
    read_timeout: Option<Duration>,
) -> Result<Rest, ConnectError> {
    config.connect_timeout = Some(tuning.connect_timeout);
    config.write_timeout = Some(tuning.call_deadline);
    config.read_timeout = read_timeout;
    config.reset_reader_on_write = true;
    // kube would repeat a POST on 429, 503 and 504 up to 15 times: whether to ask again is the
    // dispatcher's to decide.
    config.default_retry = false;
    let client = kube::Client::try_from(config).map_err(|error| ConnectError::Unusable {
        message: error.to_string(),
    })?;
    Ok(Rest::new(client, tuning.call_deadline))
}

async fn load(yaml: &SecretString, context: Option<&str>) -> Result<kube::Config, ConnectError> {
    let unreadable = |message: String| ConnectError::Unreadable { message };
    let file = Kubeconfig::from_yaml(yaml.expose_secret()).map_err(|error| unreadable(error.to_string()))?;
    let context = check(&file, context)?;
    let mut config = resolve(file, context).await?;
    // From the server's own environment; a cluster that needs a proxy says so and is refused.
    config.proxy_url = None;
    Ok(config)
}

/// Refuses what is not self-contained and gives the name of the context to use.
fn check(file: &Kubeconfig, context: Option<&str>) -> Result<String, ConnectError> {
    // In any user, also of another context: the file is stored whole.
    for user in &file.auth_infos {
        refuse_programs(&user.name, user.auth_info.as_ref())?;
    }
    let names = || file.contexts.iter().map(|named| named.name.as_str());
    let wanted = context
        .or(file.current_context.as_deref())
        .ok_or_else(|| incomplete("current context", names()))?;
    let chosen = file
        .contexts
        .iter()
        .find(|named| named.name == wanted)
        .and_then(|named| named.context.as_ref())
        .ok_or_else(|| incomplete(&format!("context {wanted:?}"), names()))?;
    let cluster = file
        .clusters
        .iter()
        .find(|named| named.name == chosen.cluster)
        .and_then(|named| named.cluster.as_ref())
        .ok_or_else(|| {
            let known = file.clusters.iter().map(|named| named.name.as_str());
            incomplete(&format!("cluster {:?}", chosen.cluster), known)
        })?;
    refuse_cluster_files(cluster)?;
    if cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) {
        let message = "its kubeconfig asks for a proxy (proxy-url), which qwex does not support: remove proxy-url, and give this server a direct way to the API server".to_owned();
        return Err(ConnectError::Unusable { message });
    }
    let user = file
        .auth_infos
        .iter()
        .find(|named| Some(&named.name) == chosen.user.as_ref())
        .and_then(|named| named.auth_info.as_ref());
    user.map_or(Ok(()), refuse_user_files)?;
    Ok(wanted.to_owned())
}

pub(crate) fn incomplete<'a>(missing: &str, known: impl Iterator<Item = &'a str>) -> ConnectError {
    let known = known.collect::<Vec<_>>().join(", ");
    ConnectError::Incomplete {
        missing: missing.to_owned(),
        known: if known.is_empty() {
            "none".to_owned()
        } else {
            known
        },
    }
}

fn refuse_programs(user: &str, info: Option<&AuthInfo>) -> Result<(), ConnectError> {
    let Some(info) = info else { return Ok(()) };
    let kind = match (&info.exec, &info.auth_provider) {
        (Some(_), _) => "exec",
        (None, Some(_)) => "auth-provider",
        (None, None) => return Ok(()),
    };
    Err(ConnectError::RunsPrograms {
        user: user.to_owned(),
        kind,
    })
}

fn refuse_cluster_files(cluster: &Cluster) -> Result<(), ConnectError> {
    refuse_file("certificate-authority", cluster.certificate_authority.as_ref())
}

fn refuse_user_files(info: &AuthInfo) -> Result<(), ConnectError> {
    refuse_file("tokenFile", info.token_file.as_ref())?;
    refuse_file("client-certificate", info.client_certificate.as_ref())?;
    refuse_file("client-key", info.client_key.as_ref())
}

fn refuse_file(field: &'static str, file: Option<&String>) -> Result<(), ConnectError> {
    match file.filter(|file| !file.is_empty()) {
        None => Ok(()),
        Some(file) => Err(ConnectError::NamesFile {
            field,
            file: file.clone(),
        }),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
