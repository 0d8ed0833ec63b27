//! `token`: makes, lists and revokes tokens. The secret is on stdout once and nowhere else.

use qwex_api::token::CreateToken;

use super::Done;
use super::session::Session;
use crate::cli::TokenCommand;

pub async fn token(session: &Session, command: TokenCommand) -> Done {
    let client = session.client()?;
    match command {
        TokenCommand::Create(create) => {
            let request = CreateToken {
                name: create.name,
                role: create.role,
                project: session.project(),
                expires_in: create.expires_in,
            };
            let made = client.create_token(&request).await?;
            let info = &made.value.info;
            let role = info.role.as_str();
            session.progress.stage(
                "created",
                &format!(
                    "token {} ({}), {role} of project {}; it is shown only now",
                    info.name, info.id, info.project
                ),
            );
            session.out.one(&made.json, &made.value.token, || {
                format!("{}\n", made.value.token)
            })?;
        }
        TokenCommand::Ls => {
            let tokens = client.list_tokens().await?;
            session
                .out
                .list(tokens.items.iter().map(|item| (&item.value, &item.json)))?;
        }
        TokenCommand::Revoke { id } => {
            client.revoke_token(&id).await?;
            session.progress.stage("revoked", &id);
        }
    }
    Ok(0)
}
