//! Secrets at rest: AES-256-GCM under the server's secret key. The place a secret belongs to is bound into
//! the seal, so that a sealed value cannot be moved to another row.
//!
//! Layout of a sealed value: version (1 byte), nonce (12 bytes), ciphertext with tag.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use rand::RngCore;

use crate::config::SecretKey;

const VERSION: u8 = 1;
const NONCE: usize = 12;

/// Why a sealed value cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the sealed value is cut short or of another version")]
    Malformed,
    #[error("the secret key does not open it: it was sealed with another key, or for another place")]
    WrongKey,
}

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    cipher: Aes256Gcm,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    #[must_use]
    pub fn new(key: &SecretKey) -> Self {
        Self {
            cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key.as_bytes())),
        }
    }

    /// Seals a secret for a place, like `cluster/alpha`.
    #[must_use]
    pub fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload {
            msg: secret,
            aad: place.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .expect("AES-GCM seals anything that fits in memory");
        [&[VERSION], nonce.as_slice(), &sealed].concat()
    }

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// It is malformed, or was sealed with another key or for another place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Malformed)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE).ok_or(SealError::Malformed)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| SealError::Malformed)?;
        if *version != VERSION {
            return Err(SealError::Malformed);
        }
        let payload = Payload {
            msg: ciphertext,
            aad: place.as_bytes(),
        };
        self.cipher
            .decrypt(&Nonce::from(nonce), payload)
            .map_err(|_| SealError::WrongKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_and_place() {
        let sealer = Sealer::new(&SecretKey::random());
        let sealed = sealer.seal("cluster/alpha", b"secret");
        assert_eq!(sealer.open("cluster/alpha", &sealed).unwrap(), b"secret");
        assert_eq!(sealer.open("cluster/beta", &sealed), Err(SealError::WrongKey));
        assert_eq!(
            Sealer::new(&SecretKey::random()).open("cluster/alpha", &sealed),
            Err(SealError::WrongKey)
        );
        assert_eq!(
            sealer.open("cluster/alpha", &sealed[..5]),
            Err(SealError::Malformed)
        );
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }
}
