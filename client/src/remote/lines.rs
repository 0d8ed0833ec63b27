//! Log lines of the wire as the bytes that the command wrote.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qwex_api::log::LogLine;

/// The bytes of a line, with its newline unless it goes on in the next item.
#[must_use]
pub fn bytes_of(line: &LogLine) -> Vec<u8> {
    let mut bytes = content_of(line);
    if !line.partial && line.gap.is_none() {
        bytes.push(b'\n');
    }
    bytes
}

/// The bytes of a line without its newline. What is no base64 is shown as it came, rather than lost.
#[must_use]
pub fn content_of(line: &LogLine) -> Vec<u8> {
    match (&line.text, &line.base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .unwrap_or_else(|_| encoded.clone().into_bytes()),
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> LogLine {
        let head = r#"{"cursor":"c","attempt":1,"stream":"output","at":"2026-01-01T00:00:00Z","#;
        serde_json::from_str(&format!("{head}{json}}}")).unwrap()
    }

    #[test]
    fn any_byte_survives() {
        assert_eq!(bytes_of(&line(r#""text":"hé""#)), "hé\n".as_bytes());
        assert_eq!(bytes_of(&line(r#""base64":"/wA=""#)), b"\xff\0\n");
        assert_eq!(bytes_of(&line(r#""text":"half","partial":true"#)), b"half");
        assert_eq!(bytes_of(&line(r#""gap":"lost""#)), b"");
    }
}
