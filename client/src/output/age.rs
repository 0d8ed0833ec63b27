//! Times for people: ages and durations like kubectl's (`12s`, `3m5s`, `2h`, `4d`), full times for wide tables.

use jiff::{SignedDuration, Timestamp};

/// The time from `at` to `now`; what lies in the future (skewed clocks) is `0s`.
#[must_use]
pub fn age(at: Timestamp, now: Timestamp) -> String {
    short(now.duration_since(at))
}

/// Two units at most, and one once it is long.
#[must_use]
pub fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: i64, big_unit: &str, rest: i64, rest_unit: &str| match rest {
        0 => format!("{big}{big_unit}"),
        rest => format!("{big}{big_unit}{rest}{rest_unit}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        pair(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        pair(days, "d", hours % 24, "h")
    } else if days < 730 {
        format!("{days}d")
    } else {
        pair(days / 365, "y", days % 365, "d")
    }
}

/// The whole time in UTC to the second.
#[must_use]
pub fn full(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_like_kubectl() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (180, "3m"),
            (601, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (50 * 3600, "2d2h"),
            (9 * 86_400, "9d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(short(SignedDuration::from_secs(seconds)), text, "{seconds}");
        }
    }
}
