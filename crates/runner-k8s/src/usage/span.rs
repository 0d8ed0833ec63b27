//! Spans of time as `metrics.k8s.io` writes them. Pure.

/// A duration of Go, such as `15.021s`, `1m30s` or `500ms`, in nanoseconds.
pub(super) fn go_nanos(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 6] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("h", 3.6e12),
    ];
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..end];
        let factor = match unit {
            "m" => 6e10,
            _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        sum += number * factor;
        rest = &rest[end..];
    }
    (sum < 1e19).then(|| sum.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_go_are_read() {
        assert_eq!(go_nanos("15.021s"), Some(15_021_000_000));
        assert_eq!(go_nanos("1m30s"), Some(90_000_000_000));
        assert_eq!(go_nanos("500ms"), Some(500_000_000));
        assert_eq!(go_nanos("0s"), Some(0));
        for bad in ["15", "s", "1x", "1.2.3s", "-1s"] {
            assert_eq!(go_nanos(bad), None, "{bad}");
        }
    }
}
