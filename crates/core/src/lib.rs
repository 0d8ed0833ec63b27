//! The vocabulary of qwex: ids, the [`JobSpec`], the [`Run`], what is seen on a backend
//! ([`Observation`]) and the one function that turns it into run state ([`transition::next`]).
//!
//! Used by every other package. Holds no async code and no I/O.

pub mod duration;
pub mod event;
pub mod explain;
pub mod ids;
pub mod mount;
pub mod names;
pub mod observation;
pub mod provenance;
pub mod quantity;
pub mod resources;
pub mod run;
pub mod spec;
pub mod status;
pub mod transition;
pub mod validate;

pub use duration::Span;
pub use event::{EventKind, RunEvent};
pub use ids::{Attempt, EpisodeId, ObjectUid, RunId, RunIdAgeError, RunIdError};
pub use mount::{Mount, MountKind};
pub use names::{ClusterName, NameError, PriorityClass, Project, QueueName, RunName};
pub use observation::{Ending, EpisodeEnd, Fact, Observation};
pub use provenance::{Imported, Provenance, Usage};
pub use quantity::Quantity;
pub use resources::Resources;
pub use run::{BackendInfo, BackendKind, LogSummary, LogVerdict, Run};
pub use spec::{JobSpec, RetryOn, RetryPolicy, secret_from_env};
pub use status::{Failure, FailureCode, Flag, Flags, Pending, PendingCode, RunStatus};
pub use transition::{RunState, Step};
pub use validate::{SpecProblem, unknown_fields, validate_labels};
