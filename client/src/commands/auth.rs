//! `auth`: who this user is to the server.

use secrecy::SecretString;

use super::Done;
use super::context::{context_path, token_from_stdin};
use super::session::Session;
use crate::cli::AuthCommand;
use crate::config::{Context, ContextFile};
use crate::error::{CliError, Exit};
use crate::output::age;
use crate::remote::{Answer, Endpoint, HttpJobApiClient, JobApiClient};

pub async fn auth(session: &Session, command: AuthCommand) -> Done {
    match command {
        AuthCommand::Login { .. } => login(session).await,
        AuthCommand::Status => status(session).await,
        AuthCommand::Logout => logout(session),
    }
}

/// Stores a token only after the server has known it.
async fn login(session: &Session) -> Done {
    let server = session
        .settings
        .server
        .as_ref()
        .map(|server| server.value.clone())
        .ok_or_else(|| {
            CliError::new(Exit::NotLoggedIn, "no server is set")
                .fix("say which: `qwexctl auth login --server URL --with-token < token-file`")
                .code("no_server")
        })?;
    let token = token_from_stdin()?;
    let who = whoami(&server, &token).await?;
    let path = context_path()?;
    let mut file = ContextFile::read(&path)?;
    let name = session
        .settings
        .context
        .as_ref()
        .map_or_else(|| host(&server), |name| name.value.clone());
    let known = file.find(&name).filter(|known| known.server == server);
    let context = Context {
        project: known.and_then(|known| known.project.clone()),
        backend: known.and_then(|known| known.backend.clone()),
        name: if known.is_some() || file.find(&name).is_none() {
            name
        } else {
            host(&server)
        },
        server,
        token: Some(token),
    };
    file.current = Some(context.name.clone());
    let stored = format!(
        "{} at {}, context {}",
        who.value.principal, context.server, context.name
    );
    file.put(context);
    file.write(&path)?;
    session.progress.stage(
        "logged in",
        &format!("{stored}, in {} (only you may read it)", path.display()),
    );
    Ok(0)
}

async fn whoami(server: &str, token: &SecretString) -> Result<Answer<qwex_api::meta::WhoAmI>, CliError> {
    let client = HttpJobApiClient::new(Endpoint {
        server: server.to_owned(),
        token: Some(token.clone()),
        retry_for: std::time::Duration::ZERO,
        notice: Box::new(|_| {}),
    })?;
    Ok(client.whoami().await?)
}

/// A name for a context that nobody named: the host of its server.
fn host(server: &str) -> String {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

async fn status(session: &Session) -> Done {
    let client = session.client()?;
    let who = client.whoami().await?;
    session.out.one(&who.json, &who.value.principal, || {
        let me = &who.value;
        let expires = match &me.expires_at {
            None => "does not expire".to_owned(),
            Some(at) => match at.parse() {
                Ok(at) => format!("expires {}", age::full(at)),
                Err(_) => format!("expires {at}"),
            },
        };
        format!(
            "{} at {}\n  project  {}\n  role     {}\n  token    {}, {expires}\n",
            me.principal,
            client.server(),
            me.project,
            me.role.as_str(),
            me.token_id
        )
    })?;
    Ok(0)
}

fn logout(session: &Session) -> Done {
    let path = context_path()?;
    let mut file = ContextFile::read(&path)?;
    let name = session.settings.context.as_ref().map(|name| name.value.clone());
    let context = file
        .contexts
        .iter_mut()
        .find(|context| Some(&context.name) == name.as_ref());
    if context.and_then(|context| context.token.take()).is_some() {
        file.write(&path)?;
        let told =
            "the token is removed from the context; to make it useless everywhere: `qwexctl token revoke`";
        session.progress.stage("logged out", told);
    } else {
        session.progress.note("there is no token to remove");
    }
    if std::env::var_os("QWEX_TOKEN").is_some() {
        session
            .progress
            .note("QWEX_TOKEN is still set in this environment");
    }
    Ok(0)
}
