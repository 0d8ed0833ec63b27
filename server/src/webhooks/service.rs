//! Endpoints and deliveries as their owners see them: made, listed, rotated, tested, replayed. Called by `http`.

use qwex_api::webhook::{
    CreateWebhook, CreatedWebhook, DeliveryInfo, WebhookData, WebhookEvent, WebhookInfo, WebhookPayload,
};
use qwex_core::Project;
use sqlx::PgPool;
use uuid::Uuid;

use super::guard::Guard;
use super::secret::Secret;
use super::{WebhooksConfig, WebhooksError, url};
use crate::auth::{Principal, Scope};
use crate::db::outbox::{self, NewDelivery};
use crate::db::{Pools, delivery, webhook};
use crate::hints::Hints;
use crate::sealing::Sealer;

/// Most endpoints of a project.
const MOST: i64 = 100;
/// Most characters of a description.
const DESCRIPTION: usize = 500;

/// One page of deliveries, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    pub deliveries: Vec<DeliveryInfo>,
    /// What `after` of the next page is; `None` on the last one.
    pub next: Option<String>,
}

/// The service of webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    pool: PgPool,
    sealer: Sealer,
    hints: Hints,
    guard: Guard,
    overlap_seconds: f64,
}

impl Webhooks {
    #[must_use]
    pub fn new(pools: &Pools, sealer: Sealer, hints: Hints, config: &WebhooksConfig) -> Self {
        Self {
            pool: pools.api.clone(),
            sealer,
            hints,
            guard: Guard::new(config.allow_loopback),
            overlap_seconds: config.overlap.as_secs_f64(),
        }
    }

    /// Makes an endpoint in the caller's project. Its secret is told here and never again.
    ///
    /// # Errors
    /// The URL, an event or the description is refused, the project has too many, or the database does not answer.
    pub async fn create(
        &self,
        by: &Principal,
        request: CreateWebhook,
    ) -> Result<CreatedWebhook, WebhooksError> {
        let url = url::check(&request.url, self.guard)?;
        let events = events(&request.events)?;
        if request.description.as_deref().is_some_and(is_bad_description) {
            return Err(WebhooksError::Description { most: DESCRIPTION });
        }
        let id = format!("ep_{}", Uuid::now_v7().simple());
        let secret = Secret::mint();
        let new = webhook::NewEndpoint {
            id: &id,
            project: &by.project,
            url: url.as_str(),
            events: &events,
            description: request.description.as_deref(),
            sealed_secret: &secret.seal(&self.sealer, &id),
            created_by: &by.label(),
        };
        let made = webhook::insert_endpoint(&self.pool, &new, MOST).await?;
        Ok(CreatedWebhook {
            secret: secret.reveal(),
            webhook: made.ok_or(WebhooksError::TooMany { most: MOST })?,
        })
    }

