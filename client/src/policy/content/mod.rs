//! Content rules: patterns over the command of a run and over the scripts that it names. `builtin` are the rules that
//! qwex brings, `texts` finds what there is to look at, here both meet.

mod builtin;
mod pattern;
mod texts;

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use self::builtin::BUILTIN;
use self::pattern::{Line, Pattern};
use self::texts::{Text, texts};
use super::check::Asked;
use crate::config::file::{Owner, ReadFile};
use crate::error::CliError;
use crate::output::escape::log_line;
use crate::project_file::{At, Complaint};

/// Most that is told of one run: whoever wrote a thousand such lines knows it after these.
const MOST_FINDINGS: usize = 50;
/// Characters of a line that are shown.
const SHOWN: usize = 160;

/// `content:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentSection {
    /// Rules of qwex that are not wanted.
    pub off: Vec<At<String>>,
    pub rules: Vec<RuleSection>,
}

/// A rule, or another action for one of qwex.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSection {
    pub name: At<String>,
    /// Regular expression over a line. Absent: that of the rule of qwex with this name.
    #[serde(default)]
    pub pattern: Option<At<String>>,
    #[serde(default)]
    pub language: Language,
    #[serde(default)]
    pub action: Action,
    /// What to do instead.
    #[serde(default)]
    pub message: Option<String>,
    /// What matches is not shown.
    #[serde(default)]
    pub secret: bool,
}

/// What a text is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    #[default]
    Any,
    Shell,
    Python,
}

/// What a match does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    #[default]
    Warn,
    Deny,
}

/// A rule that is in force.
#[derive(Debug, Clone)]
struct Rule {
    name: String,
    pattern: Pattern,
    language: Language,
    action: Action,
    message: String,
    secret: bool,
    /// `path:line` of the file that it is from; `None`: of qwex.
    place: Option<String>,
}

/// A line that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: String,
    pub action: Action,
    /// `train.py:12`, or `the command`.
    pub at: String,
    /// Safe to be shown.
    pub line: String,
    /// Why it matters, and what to do instead.
    pub message: String,
    /// Where the rule is from.
    pub place: Option<String>,
}

/// All rules in force.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Those of qwex as the files left them, and those of the files. What the system's file says of a rule stands.
    ///
    /// # Errors
    /// The user's file switches off what the system's sets.
    pub fn of(files: &[ReadFile]) -> Result<Self, CliError> {
        let mut builtin: BTreeMap<&str, Rule> = BUILTIN.iter().map(|rule| (rule.name, rule.rule())).collect();
        let mut own = Vec::new();
        let mut set_by_system: Vec<&str> = Vec::new();
        for file in files {
            let Some(section) = file.file.policy.as_ref().map(|policy| &policy.content) else {
                continue;
            };
            let complaints: Vec<Complaint> = section
                .off
                .iter()
                .filter(|name| set_by_system.contains(&name.value.as_str()))
                .map(of_system)
                .collect();
            if !complaints.is_empty() {
                return Err(file.refused(&complaints));
            }
            for name in &section.off {
                builtin.remove(name.value.as_str());
            }
            for rule in &section.rules {
                let place = format!("{}:{}", file.path, file.source().line(&rule.name.at));
                match (&rule.pattern, builtin::find(&rule.name.value)) {
                    (Some(pattern), _) => own.extend(rule.rule(&pattern.value, place)),
                    (None, Some(known)) => {
                        let entry = builtin.entry(known.name).or_insert_with(|| known.rule());
                        // Nobody makes a rule of the system milder.
                        if rule.action > entry.action || entry.place.is_none() {
                            entry.action = rule.action;
                            entry.place = Some(place);
                        }
                    }
                    (None, None) => {}
                }
                if file.owner == Owner::System {
                    set_by_system.push(&rule.name.value);
                }
            }
        }
        let mut all = own;
        all.extend(builtin.into_values());
        Ok(Self(all))
    }

    /// What the rules find, what is denied first.
    #[must_use]
    pub fn look(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.0.is_empty() {
            return found;
        }
        for text in texts(asked) {
            for (number, line) in text.lines() {
                let line = Line::new(&line);
                let mut matching = self.0.iter().filter(|rule| rule.matches(&text, &line)).peekable();
                if matching.peek().is_some() {
                    let shown = self.shown(line.text);
                    found.extend(matching.map(|rule| rule.finding(text.at(number), shown.clone())));
                }
            }
        }
        found.sort_by_key(|finding: &Finding| std::cmp::Reverse(finding.action));
        found.dedup();
        found.truncate(MOST_FINDINGS);
        found
    }

    /// A line as it may be shown, whichever rule it met: without what any rule calls a secret.
    fn shown(&self, line: &str) -> String {
        let mut shown = line.trim().to_owned();
        for rule in self.0.iter().filter(|rule| rule.secret) {
            shown = rule.pattern.replace_all(&shown, "[not shown]").into_owned();
        }
        log_line(shown.as_bytes()).chars().take(SHOWN).collect()
    }
}

