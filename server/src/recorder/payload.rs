//! The bodies of deliveries: thin, with a link to the run. The same bytes are signed and sent on every try.

use qwex_api::webhook::{WebhookData, WebhookEvent, WebhookPayload};
use qwex_core::{FailureCode, RunStatus};
use uuid::Uuid;

use super::changes::Milestone;
use crate::db::outbox::{NewDelivery, Subscriber};

/// One delivery for each endpoint that wants one of these milestones.
pub(super) fn deliveries(
    milestones: &[Milestone],
    subscribers: &[Subscriber],
    base: &str,
) -> Vec<NewDelivery> {
    let mut owed = Vec::new();
    for milestone in milestones {
        let Some(event) = event_of(milestone.status) else {
            continue;
        };
        let wanting = subscribers.iter().filter(|one| {
            one.project == milestone.project.as_str() && one.events.iter().any(|word| word == event.as_str())
        });
        for subscriber in wanting {
            owed.push(NewDelivery {
                id: format!("msg_{}", Uuid::now_v7().simple()),
                endpoint_id: subscriber.endpoint_id.clone(),
                project: subscriber.project.clone(),
                event: event.as_str(),
                run_id: Some(milestone.run_id.as_uuid()),
                sequence: milestone.sequence,
                body: body(event, milestone, base),
            });
        }
    }
    owed
}

fn event_of(status: RunStatus) -> Option<WebhookEvent> {
    match status {
        RunStatus::Pending => None,
        RunStatus::Running => Some(WebhookEvent::RunStarted),
        RunStatus::Succeeded => Some(WebhookEvent::RunSucceeded),
        RunStatus::Failed => Some(WebhookEvent::RunFailed),
        RunStatus::Cancelled => Some(WebhookEvent::RunCancelled),
    }
}

fn body(event: WebhookEvent, milestone: &Milestone, base: &str) -> Vec<u8> {
    let payload = WebhookPayload {
        event,
        timestamp: milestone.at,
        data: WebhookData {
            run_id: Some(milestone.run_id),
            name: milestone.name.clone(),
            project: milestone.project.clone(),
            status: Some(milestone.status),
            exit_code: milestone.exit_code,
            failure: milestone.failure.map(FailureCode::as_str).map(str::to_owned),
            sequence: milestone.sequence,
            link: Some(format!("{base}/v1/runs/{}", milestone.run_id)),
        },
    };
    serde_json::to_vec(&payload).expect("a payload of strings and numbers serialises")
}
