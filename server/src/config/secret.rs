//! The key that seals what must not lie in SQL in plain.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// 32 random bytes. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    #[error("no secret key: set QWEX_SECRET_KEY or QWEX_SECRET_KEY_FILE (`openssl rand -hex 32` makes one)")]
    Missing,
    #[error("the secret key is not 32 bytes in hex or base64 (`openssl rand -hex 32` makes one)")]
    Malformed,
    #[error("failed to read the secret key from {file}")]
    Unreadable {
        file: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("failed to write a new secret key to {file}")]
    Unwritable {
        file: PathBuf,
        #[source]
        cause: std::io::Error,
    },
}

impl SecretKey {
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn from_file(file: &Path) -> Result<Self, SecretKeyError> {
        let text = std::fs::read_to_string(file).map_err(|cause| SecretKeyError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        text.parse()
    }

    /// The key in `file`; a new one is written there (mode 0600) when the file is absent.
    ///
    /// # Errors
    /// The file can be neither read nor written.
    pub fn load_or_create(file: &Path) -> Result<Self, SecretKeyError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file);
        match made {
            Ok(mut open) => {
                let key = Self::random();
                let text = format!("{}\n", hex::encode(key.0));
                let written = open.write_all(text.as_bytes()).and_then(|()| open.sync_all());
                written.map(|()| key).map_err(|cause| SecretKeyError::Unwritable {
                    file: file.to_owned(),
                    cause,
                })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::from_file(file),
            Err(cause) => Err(SecretKeyError::Unwritable {
                file: file.to_owned(),
                cause,
            }),
        }
    }
}

impl FromStr for SecretKey {
    type Err = SecretKeyError;

    fn from_str(text: &str) -> Result<Self, SecretKeyError> {
        let text = text.trim();
        let bytes = hex::decode(text)
            .ok()
            .or_else(|| STANDARD.decode(text).ok())
            .or_else(|| URL_SAFE_NO_PAD.decode(text).ok());
        let key = bytes.and_then(|bytes| bytes.try_into().ok());
        key.map(Self).ok_or(SecretKeyError::Malformed)
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hex_and_base64() {
        let key = SecretKey([7; 32]);
        for text in [
            hex::encode([7; 32]),
            STANDARD.encode([7; 32]),
            format!("{}\n", URL_SAFE_NO_PAD.encode([7; 32])),
        ] {
            assert_eq!(text.parse::<SecretKey>().unwrap(), key, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_too_short_and_does_not_print_it() {
        for text in ["", "abcd", &hex::encode([1; 31]), "secret secret secret secret"] {
            let error = text.parse::<SecretKey>().unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert_eq!(format!("{:?}", SecretKey([9; 32])), "SecretKey(…)");
    }

    #[test]
    fn a_file_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret-key");
        let first = SecretKey::load_or_create(&file).unwrap();
        assert_eq!(SecretKey::load_or_create(&file).unwrap(), first);
    }
}