    /// Endpoints in sight, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn list(&self, scope: &Scope) -> Result<Vec<WebhookInfo>, WebhooksError> {
        Ok(webhook::list_endpoints(&self.pool, scope.project()).await?)
    }

    /// # Errors
    /// There is none in sight, or the database does not answer.
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<WebhookInfo, WebhooksError> {
        let found = webhook::find_endpoint(&self.pool, scope.project(), id).await?;
        found.ok_or_else(|| WebhooksError::NotFound(id.to_owned()))
    }

    /// Removes an endpoint. What it is still owed is not delivered.
    ///
    /// # Errors
    /// There is none in sight, or the database does not answer.
    pub async fn remove(&self, by: &Principal, id: &str) -> Result<(), WebhooksError> {
        if !webhook::remove_endpoint(&self.pool, by.scope().project(), id).await? {
            return Err(WebhooksError::NotFound(id.to_owned()));
        }
        self.hints.tell(&[], true).await;
        Ok(())
    }

    /// Gives an endpoint a new secret. For a day the old one signs as well, so that the receiver can follow.
    ///
    /// # Errors
    /// There is none in sight, or the database does not answer.
    pub async fn rotate(&self, by: &Principal, id: &str) -> Result<CreatedWebhook, WebhooksError> {
        let secret = Secret::mint();
        let sealed = secret.seal(&self.sealer, id);
        let (scope, overlap) = (by.scope(), self.overlap_seconds);
        let found = webhook::update_secret(&self.pool, scope.project(), id, &sealed, overlap).await?;
        Ok(CreatedWebhook {
            secret: secret.reveal(),
            webhook: found.ok_or_else(|| WebhooksError::NotFound(id.to_owned()))?,
        })
    }

    /// Owes the endpoint a `webhook.test`, tried once. When it arrives at a disabled endpoint, that is enabled again.
    ///
    /// # Errors
    /// There is none in sight, or the database does not answer.
    pub async fn test(&self, by: &Principal, id: &str) -> Result<DeliveryInfo, WebhooksError> {
        let endpoint = self.get(&by.scope(), id).await?;
        let new = test_delivery(&endpoint);
        let delivery_id = new.id.clone();
        let mut conn = self.pool.acquire().await.map_err(crate::db::DbError::from)?;
        outbox::insert_deliveries(&mut conn, &[new]).await?;
        let made = delivery::find_delivery(&mut *conn, None, id, &delivery_id).await?;
        drop(conn);
        self.hints.tell(&[], true).await;
        made.ok_or(WebhooksError::NoDelivery(delivery_id))
    }

    /// A page of what the endpoint was and is owed, newest first, after the delivery `after`; 1 to 500.
    ///
    /// # Errors
    /// There is no such endpoint in sight, or the database does not answer.
    pub async fn deliveries(
        &self,
        scope: &Scope,
        id: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<DeliveryPage, WebhooksError> {
        self.get(scope, id).await?;
        let asked = i64::from(limit) + 1;
        let project = scope.project();
        let mut deliveries = delivery::list_deliveries(&self.pool, project, id, after, asked).await?;
        let more = deliveries.len() > limit as usize;
        deliveries.truncate(limit as usize);
        let next = if more {
            deliveries.last().map(|one| one.id.clone())
        } else {
            None
        };
        Ok(DeliveryPage { deliveries, next })
    }

    /// Owes a delivery anew, at once and with all its tries: same id, same bytes.
    ///
    /// # Errors
    /// Endpoint or delivery are not in sight, the endpoint is disabled, or the database does not answer.
    pub async fn replay(
        &self,
        by: &Principal,
        id: &str,
        delivery_id: &str,
    ) -> Result<DeliveryInfo, WebhooksError> {
        let scope = by.scope();
        if !self.get(&scope, id).await?.enabled {
            return Err(WebhooksError::Disabled);
        }
        let renewed = delivery::renew_delivery(&self.pool, scope.project(), id, delivery_id).await?;
        self.hints.tell(&[], true).await;
        renewed.ok_or_else(|| WebhooksError::NoDelivery(delivery_id.to_owned()))
    }
}

/// The events of an endpoint: as asked, each once; the ends of runs where nothing is asked.
fn events(asked: &[WebhookEvent]) -> Result<Vec<WebhookEvent>, WebhooksError> {
    if asked.is_empty() {
        return Ok(vec![
            WebhookEvent::RunSucceeded,
            WebhookEvent::RunFailed,
            WebhookEvent::RunCancelled,
        ]);
    }
    if let Some(other) = asked.iter().find(|one| !WebhookEvent::OF_RUNS.contains(one)) {
        let known: Vec<&str> = WebhookEvent::OF_RUNS.iter().map(|one| one.as_str()).collect();
        return Err(WebhooksError::Event {
            word: other.as_str(),
            known: known.join(", "),
        });
    }
    let wanted = WebhookEvent::OF_RUNS.iter().filter(|one| asked.contains(one));
    Ok(wanted.copied().collect())
}

fn is_bad_description(text: &str) -> bool {
    text.chars().count() > DESCRIPTION || text.chars().any(char::is_control)
}

fn test_delivery(endpoint: &WebhookInfo) -> NewDelivery {
    NewDelivery {
        id: format!("msg_{}", Uuid::now_v7().simple()),
        endpoint_id: endpoint.id.clone(),
        project: endpoint.project.to_string(),
        event: WebhookEvent::Test.as_str(),
        run_id: None,
        sequence: 0,
        body: test_body(&endpoint.project),
    }
}

fn test_body(project: &Project) -> Vec<u8> {
    let payload = WebhookPayload {
        event: WebhookEvent::Test,
        timestamp: jiff::Timestamp::now(),
        data: WebhookData {
            run_id: None,
            name: None,
            project: project.clone(),
            status: None,
            exit_code: None,
            failure: None,
            sequence: 0,
            link: None,
        },
    };
    serde_json::to_vec(&payload).expect("a payload of strings and numbers serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_those_of_runs_each_once() {
        use WebhookEvent::{RunCancelled, RunFailed, RunStarted, RunSucceeded, Test, Unknown};
        assert_eq!(events(&[]).unwrap(), [RunSucceeded, RunFailed, RunCancelled]);
        assert_eq!(
            events(&[RunFailed, RunStarted, RunFailed]).unwrap(),
            [RunStarted, RunFailed]
        );
        assert!(events(&[RunFailed, Test]).is_err() && events(&[Unknown]).is_err());
    }

    #[test]
    fn descriptions_are_short_and_printable() {
        assert!(!is_bad_description(&"\u{e9}".repeat(500)));
        assert!(
            is_bad_description(&"x".repeat(501))
                && is_bad_description("a\u{1b}[2J")
                && is_bad_description("\0")
        );
    }
}
