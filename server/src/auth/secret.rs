//! The text of a token: `qwx_<id>_<secret><checksum>`, all base62. The checksum lets a typo, a truncated paste or a
//! guess be refused without asking the database, and lets scanners of leaked secrets be sure of a find.

use std::fmt;

use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What finds a token in a text; published in `GET /v1/meta`.
pub const TOKEN_REGEX: &str = "qwx_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}";

const PREFIX: &str = "qwx_";
const ID_LENGTH: usize = 10;
/// 190 bits.
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token as its owner holds it. Never printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    text: String,
}

/// The text is no token: wrong shape or wrong checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not well formed")]
pub struct Malformed;

/// SHA-256 of a token's text, as the database keeps it.
#[derive(Clone)]
pub struct TokenHash([u8; 32]);

impl TokenText {
    /// A new token of random bits.
    #[must_use]
    pub fn mint() -> Self {
        let mut text = format!("{PREFIX}{}_{}", random(ID_LENGTH), random(SECRET_LENGTH));
        let sum = checksum(&text);
        text.push_str(&sum);
        Self { text }
    }

    /// Reads a token and holds it to its checksum.
    ///
    /// # Errors
    /// [`Malformed`]; it says nothing of the text.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (id, rest) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .ok_or(Malformed)?;
        let base62 = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.len() != ID_LENGTH
            || rest.len() != SECRET_LENGTH + CHECKSUM_LENGTH
            || !base62(id)
            || !base62(rest)
        {
            return Err(Malformed);
        }
        let (covered, sum) = text.split_at(text.len() - CHECKSUM_LENGTH);
        if checksum(covered) == sum {
            Ok(Self {
                text: text.to_owned(),
            })
        } else {
            Err(Malformed)
        }
    }

    /// The public part: names the token in the database, in logs and in the API.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.text[PREFIX.len()..PREFIX.len() + ID_LENGTH]
    }

    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.text.as_bytes()).into())
    }

    /// The whole secret, to be shown once to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({PREFIX}{}_…)", self.id())
    }
}

impl TokenHash {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, stored: &[u8]) -> bool {
        self.0.as_slice().ct_eq(stored).into()
    }
}

fn random(length: usize) -> String {
    // The thread's generator is seeded by the kernel and cryptographically secure.
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(BASE62[rng.random_range(0..BASE62.len())]))
        .collect()
}

/// CRC-32 in base62, most significant digit first.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f01_a_token_is_read_back_and_two_never_meet() {
        let one = TokenText::mint();
        assert_eq!(TokenText::parse(one.reveal()), Ok(one.clone()));
        assert_eq!(one.reveal().len(), 4 + 10 + 1 + 38);
        let other = TokenText::mint();
        assert_ne!(one.id(), other.id());
        assert!(one.hash().matches(one.hash().as_bytes()));
        assert!(!one.hash().matches(other.hash().as_bytes()));
        assert!(!one.hash().matches(b""));
    }

    #[test]
    fn f01_one_changed_character_fails_the_checksum() {
        let token = TokenText::mint();
        let text = token.reveal();
        for at in 0..text.len() {
            let changed = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
            let broken = format!("{}{changed}{}", &text[..at], &text[at + 1..]);
            assert_eq!(TokenText::parse(&broken), Err(Malformed), "{at}");
        }
    }

    #[test]
    fn f01_anything_else_is_refused() {
        let token = TokenText::mint();
        let short = &token.reveal()[..52];
        let long = format!("{}0", token.reveal());
        for text in [
            "",
            "qwx_",
            "qwx_ä",
            "ghp_abc",
            short,
            &long,
            "qwx__",
            "qwx_\u{1F600}_",
        ] {
            assert_eq!(TokenText::parse(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn the_checksum_never_changes_its_form() {
        assert_eq!(
            checksum("qwx_0000000000_00000000000000000000000000000000"),
            "4QyhFr"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = TokenText::mint();
        assert!(!format!("{token:?}").contains(&token.reveal()[15..]));
    }
}
