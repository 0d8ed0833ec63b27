//! Clocks: whether this machine's and another's say the same.

use jiff::SignedDuration;
use qwex_runner::Skew;

use super::check::{Check, Verdict};

/// What a clock may be off before it matters: tokens expire and events are ordered by it, and what a run left is told
/// new from old by it.
const MOST: SignedDuration = SignedDuration::from_secs(5);

/// Notes in a check of `whose` clock how far it is off, and warns if that matters.
pub fn compared(mut check: Check, skew: Skew, whose: &str) -> Check {
    // A thousandth is more than anybody measures over a line.
    check.clock_skew_seconds = Some((skew.ahead.as_secs_f64() * 1000.0).round() / 1000.0);
    let Some(sentence) = sentence(skew, whose) else {
        return check;
    };
    if check.verdict == Verdict::Ok {
        check.verdict = Verdict::Warning;
    }
    check.message = match check.message.as_str() {
        "" => sentence,
        message => format!("{message}; {sentence}"),
    };
    check.fix("set the clock of the one that is wrong: `timedatectl set-ntp true`, or `chronyc makestep`")
}

/// `None`: they agree as far as it matters.
fn sentence(skew: Skew, whose: &str) -> Option<String> {
    let side = if skew.ahead.is_negative() {
        "before"
    } else {
        "behind"
    };
    let seconds = skew.ahead.as_secs_f64().abs();
    skew.exceeds(MOST)
        .then(|| format!("this machine is {seconds:.0} s {side} {whose}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ahead: i64, within: i64) -> Check {
        let skew = Skew {
            ahead: SignedDuration::from_millis(ahead),
            within: SignedDuration::from_millis(within),
        };
        compared(Check::new("clock", Verdict::Ok, "fine"), skew, "the server")
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_side() {
        let same = told(-4012, 500);
        assert_eq!((same.verdict, same.message.as_str()), (Verdict::Ok, "fine"));
        assert_eq!(same.clock_skew_seconds, Some(-4.012));
        let behind = told(60_000, 500);
        assert_eq!(behind.message, "fine; this machine is 60 s behind the server");
        assert_eq!(behind.verdict, Verdict::Warning);
        assert!(behind.fix[0].contains("timedatectl"));
        assert_eq!(
            told(-60_000, 500).message,
            "fine; this machine is 60 s before the server"
        );
        assert_eq!(
            told(60_000, 58_000).verdict,
            Verdict::Ok,
            "the way may have taken as long"
        );
    }

    #[test]
    fn what_is_worse_stays_worse() {
        let skew = Skew {
            ahead: SignedDuration::from_secs(60),
            within: SignedDuration::ZERO,
        };
        let check = compared(Check::new("clock", Verdict::Failed, ""), skew, "it");
        assert_eq!(
            (check.verdict, check.message.as_str()),
            (Verdict::Failed, "this machine is 60 s behind it")
        );
    }
}