fn of_system(name: &At<String>) -> Complaint {
    Complaint::new(
        &name.at,
        format!("the rule `{}` is set for this machine and stays on", name.value),
    )
    .label("take this away")
}

impl RuleSection {
    fn rule(&self, pattern: &str, place: String) -> Option<Rule> {
        Some(Rule {
            name: self.name.value.clone(),
            pattern: Pattern::own(Regex::new(pattern).ok()?),
            language: self.language,
            action: self.action,
            message: self.message.clone().unwrap_or_default(),
            secret: self.secret,
            place: Some(place),
        })
    }
}

impl Rule {
    /// A comment does nothing, but a secret in it is one all the same.
    fn matches(&self, text: &Text, line: &Line<'_>) -> bool {
        let is_meant = match self.language {
            Language::Any => true,
            Language::Shell | Language::Python => text.language == self.language,
        };
        let is_comment = match text.language {
            Language::Any => false,
            Language::Shell | Language::Python => line.text.trim_start().starts_with('#'),
        };
        is_meant && (self.secret || !is_comment) && self.pattern.is_match(line)
    }

    fn finding(&self, at: String, line: String) -> Finding {
        Finding {
            rule: self.name.clone(),
            action: self.action,
            at,
            line,
            message: self.message.clone(),
            place: self.place.clone(),
        }
    }
}

/// What is wrong with the rules of a file.
#[must_use]
pub fn complaints(section: &ContentSection) -> Vec<Complaint> {
    let mut all = Vec::new();
    for name in &section.off {
        if builtin::find(&name.value).is_none() {
            let names: Vec<&str> = BUILTIN.iter().map(|rule| rule.name).collect();
            all.push(super::model::among(&name.at, "rule of qwex", &name.value, &names));
        }
    }
    for (index, rule) in section.rules.iter().enumerate() {
        let name = &rule.name.value;
        let is_word = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_word {
            all.push(
                Complaint::new(&rule.name.at, format!("`{name}` cannot name a rule"))
                    .label("use letters, digits, `-`, `_` and `.`"),
            );
        }
        if section.rules[..index].iter().any(|other| other.name == rule.name) {
            all.push(Complaint::new(
                &rule.name.at,
                format!("the rule `{name}` is there twice"),
            ));
        }
        match &rule.pattern {
            Some(pattern) => all.extend(Regex::new(&pattern.value).err().map(|error| {
                let why = error.to_string();
                let why = why
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim()
                    .trim_start_matches("error: ");
                Complaint::new(&pattern.at, "this is no regular expression").label(why)
            })),
            None if builtin::find(name).is_none() => all.push(
                Complaint::new(&rule.name.at, format!("the rule `{name}` has no pattern"))
                    .or_meant(name, BUILTIN.iter().map(|rule| rule.name))
                    .fix("give it a `pattern`, or name a rule of qwex: `qwexctl help policy` lists them"),
            ),
            None => {}
        }
    }
    all
}

#[cfg(test)]
mod tests;
