//! Pipelines: the stages of a `qwex.yaml` as ordinary runs, and a graph record of which needs which, in
//! `.qwex/pipelines/<id>/pipeline.json`. Knows no backend: it asks a [`StageRunner`].
//!
//! `record` is what is stored, `shelf` where; `decide` is pure: graph in, what to do next out, `turns` what must not run
//! side by side; `drive` does it, one driver per pipeline, `ended` what follows the end of a run; `launch` gets one stage ready, `see_through` sees its run to the end. `objects` keeps files by their hash, `artifacts` takes outputs
//! there and back (`manifest` lists them beside a run), `inputs` tells what a stage depends on, `cache` what ran before
//! with the same, `retain` what of all that nobody needs any more.
//!
//! A run's id is in the record before the run is handed over, and a run is handed over again by the same id: whoever is
//! killed at whatever moment, the next driver runs nothing twice.

mod artifacts;
mod cache;
mod decide;
mod drive;
mod driver;
mod ended;
mod error;
mod inputs;
mod launch;
mod make;
mod manifest;
mod objects;
mod record;
mod retain;
mod runner;
mod see_through;
mod shelf;
mod turns;

pub use artifacts::{Artifact, Brought, Moment};
pub use drive::drive;
pub use driver::{DRIVE, is_driven, start, take};
pub use error::PipelineError;
pub use launch::{Foreseen, foresee};
pub use make::{Wanted, again, make};
pub use objects::{Stored, Unneeded};
pub use record::{Pipeline, PipelineId, StageRecord, StageStatus};
pub use retain::{GRACE, Inventory, Retention, Sweeper, Sweeping, runs_of};
pub use runner::{Over, StageError, StageRun, StageRunner, Waited};
pub use shelf::{Shelf, Shelved};
pub use turns::turns;
