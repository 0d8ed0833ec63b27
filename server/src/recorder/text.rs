//! The one choke point through which words of backends pass on their way into SQL.

use qwex_core::{Ending, Fact, Observation};

/// Longest message that is stored, in bytes.
const MAX: usize = 8_192;

/// Makes every text of an observation fit for Postgres: no NUL, bounded length.
pub(super) fn clean(mut seen: Observation) -> Observation {
    match &mut seen.fact {
        Fact::Waiting { message, .. }
        | Fact::Gone { message }
        | Fact::Unreachable { message }
        | Fact::LogsIncomplete { message }
        | Fact::CancelRequested { by: message } => clean_text(message),
        Fact::Ended {
            ending: Ending::Failed { failure },
            ..
        } => clean_text(&mut failure.message),
        Fact::Ended {
            ending: Ending::Stopped { message, .. },
            ..
        } => clean_text(message),
        Fact::EpisodeEnded { end, .. } => {
            if let Some(reason) = &mut end.reason {
                clean_text(reason);
            }
        }
        Fact::Ended {
            ending: Ending::Succeeded { .. },
            ..
        }
        | Fact::Dispatched { .. }
        | Fact::Running { .. }
        | Fact::EpisodeStarted { .. }
        | Fact::DuplicateStart { .. }
        | Fact::Reachable => {}
    }
    seen
}

/// The same of a single text.
pub(super) fn cleaned(text: &str) -> String {
    let mut text = text.to_owned();
    clean_text(&mut text);
    text
}

fn clean_text(text: &mut String) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
    if text.len() > MAX {
        let cut = (0..=MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d09_text_for_sql_has_no_nul_and_a_bound() {
        let mut text = format!("a\0b{}", "é".repeat(MAX));
        clean_text(&mut text);
        assert!(!text.contains('\0'));
        assert!(text.len() <= MAX + '…'.len_utf8());
        assert!(text.starts_with("a\u{fffd}b"));
    }
}
