//! `webhook`: endpoints and what was sent to them.

use qwex_api::webhook::{CreateWebhook, CreatedWebhook, DeliveryInfo};

use super::Done;
use super::session::Session;
use crate::cli::{WebhookAdd, WebhookCommand};
use crate::output::Row;
use crate::remote::{Answer, Listing};

pub async fn webhook(session: &Session, command: WebhookCommand) -> Done {
    let client = session.client()?;
    let client = client.as_ref();
    match command {
        WebhookCommand::Add(add) => created(session, &client.create_webhook(&request(add)).await?),
        WebhookCommand::Rotate { id } => created(session, &client.rotate_webhook(&id).await?),
        WebhookCommand::Test { id } => delivery(session, &client.test_webhook(&id).await?),
        WebhookCommand::Replay { id, delivery: which } => {
            delivery(session, &client.replay_delivery(&id, &which).await?)
        }
        WebhookCommand::Ls => list(session, &client.list_webhooks().await?),
        WebhookCommand::Deliveries { id } => list(session, &client.list_deliveries(&id).await?),
        WebhookCommand::Get { id } => {
            let endpoint = client.get_webhook(&id).await?;
            if session.out.for_people() {
                session.out.list([(&endpoint.value, &endpoint.json)])?;
            } else {
                session.out.one(&endpoint.json, &id, String::new)?;
            }
            Ok(0)
        }
        WebhookCommand::Rm { id } => {
            client.remove_webhook(&id).await?;
            session.progress.stage("removed", &id);
            Ok(0)
        }
    }
}

fn list<T: Row>(session: &Session, listing: &Listing<T>) -> Done {
    session
        .out
        .list(listing.items.iter().map(|item| (&item.value, &item.json)))?;
    Ok(0)
}

fn request(add: WebhookAdd) -> CreateWebhook {
    CreateWebhook {
        url: add.url,
        events: add.events,
        description: add.description,
    }
}

/// The secret is shown now and never again.
fn created(session: &Session, made: &Answer<CreatedWebhook>) -> Done {
    let (endpoint, secret) = (&made.value.webhook, &made.value.secret);
    session
        .progress
        .stage("secret", "the signing secret below is shown only now");
    session.out.one(&made.json, &endpoint.id, || {
        format!("{}\n{secret}\n", endpoint.id)
    })?;
    Ok(0)
}

fn delivery(session: &Session, made: &Answer<DeliveryInfo>) -> Done {
    let id = &made.value.id;
    let status = made.value.status.as_str();
    session
        .out
        .one(&made.json, id, || format!("delivery {id} is {status}\n"))?;
    Ok(0)
}
