//! What follows a try: pure, so that the whole table can be tested. The waits are data; see `SCHEDULE`.

use std::time::Duration;

use qwex_api::webhook::WebhookEvent;

/// How a try went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered, whatever it said.
    Answered {
        status: u16,
        /// What it asked for in `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no answer: why, in words that may be shown to the owner.
    Unanswered(String),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    Retry(Duration),
    /// No try is left.
    Dead,
    /// The endpoint wants no more, ever.
    Gone,
}

/// Judges a try after `failed` failed ones. `spread` is a random number from 0 to 1: waits are spread by a fifth to both
/// sides, so that what failed together does not come back together.
///
/// `Retry-After` is heard from the wait of the schedule up to twice that: no endpoint can stall us longer.
pub fn judge(
    outcome: &Outcome,
    event: WebhookEvent,
    failed: usize,
    schedule: &[Duration],
    spread: f64,
) -> Verdict {
    let asked = match outcome {
        Outcome::Answered {
            status: 200..=299, ..
        } => return Verdict::Delivered,
        Outcome::Answered { status: 410, .. } => return Verdict::Gone,
        Outcome::Answered { retry_after, .. } => *retry_after,
        Outcome::Unanswered(_) => None,
    };
    // Somebody is waiting for the result of a test; a retry in hours tells them nothing.
    if event == WebhookEvent::Test {
        return Verdict::Dead;
    }
    let Some(base) = schedule.get(failed) else {
        return Verdict::Dead;
    };
    let wait = base.mul_f64(0.8 + 0.4 * spread.clamp(0.0, 1.0));
    Verdict::Retry(asked.map_or(wait, |asked| asked.clamp(wait, *base * 2)))
}

/// Words on a failed try for its owner.
pub fn explain(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered {
            status: 300..=399, ..
        } => "answered with a redirect; redirects are not followed".to_owned(),
        Outcome::Answered { status, .. } => {
            let reason = http::StatusCode::from_u16(*status).ok();
            let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or("");
            format!("answered {status} {reason}").trim_end().to_owned()
        }
        Outcome::Unanswered(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SCHEDULE;
    use super::*;

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status,
            retry_after: None,
        }
    }

    fn judge_run(outcome: &Outcome, failed: usize, spread: f64) -> Verdict {
        judge(outcome, WebhookEvent::RunFailed, failed, &SCHEDULE, spread)
    }

    #[test]
    fn e05_eight_tries_take_about_28_hours() {
        let mut total = Duration::ZERO;
        let mut failed = 0;
        while let Verdict::Retry(wait) = judge_run(&answered(500), failed, 0.5) {
            total += wait;
            failed += 1;
        }
        assert_eq!(failed + 1, 8);
        assert_eq!(total.as_secs() / 3600, 27);
        assert_eq!(judge_run(&answered(500), failed, 0.5), Verdict::Dead);
    }

    #[test]
    fn e06_each_kind_of_answer_has_its_verdict() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(
                judge_run(&answered(status), 0, 0.5),
                Verdict::Delivered,
                "{status}"
            );
        }
        for status in [
            100, 301, 302, 307, 308, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504, 599,
        ] {
            let retry = Verdict::Retry(Duration::from_secs(5));
            assert_eq!(judge_run(&answered(status), 0, 0.5), retry, "{status}");
        }
        assert_eq!(judge_run(&answered(410), 0, 0.5), Verdict::Gone);
        let silent = Outcome::Unanswered("no answer".to_owned());
        assert_eq!(
            judge_run(&silent, 1, 0.5),
            Verdict::Retry(Duration::from_secs(300))
        );
    }

    #[test]
    fn a_test_is_tried_once() {
        for (status, verdict) in [
            (204, Verdict::Delivered),
            (500, Verdict::Dead),
            (410, Verdict::Gone),
        ] {
            let judged = judge(&answered(status), WebhookEvent::Test, 0, &SCHEDULE, 0.5);
            assert_eq!(judged, verdict);
        }
    }

    #[test]
    fn failures_are_explained() {
        assert_eq!(explain(&answered(503)), "answered 503 Service Unavailable");
        assert_eq!(explain(&answered(599)), "answered 599");
        assert!(explain(&answered(302)).contains("not followed"));
    }

    proptest! {
        #[test]
        fn e05_waits_are_spread_by_a_fifth(failed in 0..SCHEDULE.len(), spread in 0.0..=1.0_f64) {
            let base = SCHEDULE[failed].as_secs_f64();
            let Verdict::Retry(wait) = judge_run(&answered(500), failed, spread) else {
                return Err(TestCaseError::fail("a try is left"));
            };
            prop_assert!((base * 0.799..=base * 1.201).contains(&wait.as_secs_f64()));
        }

        #[test]
        fn e06_retry_after_cannot_stall(failed in 0..SCHEDULE.len(), asked: u64, spread in -1.0..2.0_f64) {
            let outcome = Outcome::Answered { status: 503, retry_after: Some(Duration::from_secs(asked)) };
            let Verdict::Retry(wait) = judge_run(&outcome, failed, spread) else {
                return Err(TestCaseError::fail("a try is left"));
            };
            prop_assert!(wait <= SCHEDULE[failed] * 2);
            prop_assert!(wait >= SCHEDULE[failed].mul_f64(0.79));
        }
    }
}
