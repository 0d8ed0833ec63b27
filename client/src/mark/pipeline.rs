//! Whether a pipeline was begun by this very user on this machine: without this, to take up or to cancel the record that a
//! checkout or somebody else put there would start its commands. Its record ends with a mark of this user over all that
//! is before, and over the id that the record lies under. The shelf of pipelines writes it with each change and drives
//! nothing without it, and `direct` leaves no run to a pipeline without it; whoever only looks reads the record as it is.
//! It names no path: a directory may be moved.

use std::fmt::Display;

use super::Key;

/// What else is ever marked begins with other words.
const ABOUT: &str = "qwex pipeline 1";
/// Hexadecimal digits of a mark.
const DIGITS: usize = 64;
/// Between what is marked and its mark, and behind the mark.
const BEFORE: &[u8] = b",\n  \"mark\": \"";
const BEHIND: &[u8] = b"\"\n}\n";
/// The end of an object as it is printed for people.
const END: &[u8] = b"\n}";

/// The bytes of a record with its mark. `json` is an object, printed for people, with fields.
#[must_use]
pub fn marked(key: &Key, id: impl Display, json: &[u8]) -> Vec<u8> {
    let body = json.strip_suffix(END).unwrap_or(json);
    let mark = key.sign(&[about(id).as_bytes(), body]);
    [body, BEFORE, mark.as_bytes(), BEHIND].concat()
}

/// Why nobody can say that this user wrote the record; `None`: that is certain.
#[must_use]
pub fn doubt(id: impl Display, record: &[u8]) -> Option<String> {
    let (body, mark) = parted(record).unzip();
    super::doubt(mark, &[about(id).as_bytes(), body.unwrap_or_default()])
}

/// What is marked, and its mark.
fn parted(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let record = record.strip_suffix(BEHIND)?;
    let (body, mark) = record.split_at_checked(record.len().checked_sub(DIGITS)?)?;
    Some((body.strip_suffix(BEFORE)?, mark))
}

fn about(id: impl Display) -> String {
    format!("{ABOUT}\n{id}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_record_is_an_object_and_is_taken_apart_again() {
        let json =
            serde_json::to_vec_pretty(&serde_json::json!({"version": 1, "stages": [{"mark": "x"}]})).unwrap();
        let body = json.strip_suffix(END).unwrap();
        let mark = "0".repeat(DIGITS);
        let record = [body, BEFORE, mark.as_bytes(), BEHIND].concat();
        assert_eq!(parted(&record), Some((body, mark.as_bytes())));
        let read: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!((&read["version"], &read["mark"]), (&1.into(), &mark.into()));
    }

    #[test]
    fn what_carries_no_mark_is_told_from_what_does() {
        for other in ["", "{}", "{\n  \"version\": 1\n}\n", "{\n  \"mark\": \"\"\n}\n"] {
            assert_eq!(parted(other.as_bytes()), None, "{other:?}");
        }
        let told = doubt("an id", b"{\n  \"version\": 1\n}\n");
        assert_eq!(told.unwrap(), "it carries no mark of you");
    }
}
