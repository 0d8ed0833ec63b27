//! Quantities as Kubernetes writes them: `12345678n`, `250m`, `0.5`, `4Gi`, `1e3`. Pure.
//!
//! `resources` says which of them a spec may hold; backends read with it what a cluster measured.

/// A quantity taken apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity<'a> {
    /// Without its suffix; never below zero.
    pub number: f64,
    pub suffix: &'a str,
    factor: f64,
}

const SUFFIXES: [(&str, f64); 16] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("", 1.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

impl<'a> Quantity<'a> {
    /// `None`: it is none, or one below zero.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let known = SUFFIXES.iter().find(|(known, _)| *known == suffix);
        Some(Self {
            number: number.parse().ok()?,
            suffix,
            factor: known.map(|(_, factor)| *factor).or_else(|| power(suffix))?,
        })
    }

    #[must_use]
    pub fn value(&self) -> f64 {
        self.number * self.factor
    }

    /// In whole parts of which `parts` make one; `None` where there are more than can be counted.
    #[must_use]
    pub fn in_parts(&self, parts: f64) -> Option<u64> {
        let value = self.value() * parts;
        (0.0..1e19).contains(&value).then(|| value.round() as u64)
    }
}

/// `e3`, `E+3` or `e-3` as a factor.
fn power(suffix: &str) -> Option<f64> {
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(10_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_one_is_read() {
        let nanos = |text| Quantity::parse(text)?.in_parts(1e9);
        assert_eq!(nanos("12345678n"), Some(12_345_678));
        assert_eq!(nanos("250m"), Some(250_000_000));
        assert_eq!(nanos("0"), Some(0));
        assert_eq!(nanos("1"), Some(1_000_000_000));
        let whole = |text| Quantity::parse(text)?.in_parts(1.0);
        assert_eq!(whole("1500Ki"), Some(1_536_000));
        assert_eq!(whole("1e3"), Some(1000));
        assert_eq!(whole("1.5E+3"), Some(1500));
        assert_eq!(whole("2E"), Some(2_000_000_000_000_000_000));
        assert_eq!(whole("128974848"), Some(128_974_848));
    }

    #[test]
    fn what_is_none_is_none() {
        for bad in [
            "", ".", "Ki", "-1", "+1", "one", "1 Ki", "1ki", "1e", "NaN", "inf", "1.2.3", "1e+",
        ] {
            assert_eq!(Quantity::parse(bad), None, "{bad}");
        }
        for large in ["1e99", "20E", "1e999999999"] {
            assert_eq!(
                Quantity::parse(large).and_then(|it| it.in_parts(1.0)),
                None,
                "{large}"
            );
        }
    }
}
