//! What is printed when the arguments cannot be read: clap's words, and the way out.

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};

use crate::error::Exit;

/// Clap's own last line, which our way out stands for.
const MORE: &str = "\nFor more information";

/// Prints help, version or the refusal, and gives the exit code.
#[must_use]
pub fn refuse(refusal: &clap::Error) -> ExitCode {
    match refusal.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            refusal.print().ok();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            refusal.print().ok();
        }
        _ => {
            let text = refusal.render().ansi().to_string();
            let said = text.split_once(MORE).map_or(text.as_str(), |(said, _)| said);
            anstream::eprintln!("{}\n\n  fix: {}", said.trim_end(), way_out(refusal));
        }
    }
    ExitCode::from(Exit::Usage.code())
}

fn way_out(refusal: &clap::Error) -> String {
    let typed = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    // What is behind a word that is no command is a command of nothing.
    let unknown = refusal
        .get(ContextKind::InvalidSubcommand)
        .map(ToString::to_string);
    let command = command_in(typed.take_while(|word| Some(word) != unknown.as_ref()));
    match refusal.kind() {
        ErrorKind::UnknownArgument if command == "qwexctl run" && !is_flag(refusal) => {
            "put the command behind `--`: qwexctl run [FLAGS] -- CMD…".to_owned()
        }
        ErrorKind::InvalidUtf8 => "arguments must be UTF-8; pass other bytes through a file".to_owned(),
        _ => format!("`{command} --help` shows what can be typed, with examples"),
    }
}

/// Whether what is not known looks like a flag.
fn is_flag(refusal: &clap::Error) -> bool {
    let word = refusal.get(ContextKind::InvalidArg).map(ToString::to_string);
    word.is_some_and(|word| word.starts_with('-'))
}

/// The command that is meant by what was typed: `qwexctl cluster add`.
fn command_in(arguments: impl Iterator<Item = String>) -> String {
    let mut names = vec!["qwexctl".to_owned()];
    let mut at = super::command();
    for word in arguments.skip(1).take_while(|word| word != "--") {
        if let Some(below) = at.find_subcommand(&word).cloned() {
            names.push(below.get_name().to_owned());
            at = below;
        }
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_known_by_its_words() {
        let of = |words: &str| command_in(words.split_whitespace().map(str::to_owned));
        assert_eq!(of("qwexctl -p team cluster add x --what"), "qwexctl cluster add");
        assert_eq!(of("qwexctl ls --since never"), "qwexctl ps");
        assert_eq!(of("qwexctl run -- ps"), "qwexctl run");
        assert_eq!(of("qwexctl nothing"), "qwexctl");
    }
}
