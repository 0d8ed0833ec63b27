//! [`Key`]: which attempt of which run. What every backend that keeps a list of its own attempts names them by.

use jiff::Timestamp;
use qwex_core::{Attempt, Fact, ObjectUid, Observation, RunId};

use crate::runner::{Handle, Work};

/// Names an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub run_id: RunId,
    pub attempt: Attempt,
}

impl Key {
    #[must_use]
    pub fn new(run_id: RunId, attempt: Attempt) -> Self {
        Self { run_id, attempt }
    }

    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        Self::new(handle.run_id, handle.attempt)
    }

    #[must_use]
    pub fn of_work(work: &Work) -> Self {
        Self::new(work.run_id, work.attempt)
    }

    /// Reads the name of an object, `qwex-<run id>-a<attempt>`, in its one canonical spelling: whatever else lies
    /// beside our objects is none of ours.
    #[must_use]
    pub fn of_object(name: &str) -> Option<Self> {
        let (run_id, attempt) = name.strip_prefix("qwex-")?.rsplit_once("-a")?;
        let key = Self::new(run_id.parse().ok()?, Attempt(attempt.parse().ok()?));
        (key.object() == name).then_some(key)
    }

    /// The name of the object that the attempt becomes.
    #[must_use]
    pub fn object(self) -> String {
        self.run_id.object_name(self.attempt)
    }

    /// That the attempt's object, once `uid`, is not there.
    #[must_use]
    pub fn gone(self, uid: Option<ObjectUid>, message: &str) -> Observation {
        Observation {
            run_id: self.run_id,
            attempt: self.attempt,
            uid,
            at: Timestamp::now(),
            fact: Fact::Gone {
                message: message.to_owned(),
            },
        }
    }
}

impl Handle {
    /// Whether it is about the object that bears this UID. Where one of them is not known, nothing speaks against it.
    #[must_use]
    pub fn is_about(&self, uid: Option<&ObjectUid>) -> bool {
        match (&self.backend.uid, uid) {
            (Some(pinned), Some(uid)) => pinned == uid,
            (Some(_) | None, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_only_the_canonical_name_is_an_attempt() {
        let key = Key::new(RunId::mint(), Attempt(12));
        let name = key.object();
        assert_eq!(Key::of_object(&name), Some(key));
        let upper = name.to_uppercase();
        let padded = name.replace("-a12", "-a012");
        let signed = name.replace("-a12", "-a+12");
        for bad in [
            "qwex-../x-a1",
            "qwex--a1",
            "qwex-x-a1",
            "x",
            &upper,
            &padded,
            &signed,
        ] {
            assert_eq!(Key::of_object(bad), None, "{bad}");
        }
    }
}
