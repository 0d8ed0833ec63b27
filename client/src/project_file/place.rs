//! Where in the file a field of a stage stands, for what is only found out after the reading.

use std::ops::Range;

use super::model::Stage;

/// The value of the field that a JSON pointer of the spec means: in the stage itself, else at the top of the file.
#[must_use]
pub fn field(text: &str, stages: &[Stage], stage: &Stage, pointer: &str) -> Option<Range<usize>> {
    let keys: Vec<&str> = pointer
        .split('/')
        .filter(|part| !part.is_empty() && part.parse::<usize>().is_err())
        .collect();
    let top = stages.iter().map(|stage| window(text, stages, stage).start).min();
    in_window(text, window(text, stages, stage), &keys)
        .or_else(|| in_window(text, 0..top.unwrap_or(text.len()), &keys))
}

/// From the dash before a stage to that of the next one.
fn window(text: &str, stages: &[Stage], stage: &Stage) -> Range<usize> {
    let start = |stage: &Stage| {
        let first = stage.name.at.start.min(stage.command.at.start);
        text.get(..first)
            .and_then(|before| before.rfind("- "))
            .unwrap_or(first)
    };
    let own = start(stage);
    let end = stages.iter().map(start).filter(|other| *other > own).min();
    own..end.unwrap_or(text.len())
}

/// The value behind the keys, each found after the one before.
fn in_window(text: &str, window: Range<usize>, keys: &[&str]) -> Option<Range<usize>> {
    let mut at = window.start;
    for key in keys {
        at = key_end(text, at..window.end, key)?;
    }
    (!keys.is_empty()).then(|| value(text, at..window.end))
}

/// Behind the colon of a key.
fn key_end(text: &str, window: Range<usize>, key: &str) -> Option<usize> {
    let part = text.get(window.clone())?;
    part.match_indices(key).find_map(|(found, _)| {
        let before = part[..found].chars().next_back();
        let is_start = before.is_none_or(|c| c.is_whitespace() || "{,\"'".contains(c));
        let after = part[found + key.len()..].trim_start_matches(['"', '\'']);
        let colon = part.len() - after.len();
        (is_start && after.starts_with(':')).then_some(window.start + colon + 1)
    })
}

fn value(text: &str, window: Range<usize>) -> Range<usize> {
    let rest = text.get(window.clone()).unwrap_or_default();
    let start = window.start + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    let rest = text.get(start..window.end).unwrap_or_default();
    let end = rest.find(['\n', ',', '}', '#']).unwrap_or(rest.len());
    start..start + rest[..end].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn the_value_of_a_field_is_found() {
        let text = "resources: { pids: 0 }\nstages:\n  - name: a\n    command: 'x cpu: y'\n    resources: { cpu: lots }\n\
                    \x20 - { command: cpu, name: b, resources: { 'cpu': many, memory: 4gb } }\n";
        let stages = parse::<Vec<Stage>>(text).unwrap().stages;
        let found =
            |index: usize, pointer: &str| field(text, &stages, &stages[index], pointer).map(|at| &text[at]);
        assert_eq!(found(0, "/resources/cpu"), Some("lots"));
        assert_eq!(found(1, "/resources/cpu"), Some("many"));
        assert_eq!(found(1, "/resources/memory"), Some("4gb"));
        assert_eq!(found(1, "/resources/pids"), Some("0"));
        assert_eq!(found(1, "/timeout"), None);
        assert_eq!(found(1, ""), None);
    }
}
