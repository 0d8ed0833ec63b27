//! Why a suspended Job waits, in Kueue's words: its conditions in the order of its decisions, newest first. Reasons are
//! passed on as they are and nothing hangs on one: Kueue 0.19 says `Pending` and `Inadmissible` where its feature gate
//! `UnadmittedWorkloadsObservability` is off, and `WaitingForQuota`, `Misconfigured` and others where it is on.
//!
//! Called by `waiting`. Pure.

use crate::decode::{Condition, WorkloadView};
use crate::shortage::shortage;

/// One sentence on a Workload; with `None` Kueue has made none yet.
pub(super) fn words(workload: Option<&WorkloadView>) -> String {
    let Some(workload) = workload else {
        return "suspended; the queue has not taken it up yet".to_owned();
    };
    let queue = &workload.spec.queue_name;
    let reserved = workload.condition("QuotaReserved");
    let admitted = workload.condition("Admitted");
    let evicted = workload.condition("Evicted").filter(|seen| seen.is_true());
    if workload.spec.active == Some(false) {
        return deactivated(workload, evicted);
    }
    match (reserved, admitted) {
        (_, Some(admitted)) if admitted.is_true() => {
            format!("queue {queue}: admitted, the Job is about to be started")
        }
        (Some(reserved), admitted) if reserved.is_true() => {
            format!("queue {queue}: quota is reserved; {}", checks(workload, admitted))
        }
        (Some(reserved), _) => refused(workload, reserved, evicted),
        (None, _) => match evicted {
            Some(evicted) => format!("{}: evicted: {}", standing(workload), evicted.words()),
            None => format!("{}: {}", standing(workload), unseen(workload)),
        },
    }
}

fn deactivated(workload: &WorkloadView, evicted: Option<&Condition>) -> String {
    let why = evicted
        .map(|seen| format!(": {}", seen.words()))
        .unwrap_or_default();
    format!(
        "queue {}: the workload was deactivated{why}; it waits until somebody sets spec.active of Workload {} to true",
        workload.spec.queue_name, workload.metadata.name
    )
}

/// Which admission checks keep it, or what the condition says where they are not told.
fn checks(workload: &WorkloadView, admitted: Option<&Condition>) -> String {
    let open = workload.status.admission_checks.iter();
    let open: Vec<String> = open
        .filter(|check| check.state != "Ready")
        .map(|check| match check.message.as_str() {
            "" => format!("admission check {} is {}", check.name, check.state),
            message => format!("admission check {} is {}: {message}", check.name, check.state),
        })
        .collect();
    if open.is_empty() {
        return admitted
            .map(Condition::words)
            .unwrap_or_else(|| "an admission check is pending".to_owned());
    }
    open.join("; ")
}

fn refused(workload: &WorkloadView, reserved: &Condition, evicted: Option<&Condition>) -> String {
    // Right after an eviction both conditions have one message.
    let before = evicted
        .filter(|seen| seen.message != reserved.message)
        .map(|seen| format!(" (evicted before: {})", seen.words()))
        .unwrap_or_default();
    let words = match evicted.filter(|seen| seen.message == reserved.message) {
        Some(evicted) => format!("evicted: {}", evicted.words()),
        None => reserved.words(),
    };
    let again = workload
        .status
        .requeue_state
        .requeue_at
        .map(|at| format!("; it may be admitted again from {at}"))
        .unwrap_or_default();
    match shortage(&reserved.message) {
        Some(shortage) => format!("{}; {shortage} ({words}){before}{again}", standing(workload)),
        None => format!("{}: {words}{before}{again}", standing(workload)),
    }
}

/// Kueue does not try what asks for the same as one that did not fit, and says nothing of it then.
fn unseen(workload: &WorkloadView) -> &'static str {
    match workload.place {
        Some(place) if place.position > 1 => {
            "not looked at yet; Kueue passes over what asks for the same as one before it that does not fit"
        }
        Some(_) | None => "not looked at yet",
    }
}

/// `position 3 of 11 in queue team`, or only the queue where nobody knows the others or it lets nobody through.
fn standing(workload: &WorkloadView) -> String {
    let queue = &workload.spec.queue_name;
    match workload.place.filter(|_| !is_closed(workload)) {
        Some(place) => format!("{} in queue {queue}", place.words()),
        None => format!("queue {queue}"),
    }
}

/// Whether there is no such queue, or it or the one behind it admits nobody.
fn is_closed(workload: &WorkloadView) -> bool {
    let refusal = workload.condition("QuotaReserved");
    let words = refusal.map_or("", |seen| seen.message.as_str());
    (words.starts_with("LocalQueue ") || words.starts_with("ClusterQueue "))
        && (words.ends_with(" doesn't exist") || words.ends_with(" is inactive"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;

    fn told(reason: &str, message: &str) -> String {
        let mut workload: WorkloadView = serde_json::from_value(serde_json::json!({
            "spec": { "queueName": "team" },
            "status": { "conditions": [
                { "type": "QuotaReserved", "status": "False", "reason": reason, "message": message },
            ]},
        }))
        .unwrap();
        workload.place = Some(Place { position: 1, of: 1 });
        words(Some(&workload))
    }

    #[test]
    fn nobody_is_next_where_nobody_is_let_through() {
        assert_eq!(
            told("Inadmissible", "LocalQueue team doesn't exist"),
            "queue team: Inadmissible: LocalQueue team doesn't exist"
        );
        assert_eq!(
            told("Suspended", "ClusterQueue all is inactive"),
            "queue team: Suspended: ClusterQueue all is inactive"
        );
        assert_eq!(
            told("Pending", "somebody doesn't exist"),
            "position 1 of 1 in queue team: Pending: somebody doesn't exist"
        );
    }
}
