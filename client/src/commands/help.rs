//! `help`: commands and topics.

use super::Done;
use crate::cli::{HelpArgs, command};
use crate::error::CliError;
use crate::help::{TOPICS, topic};
use crate::output::print;

pub fn help(args: &HelpArgs) -> Done {
    if let [word] = args.about.as_slice()
        && let Some(text) = topic(word)
    {
        print(text)?;
        return Ok(0);
    }
    let mut command = command();
    command.build();
    let mut at = &mut command;
    for word in &args.about {
        let known = at.get_name().to_owned();
        at = at
            .find_subcommand_mut(word)
            .ok_or_else(|| unknown(&known, word))?;
    }
    print(&at.render_long_help().ansi().to_string())?;
    Ok(0)
}

fn unknown(parent: &str, word: &str) -> CliError {
    let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
    CliError::usage(format!("{word:?} is neither a command of {parent} nor a topic"))
        .fix(format!("topics: {}", topics.join(", ")))
        .fix("commands: `qwexctl --help`")
}
