//! Makes foreign bytes harmless for a terminal: control bytes become visible escapes, so that a log line or a name
//! can neither move the cursor nor retitle the window.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Control characters and the invisible ones that turn the direction of text.
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

fn escape_into(text: &mut String, c: char) {
    let written = match c {
        '\n' => write!(text, "\\n"),
        '\r' => write!(text, "\\r"),
        c if c.is_ascii() => write!(text, "\\x{:02x}", u32::from(c)),
        c => write!(text, "\\u{{{:x}}}", u32::from(c)),
    };
    written.expect("a String takes every write");
}

/// For a cell or a sentence: everything on one line.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_dangerous(c) {
            escape_into(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// For a line of a log on a terminal: tabs stay, a carriage return at the end goes, bytes that are no UTF-8 are
/// shown as `\xff`.
#[must_use]
pub fn log_line(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut safe = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c != '\t' && is_dangerous(c) {
                escape_into(&mut safe, c);
            } else {
                safe.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(safe, "\\x{byte:02x}").expect("a String takes every write");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_untouched() {
        assert!(matches!(one_line("grün, 日本, ok"), Cow::Borrowed(_)));
        assert_eq!(log_line("a\tgrün".as_bytes()), "a\tgrün");
    }

    #[test]
    fn control_bytes_become_visible() {
        assert_eq!(log_line(b"\x1b[31mred\x07\0"), "\\x1b[31mred\\x07\\x00");
        assert_eq!(log_line(b"50%\r100%\r"), "50%\\r100%");
        assert_eq!(log_line(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(log_line("\u{9b}2J\u{202e}x".as_bytes()), "\\u{9b}2J\\u{202e}x");
        assert_eq!(one_line("a\nb\tc"), "a\\nb\\x09c");
    }
}
