//! What a run asks of a machine. CPU and memory are Kubernetes quantities, checked and comparable.

use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// Resources asked for; request and limit are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Resources {
    /// Processors: `2`, `0.5` or `500m`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text_or_number"
    )]
    pub cpu: Option<String>,
    /// Memory in bytes with an optional suffix: `4Gi`, `512Mi`, `1G`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text_or_number"
    )]
    pub memory: Option<String>,
    /// Whole GPUs (`nvidia.com/gpu` on Kubernetes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// Most processes and threads at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// Why a quantity cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("{0:?} is not an amount of cpu; write it like 2, 0.5 or 500m")]
    Cpu(String),
    #[error("{0:?} is not an amount of memory; write it like 512Mi, 4Gi or 1G")]
    Memory(String),
}

impl Resources {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none() && self.gpu.is_none() && self.pids.is_none()
    }

    /// CPU in thousandths of a processor.
    pub fn cpu_millis(&self) -> Result<Option<u64>, QuantityError> {
        self.cpu.as_deref().map(cpu_millis).transpose()
    }

    /// Memory in bytes.
    pub fn memory_bytes(&self) -> Result<Option<u64>, QuantityError> {
        self.memory.as_deref().map(memory_bytes).transpose()
    }
}

/// Reads `2`, `0.5` or `500m` as thousandths of a processor; at least 1, at most 100,000 processors.
pub fn cpu_millis(text: &str) -> Result<u64, QuantityError> {
    let is_amount = |asked: &Quantity<'_>| match asked.suffix {
        "" => true,
        "m" => asked.number.fract() == 0.0,
        _ => false,
    };
    let asked = Quantity::parse(text).filter(is_amount);
    let millis = asked.map_or(0.0, |asked| asked.value() * 1000.0);
    if !(1.0..=100_000_000.0).contains(&millis) {
        return Err(QuantityError::Cpu(text.to_owned()));
    }
    Ok(millis.round() as u64)
}

/// Reads `512Mi`, `4Gi`, `1G` or plain bytes as bytes; at least 1 byte, at most 1 Pi.
pub fn memory_bytes(text: &str) -> Result<u64, QuantityError> {
    const UNITS: [&str; 11] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "k", "M", "G", "T", "P"];
    let asked = Quantity::parse(text).filter(|asked| UNITS.contains(&asked.suffix));
    let bytes = asked.map_or(0.0, |asked| asked.value());
    if !(1.0..=1_125_899_906_842_624.0).contains(&bytes) {
        return Err(QuantityError::Memory(text.to_owned()));
    }
    Ok(bytes.round() as u64)
}

/// YAML and JSON people write `cpu: 2` as often as `cpu: "2"`.
pub fn text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Whole(u64),
        Decimal(f64),
    }
    Ok(Option::<Either>::deserialize(from)?.map(|either| match either {
        Either::Text(text) => text,
        Either::Whole(number) => number.to_string(),
        Either::Decimal(number) => number.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu() {
        assert_eq!(cpu_millis("2"), Ok(2000));
        assert_eq!(cpu_millis("0.5"), Ok(500));
        assert_eq!(cpu_millis("250m"), Ok(250));
        for bad in [
            "", "m", "-1", "0", "1e9", "1e3", "1k", "500000u", "two", "1.5m", "100001",
        ] {
            assert!(cpu_millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_memory() {
        assert_eq!(memory_bytes("4Gi"), Ok(4 << 30));
        assert_eq!(memory_bytes("1G"), Ok(1_000_000_000));
        assert_eq!(memory_bytes("1.5Mi"), Ok(1_572_864));
        for bad in ["", "Gi", "-1", "0", "4gb", "1e3", "1000m", "2Pi", "1E"] {
            assert!(memory_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accepts_numbers_and_text() {
        let read: Resources = serde_json::from_str(r#"{"cpu":2,"memory":"4Gi","gpu":1}"#).unwrap();
        assert_eq!(read.cpu.as_deref(), Some("2"));
    }
}
