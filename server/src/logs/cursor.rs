//! The one cursor of logs: which stream of the run, and how many of its bytes were read. The same live,
//! archived, and across the switch.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A place in a run's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub ordinal: i32,
    pub offset: u64,
}

/// The string is no cursor of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cursor of this API")]
pub struct CursorError(pub String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("l1.{}.{}", self.ordinal, self.offset)))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let plain = String::from_utf8(bytes).ok()?;
            let (ordinal, offset) = plain.strip_prefix("l1.")?.split_once('.')?;
            let cursor = Self {
                ordinal: ordinal.parse().ok()?,
                offset: offset.parse().ok()?,
            };
            (cursor.ordinal >= 0).then_some(cursor)
        };
        read().ok_or_else(|| CursorError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::Strategy as _;

    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let cursor = Cursor {
            ordinal: 3,
            offset: u64::MAX,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "x", "bDEuMC4", "bDEuLTEuMA", "%%%"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        /// Words of a stranger, also such as decode to something near.
        #[test]
        fn any_words_are_a_cursor_of_ours_or_refused(
            text in proptest::prop_oneof![
                "\\PC{0,60}",
                "[lL]?[0-9]{0,2}[.][-+0-9. ]{0,24}".prop_map(|plain| URL_SAFE_NO_PAD.encode(plain)),
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
            ],
        ) {
            if let Ok(cursor) = text.parse::<Cursor>() {
                proptest::prop_assert!(cursor.ordinal >= 0);
                proptest::prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }
}
