//! The secret of an endpoint: shown once as `whsec_` and base64, sealed at rest, never printed by accident.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;

use crate::sealing::{SealError, Sealer};

const PREFIX: &str = "whsec_";
/// Standard Webhooks wants 24 to 64 bytes.
const LENGTH: usize = 32;

/// The key of the signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A new secret of 256 random bits.
    pub fn mint() -> Self {
        let mut bytes = vec![0; LENGTH];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// As its owner copies it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn seal(&self, sealer: &Sealer, endpoint: &str) -> Vec<u8> {
        sealer.seal(&place(endpoint), &self.0)
    }

    /// # Errors
    /// It was sealed with another key or for another endpoint.
    pub fn open(sealer: &Sealer, endpoint: &str, sealed: &[u8]) -> Result<Self, SealError> {
        sealer.open(&place(endpoint), sealed).map(Self)
    }

    #[cfg(test)]
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn place(endpoint: &str) -> String {
    format!("webhook/{endpoint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretKey;

    #[test]
    fn is_revealed_as_standard_webhooks_wants_it() {
        let text = Secret::mint().reveal();
        let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_ne!(Secret::mint(), Secret::mint());
        assert_eq!(format!("{:?}", Secret::mint()), "Secret");
    }

    #[test]
    fn opens_only_for_its_own_endpoint() {
        let sealer = Sealer::new(&SecretKey::random());
        let secret = Secret::mint();
        let sealed = secret.seal(&sealer, "ep_1");
        assert_eq!(Secret::open(&sealer, "ep_1", &sealed), Ok(secret));
        assert_eq!(Secret::open(&sealer, "ep_2", &sealed), Err(SealError::WrongKey));
        assert!(
            Secret::open(&sealer, "ep_1", b"").is_err(),
            "of a removed endpoint"
        );
    }
}
