//! Quantities and spans of time as `metrics.k8s.io` writes them. Pure.

/// `12345678n`, `250m`, `1`, `1500Ki`, in whole units of a billionth for processors and of one for bytes.
///
/// `None`: it is none.
pub(super) fn nanos(text: &str) -> Option<u64> {
    scaled(text, 1e9)
}

pub(super) fn bytes(text: &str) -> Option<u64> {
    scaled(text, 1.0)
}

const SUFFIXES: [(&str, f64); 12] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("", 1.0),
];

fn scaled(text: &str, units: f64) -> Option<u64> {
    let suffixed = |(suffix, factor): &(&str, f64)| {
        let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
        Some(number * factor * units)
    };
    let value = SUFFIXES.iter().find_map(suffixed)?;
    (0.0..1e19).contains(&value).then(|| value.round() as u64)
}

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
    fn quantities_of_a_metrics_server_are_read() {
        assert_eq!(nanos("12345678n"), Some(12_345_678));
        assert_eq!(nanos("250m"), Some(250_000_000));
        assert_eq!(nanos("0"), Some(0));
        assert_eq!(nanos("1"), Some(1_000_000_000));
        assert_eq!(bytes("1500Ki"), Some(1_536_000));
        assert_eq!(bytes("1e3"), Some(1000));
        assert_eq!(bytes("128974848"), Some(128_974_848));
        for bad in ["", "Ki", "-1", "one", "1e99", "NaN", "inf"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

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
