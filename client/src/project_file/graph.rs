//! Which stage needs which: names that are there, once each, and no circle.

use std::collections::BTreeMap;

use super::at::At;
use super::complaint::Complaint;
use super::model::Stage;

/// The stage that a need means: `train[lr=0.1]` is one run of `train`.
#[must_use]
pub fn base(need: &str) -> &str {
    need.split('[').next().unwrap_or(need)
}

/// What is wrong with names and needs.
#[must_use]
pub fn complaints(stages: &[Stage]) -> Vec<Complaint> {
    let mut complaints = twice(stages);
    let known: Vec<&str> = stages.iter().map(|stage| stage.name.value.as_str()).collect();
    for stage in stages {
        complaints.extend(needs(stage, &known));
    }
    if complaints.is_empty() {
        complaints.extend(circle(stages));
    }
    complaints
}

fn twice(stages: &[Stage]) -> Vec<Complaint> {
    let mut first: BTreeMap<&str, &At<String>> = BTreeMap::new();
    let mut complaints = Vec::new();
    for stage in stages {
        let name = &stage.name;
        match first.get(name.value.as_str()) {
            Some(known) => complaints.push(
                Complaint::new(&name.at, format!("two stages are called `{}`", name.value))
                    .label("the second one")
                    .also(&known.at, "the first one")
                    .fix("a stage is named once in the file; give one of them another name"),
            ),
            None => {
                first.insert(&name.value, name);
            }
        }
    }
    complaints
}

fn needs(stage: &Stage, known: &[&str]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, need) in stage.needs.iter().enumerate() {
        let (name, word) = (&stage.name.value, need.value.as_str());
        if base(word) == name {
            complaints.push(
                Complaint::new(&need.at, format!("the stage `{name}` needs itself")).label("remove this"),
            );
        } else if !known.contains(&base(word)) {
            let others = known.iter().copied().filter(|other| other != name);
            let what = format!("the stage `{name}` needs `{word}`, and there is no such stage");
            let complaint = Complaint::new(&need.at, what).or_meant(base(word), others);
            let there_are = known
                .iter()
                .filter(|other| *other != name)
                .copied()
                .collect::<Vec<_>>();
            complaints.push(match (complaint.label.is_empty(), there_are.is_empty()) {
                (true, false) => complaint.fix(format!("the other stages are {}", there_are.join(", "))),
                (true, true) => complaint.fix("it is the only stage"),
                (false, _) => complaint,
            });
        } else if stage.needs[..index].contains(need) {
            complaints.push(
                Complaint::new(
                    &need.at,
                    format!("the stage `{name}` names the need `{word}` twice"),
                )
                .label("remove this"),
            );
        }
    }
    complaints
}

/// The first circle of needs.
fn circle(stages: &[Stage]) -> Option<Complaint> {
    let by_name: BTreeMap<&str, &Stage> = stages
        .iter()
        .map(|stage| (stage.name.value.as_str(), stage))
        .collect();
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for stage in stages {
        if let Some(found) = walk(&stage.name.value, &by_name, &mut done) {
            return Some(told(&found));
        }
    }
    None
}

/// Walks along needs without recursion. Every entry of the path is a stage and the need that led on from it.
fn walk<'s>(
    start: &'s str,
    by_name: &BTreeMap<&'s str, &'s Stage>,
    done: &mut BTreeMap<&'s str, bool>,
) -> Option<Vec<(&'s str, &'s At<String>)>> {
    if done.contains_key(start) {
        return None;
    }
    let mut path: Vec<(&str, usize)> = vec![(start, 0)];
    done.insert(start, false);
    while let Some((name, next)) = path.last_mut() {
        let stage = by_name.get(name)?;
        let Some(need) = stage.needs.get(*next) else {
            done.insert(name, true);
            path.pop();
            continue;
        };
        *next += 1;
        let to = base(&need.value);
        match done.get(to) {
            Some(true) => {}
            Some(false) => {
                let from = path.iter().position(|(name, _)| *name == to)?;
                let edge =
                    |(name, next): &(&'s str, usize)| Some((*name, by_name.get(name)?.needs.get(next - 1)?));
                return path[from..].iter().map(edge).collect();
            }
            None => {
                let to = by_name.get_key_value(to)?.0;
                done.insert(to, false);
                path.push((to, 0));
            }
        }
    }
    None
}

fn told(circle: &[(&str, &At<String>)]) -> Complaint {
    let mut names: Vec<&str> = circle.iter().map(|(name, _)| *name).collect();
    names.extend(circle.first().map(|(name, _)| *name));
    let what = format!("these stages wait for each other: {}", names.join(" -> "));
    let mut edges = circle.iter();
    let (_, first) = edges.next().expect("a circle has a stage");
    let complaint = Complaint::new(&first.at, what).label("it begins here");
    edges
        .fold(complaint, |complaint, (name, need)| {
            complaint.also(&need.at, format!("`{name}` needs `{}`", need.value))
        })
        .fix("remove one of these needs")
}
