//! Text on its way to a shell as data: words in which every byte that could mean something to anybody is
//! an octal escape, undone on the host by `printf %b`, which nothing reads as shell again.

use std::fmt::Write;

/// A word for a request or a file of words. Never empty lines, never a space.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut word = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"_-./:,@%+=~^".contains(byte) {
            word.push(char::from(*byte));
        } else {
            write!(word, "\\0{byte:03o}").expect("a string takes everything");
        }
    }
    word
}

/// A text in single quotes, for the one line that the user's login shell reads.
///
/// # Panics
/// `text` holds a single quote: only our own scripts, which have none, come here.
#[must_use]
pub fn quote(text: &str) -> String {
    assert!(!text.contains('\''), "our own scripts hold no single quote");
    format!("'{text}'")
}

/// Whether a shell and `env` take it as the name of a variable.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i04_nothing_that_a_shell_reads_is_left() {
        let word = encode(b"a b$(x);'\"\\\n\xff");
        assert_eq!(word, r"a\0040b\0044\0050x\0051\0073\0047\0042\0134\0012\0377");
    }

    #[test]
    fn i04_names_of_variables_have_a_grammar() {
        assert!(["A", "_", "a_1"].iter().all(|name| is_variable(name)));
        assert!(
            !["", "1", "a-b", "a b", "a;b", "$(x)", "é"]
                .iter()
                .any(|name| is_variable(name))
        );
    }
}
