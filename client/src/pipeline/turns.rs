//! Which stages take turns: what works in the project's directory itself must not run beside what may write the same
//! files, or files that it was handed. Pure: globs and the record in, an answer out. Asked by `decide`,
//! and by whoever tells it beforehand.

use std::collections::BTreeSet;
use std::path::Path;

use qwex_runner::workspace::Globs;

use super::record::{Pipeline, StageRecord};
use crate::project_file::settle;

/// The globs of a stage's outputs, with the id of its run filled in.
#[must_use]
pub fn outputs_of(stage: &StageRecord) -> Vec<String> {
    let id = stage.run_id.to_string();
    let globs = stage.spec.outputs.iter();
    globs.map(|glob| settle(glob, &id)).collect()
}

/// Whether two stages that do not need each other must not run at the same time.
#[must_use]
pub fn must_take_turns(pipeline: &Pipeline, one: &StageRecord, other: &StageRecord) -> bool {
    let in_place = one.works_in_place() || other.works_in_place();
    in_place
        && (shared(one, other).is_some()
            || writes_what_is_handed(pipeline, one, other)
            || writes_what_is_handed(pipeline, other, one))
}

/// Whether the outputs of one are among the files that the other was handed by stages before it.
fn writes_what_is_handed(pipeline: &Pipeline, one: &StageRecord, other: &StageRecord) -> bool {
    if one.spec.outputs.is_empty() || other.needs.is_empty() {
        return false;
    }
    // What cannot be read was refused before anything ran.
    let Ok(globs) = Globs::new(&outputs_of(one)) else {
        return false;
    };
    let before = pipeline.ancestors(other);
    let mut handed = before.iter().flat_map(|stage| &stage.outputs);
    handed.any(|artifact| globs.matches(Path::new(&artifact.path)))
}

/// Two globs that may mean the same file, one of each stage.
fn shared(one: &StageRecord, other: &StageRecord) -> Option<(String, String)> {
    if one.spec.outputs.is_empty() || other.spec.outputs.is_empty() {
        return None;
    }
    let others = outputs_of(other);
    outputs_of(one).into_iter().find_map(|glob| {
        let meets = others.iter().find(|other| may_meet(&glob, other))?;
        Some((glob.clone(), meets.clone()))
    })
}

/// A sentence for every two stages of the file that take turns although neither needs the other.
#[must_use]
pub fn turns(pipeline: &Pipeline) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut sentences = Vec::new();
    for (index, one) in pipeline.stages.iter().enumerate() {
        for other in &pipeline.stages[index + 1..] {
            let names = (one.stage.as_str(), other.stage.as_str());
            if told.contains(&names) || !(one.works_in_place() || other.works_in_place()) {
                continue;
            }
            let Some((glob, meets)) = shared(one, other) else {
                continue;
            };
            let is_before = |one: &StageRecord, other: &StageRecord| {
                let before = pipeline.ancestors(other);
                before.iter().any(|stage| stage.name == one.name)
            };
            if is_before(one, other) || is_before(other, one) {
                continue;
            }
            told.insert(names);
            let which = if one.stage == other.stage {
                format!("the runs of {}", one.stage)
            } else {
                format!("{} and {}", one.stage, other.stage)
            };
            sentences.push(format!(
                "{which} take turns: their outputs {glob} and {meets} may be the same files"
            ));
        }
    }
    sentences
}

/// Whether a file may be meant by both globs. In doubt yes.
fn may_meet(one: &str, other: &str) -> bool {
    meet(&segments(one), &segments(other))
}

fn segments(glob: &str) -> Vec<&str> {
    let glob = glob.strip_prefix("./").unwrap_or(glob).trim_end_matches('/');
    let mut segments = Vec::new();
    for segment in glob.split('/') {
        let open = segment.matches('{').count() != segment.matches('}').count();
        if open {
            // Alternatives across directories: anything may follow.
            segments.push("**");
            break;
        }
        segments.push(segment);
    }
    segments
}

fn meet(one: &[&str], other: &[&str]) -> bool {
    match (one.split_first(), other.split_first()) {
        // A glob that means a directory means all of it.
        (None, _) | (_, None) => true,
        (Some((&"**", rest)), Some((_, below))) => meet(rest, other) || meet(one, below),
        (Some((_, below)), Some((&"**", rest))) => meet(one, rest) || meet(below, other),
        (Some((a, one)), Some((b, other))) => segments_meet(a, b) && meet(one, other),
    }
}

/// By what stands before the first and after the last wildcard.
fn segments_meet(one: &str, other: &str) -> bool {
    const WILD: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];
    let fixed = |text: &'_ str| !text.contains(WILD);
    if fixed(one) && fixed(other) {
        return one == other;
    }
    let head = |text: &str| text.find(WILD).unwrap_or(text.len());
    let tail = |text: &str| text.rfind(WILD).map_or(0, |at| at + 1);
    let heads = one[..head(one)].bytes().zip(other[..head(other)].bytes());
    let tails = one[tail(one)..]
        .bytes()
        .rev()
        .zip(other[tail(other)..].bytes().rev());
    heads.chain(tails).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::super::record::sample;
    use super::*;

    #[test]
    fn globs_that_may_mean_the_same_file_meet() {
        for (one, other, meets) in [
            ("out/**", "out/a", true),
            ("out/**", "./out/", true),
            ("out/a/**", "out/b/**", false),
            ("out/a", "out/a/b", true),
            ("**/*.json", "out/report.json", true),
            ("out/*.json", "out/report.csv", false),
            // It may be a directory with a.json in it.
            ("**/*.json", "out/report.csv", true),
            ("*.whl", "*.tar.gz", false),
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("out/{a,b}", "out/c", true),
            ("{a/b,c}/d", "x", true),
            ("out/0.1/**", "out/0.01/**", false),
            ("**", "x/y/z", true),
        ] {
            assert_eq!(may_meet(one, other), meets, "{one} {other}");
            assert_eq!(may_meet(other, one), meets, "{other} {one}");
        }
    }

    #[test]
    fn what_works_elsewhere_needs_no_turn() {
        let mut pipeline = sample::pipeline(vec![
            sample::stage("a", &[]),
            sample::stage("b", &[]),
            sample::stage("c", &["a"]),
        ]);
        for stage in &mut pipeline.stages {
            stage.spec.outputs = vec!["out/**".to_owned()];
        }
        let turns_of =
            |pipeline: &Pipeline| must_take_turns(pipeline, &pipeline.stages[0], &pipeline.stages[1]);
        assert!(turns_of(&pipeline));
        let told = turns(&pipeline);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("a and b take turns"), "{told:?}");
        pipeline.stages[0].backend = "kueue".to_owned();
        assert!(turns_of(&pipeline));
        pipeline.stages[1].backend = "ssh".to_owned();
        assert!(!turns_of(&pipeline));
    }
}
