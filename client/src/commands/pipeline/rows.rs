//! Tables of pipelines and of their stages.

use jiff::Timestamp;

use crate::output::{Row, age};
use crate::pipeline::{Pipeline, StageRecord};

impl Row for Pipeline {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let mut heads = vec!["ID", "NAME", "STATUS", "STAGES", "DURATION", "AGE"];
        if wide {
            heads.extend(["FILE", "CREATED", "FINISHED", "RESUMED"]);
        }
        heads
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let (done, all) = self.done();
        let mut cells = vec![
            self.id.to_string(),
            self.name.clone().unwrap_or_default(),
            self.status.to_string(),
            format!("{done}/{all}"),
            duration(self.started_at, self.finished_at, now),
            age::age(self.created_at, now),
        ];
        if wide {
            cells.extend([
                self.file.clone(),
                age::full(self.created_at),
                self.finished_at.map(age::full).unwrap_or_default(),
                self.resumed.to_string(),
            ]);
        }
        cells
    }
}

impl Row for StageRecord {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        stage_heads(wide)
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        stage(self, wide, now)
    }
}

pub fn stage_heads(wide: bool) -> Vec<&'static str> {
    let mut heads = vec!["STAGE", "STATUS", "BACKEND", "RUN", "DURATION", "REASON"];
    if wide {
        heads.extend(["NEEDS", "EXIT", "ATTEMPT", "FILES"]);
    }
    heads
}

pub fn stage(stage: &StageRecord, wide: bool, now: Timestamp) -> Vec<String> {
    // A run that does not exist yet is nobody's to look for.
    let has_run = stage.started_at.is_some();
    let ran = stage.reused_from.is_none();
    let mut cells = vec![
        stage.name.clone(),
        stage.status.as_str().to_owned(),
        stage.backend.clone(),
        if has_run {
            stage.run_id.to_string()
        } else {
            String::new()
        },
        if ran {
            duration(stage.started_at, stage.finished_at, now)
        } else {
            String::new()
        },
        stage.reason.clone().unwrap_or_default(),
    ];
    if wide {
        cells.extend([
            stage.needs.join(","),
            stage.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            stage
                .attempt
                .map(|attempt| attempt.to_string())
                .unwrap_or_default(),
            stage.outputs.len().to_string(),
        ]);
    }
    cells
}

pub fn duration(started: Option<Timestamp>, finished: Option<Timestamp>, now: Timestamp) -> String {
    started.map_or_else(String::new, |started| {
        age::short(finished.unwrap_or(now).duration_since(started))
    })
}

/// The pipeline in one line.
pub fn headline(pipeline: &Pipeline, now: Timestamp) -> String {
    let (done, all) = pipeline.done();
    let name = pipeline
        .name
        .as_ref()
        .map(|name| format!(" {name}"))
        .unwrap_or_default();
    let ran = duration(pipeline.started_at, pipeline.finished_at, now);
    let ran = if ran.is_empty() { ran } else { format!(", {ran}") };
    let waiting = pipeline.waiting.as_ref().map(|why| format!("; waiting: {why}"));
    format!(
        "pipeline {}{name}: {}, {done} of {all} stages over{ran}{}",
        pipeline.id,
        pipeline.status,
        waiting.unwrap_or_default()
    )
}
