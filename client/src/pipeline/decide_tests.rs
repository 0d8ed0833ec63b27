use qwex_core::RunStatus;

use super::super::record::sample::{pipeline, stage};
use super::*;

/// a -> b, c -> d
fn diamond() -> Pipeline {
    pipeline(vec![
        stage("a", &[]),
        stage("b", &["a"]),
        stage("c", &["a"]),
        stage("d", &["b", "c"]),
    ])
}

fn launched(pipeline: &Pipeline) -> Vec<&str> {
    let decisions = decide(pipeline, false);
    let launch = |decision: &Decision| match decision {
        Decision::Launch(index) => Some(pipeline.stages[*index].name.as_str()),
        Decision::Skip { .. } | Decision::Cancel(_) => None,
    };
    decisions.iter().filter_map(launch).collect()
}

#[test]
fn a_stage_runs_once_its_needs_are_over() {
    let mut graph = diamond();
    assert_eq!(launched(&graph), ["a"]);
    graph.stages[0].status = StageStatus::Running;
    assert!(decide(&graph, false).is_empty());
    graph.stages[0].status = StageStatus::Succeeded;
    assert_eq!(launched(&graph), ["b", "c"]);
    graph.max_parallel = Some(1);
    assert_eq!(launched(&graph), ["b"]);
    graph.stages[1].status = StageStatus::Running;
    assert!(decide(&graph, false).is_empty());
}

#[test]
fn a_failure_stops_those_that_need_it_unless_it_is_allowed() {
    let mut graph = diamond();
    graph.stages[0].status = StageStatus::Failed;
    let told = |graph: &Pipeline| match decide(graph, false).first() {
        Some(Decision::Skip {
            reason, by_failure, ..
        }) => (reason.clone(), *by_failure),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&graph), ("a failed".to_owned(), true));
    graph.stages[0].allow_failure = true;
    assert_eq!(launched(&graph), ["b", "c"]);
    graph.stages[0].status = StageStatus::Skipped;
    assert_eq!(told(&graph), ("a skipped".to_owned(), false));
}

#[test]
fn conditions_see_how_needs_ended() {
    let mut graph = pipeline(vec![stage("a", &[]), stage("b", &["a"]), stage("c", &["b"])]);
    graph.stages[0].status = StageStatus::Failed;
    graph.stages[1].status = StageStatus::Skipped;
    graph.stages[1].skipped_by_failure = true;
    for (condition, runs) in [
        ("failure()", true),
        ("always()", true),
        ("success()", false),
        ("'y' == 'y'", false),
        ("(", false),
    ] {
        graph.stages[2].condition = Some(condition.to_owned());
        assert_eq!(launched(&graph).len() == 1, runs, "{condition}");
    }
}

#[test]
fn the_whole_is_as_bad_as_its_worst_stage() {
    let mut graph = diamond();
    for stage in &mut graph.stages {
        stage.status = StageStatus::Succeeded;
    }
    assert_eq!(graph.verdict(), RunStatus::Succeeded);
    graph.stages[1].status = StageStatus::Cancelled;
    assert_eq!(graph.verdict(), RunStatus::Cancelled);
    graph.stages[2].status = StageStatus::Failed;
    assert_eq!(graph.verdict(), RunStatus::Failed);
    graph.stages[2].allow_failure = true;
    assert_eq!(graph.verdict(), RunStatus::Cancelled);
}

proptest::proptest! {
    /// Whatever the graph and whatever becomes of each stage: nothing runs before its needs, nothing twice, and all ends.
    #[test]
    fn every_graph_ends(edges in proptest::collection::vec((0usize..8, 0usize..8), 0..20), ends in proptest::collection::vec(0u8..4, 8), most in 1u32..4) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut stages: Vec<StageRecord> = names.iter().map(|name| stage(name, &[])).collect();
        for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
            if !stages[to].needs.contains(&names[from].to_owned()) {
                stages[to].needs.push(names[from].to_owned());
            }
        }
        let mut graph = pipeline(stages);
        graph.max_parallel = Some(most);
        let mut ran = [0; 8];
        for _ in 0..100 {
            for decision in decide(&graph, false) {
                match decision {
                    Decision::Launch(index) => {
                        ran[index] += 1;
                        let needs = graph.stages[index].needs.clone();
                        proptest::prop_assert!(needs.iter().all(|need| graph.find(need).unwrap().is_good()));
                        graph.stages[index].status = StageStatus::Running;
                    }
                    Decision::Skip { index, by_failure, .. } => {
                        graph.stages[index].status = StageStatus::Skipped;
                        graph.stages[index].skipped_by_failure = by_failure;
                    }
                    Decision::Cancel(_) => proptest::prop_assert!(false),
                }
            }
            let running: Vec<usize> = (0..8).filter(|index| graph.stages[*index].status == StageStatus::Running).collect();
            proptest::prop_assert!(running.len() <= most as usize);
            if let Some(index) = running.first() {
                graph.stages[*index].allow_failure = ends[*index] == 3;
                graph.stages[*index].status = match ends[*index] {
                    0 | 1 => StageStatus::Succeeded,
                    _ => StageStatus::Failed,
                };
            }
        }
        proptest::prop_assert!(graph.is_over());
        proptest::prop_assert!(ran.iter().all(|times| *times <= 1));
    }
}

#[test]
fn those_that_may_write_the_same_files_take_turns() {
    let mut graph = diamond();
    graph.stages[0].status = StageStatus::Succeeded;
    for index in [1, 2] {
        graph.stages[index].spec.outputs = vec!["out/**".to_owned()];
    }
    assert_eq!(launched(&graph), ["b"]);
    graph.stages[1].status = StageStatus::Running;
    assert!(decide(&graph, false).is_empty());
    graph.stages[1].spec.outputs = vec!["out/b/**".to_owned()];
    graph.stages[2].spec.outputs = vec!["out/c/**".to_owned()];
    assert_eq!(launched(&graph), ["c"]);
    // What `a` made for both is not written by one while the other reads it.
    let made = serde_json::json!([{"path": "out/c/x", "sha256": "ab", "size": 1}]);
    graph.stages[0].outputs = serde_json::from_value(made).unwrap();
    assert!(decide(&graph, false).is_empty());
}
