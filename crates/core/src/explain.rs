//! What each reason of waiting and of failing means, and what a person can do about it. Printed by
//! `qwexctl why` and sent by the API beside the code; the message of the run itself says what happened in
//! this case, these say what such a case is. Nothing here may promise what a backend does not do.

use crate::status::{FailureCode, PendingCode};

impl PendingCode {
    /// What the run waits for, in one sentence.
    #[must_use]
    pub fn explain(self) -> &'static str {
        match self {
            Self::Accepted => "The run is recorded for good, and no cluster was looked for yet.",
            Self::Queued => "No cluster can take the run now.",
            Self::Dispatched => "The run was handed to a cluster, which has not said anything about it yet.",
            Self::Admission => "The run waits in its Kueue queue for quota.",
            Self::Scheduling => "The run is admitted, and no node has room for it yet.",
            Self::Image => "The image is being pulled, or pulling it fails and is tried again.",
            Self::Starting => "A node has the run and makes its container.",
            Self::Backoff => "The last attempt failed, and the next one begins after a pause.",
            Self::Unknown => "The server gives a reason that this version does not know.",
        }
    }

    /// What to do when it takes too long, in one sentence.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Accepted => {
                "This takes less than a second; if it lasts, see whether a qwexcloud replica is alive and ready."
            }
            Self::Queued => {
                "Read the reason given for each cluster: ask for less, loosen `--cluster` or the placement labels, or bring a cluster back."
            }
            Self::Dispatched => {
                "See with `qwexctl cluster list` whether the cluster can be reached; the run goes on by itself when it can."
            }
            Self::Admission => {
                "Wait for quota, ask for less cpu, memory or gpu, or choose another queue with `--queue`."
            }
            Self::Scheduling => {
                "Ask for less, or for no more than the largest node has; the message says which resource is short."
            }
            Self::Image => {
                "If it fails, check the image's name and tag, and that the cluster may pull from its registry."
            }
            Self::Starting => {
                "This takes seconds; if it lasts, the message names what is missing, often a secret or a volume."
            }
            Self::Backoff => {
                "Read the last attempt's log with `qwexctl logs --attempt N`; `qwexctl cancel` stops further attempts."
            }
            Self::Unknown => "Read the message, and update qwexctl to the version of the server.",
        }
    }
}

impl FailureCode {
    /// What happened, in one sentence.
    #[must_use]
    pub fn explain(self) -> &'static str {
        match self {
            Self::ExitCode => "The command ran and ended by itself with an exit code other than 0.",
            Self::Signal => "The command was ended by a signal.",
            Self::Oom => "The command used more memory than its limit and was killed by the kernel.",
            Self::Timeout => "The run took longer than its own timeout and was stopped.",
            Self::Image => "The image cannot be pulled, or its name is not valid.",
            Self::StartError => "The image is there, and the command in it could not be started.",
            Self::Evicted => {
                "The node gave the run up: it ran short of a resource, was drained, or was shut down."
            }
            Self::Preempted => "The run had to make room for one of higher priority.",
            Self::NodeLost => "The node that executed the run died or left the cluster.",
            Self::DeletedExternally => {
                "Somebody or something other than qwex deleted or stopped the run on its backend."
            }
            Self::Rejected => "The backend refuses this run, and would refuse it again.",
            Self::NameConflict => "An object with the name of this run exists already, and it is not ours.",
            Self::Lost => "The run ended or vanished while nobody could see it, and nothing tells how.",
            Self::Unknown => "The run failed for a reason that this version does not know.",
        }
    }

    /// What to do about it, in one sentence.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::ExitCode => {
                "Read the end of the log with `qwexctl logs`; the reason is in what the command printed."
            }
            Self::Signal => {
                "If you did not send it: 11 and 6 are crashes of the program, 9 often means that memory ran out on the node."
            }
            Self::Oom => "Ask for more with `--memory`, or make the command use less.",
            Self::Timeout => "Give it longer with `--timeout`, or find in the log where the time went.",
            Self::Image => {
                "Check the spelling and the tag, and that the backend has the right to pull from the registry."
            }
            Self::StartError => {
                "Check that the program exists in the image and is executable, and that the working directory and the secrets exist."
            }
            Self::Evicted => "Run it again with `qwexctl rerun`, or let qwex do so with `--retries N`.",
            Self::Preempted => {
                "Run it again with `qwexctl rerun`, let qwex do so with `--retries N`, or use a queue of higher priority."
            }
            Self::NodeLost => "Run it again with `qwexctl rerun`, or let qwex do so with `--retries N`.",
            Self::DeletedExternally => {
                "Find out in the cluster's audit log who deleted it; then `qwexctl rerun`. Use `qwexctl cancel` to stop runs."
            }
            Self::Rejected => {
                "The message is the backend's own: mend the spec, or the quota and policies it names."
            }
            Self::NameConflict => {
                "Look at the object of that name on the cluster, remove it if it is not needed, then `qwexctl rerun`."
            }
            Self::Lost => {
                "Check by hand that nothing of it still runs, then `qwexctl rerun`; should a result turn up, qwex corrects the record."
            }
            Self::Unknown => "Read the message, and update qwexctl to the version of the server.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sentence(text: &str) {
        assert!(text.starts_with(|c: char| c.is_uppercase()), "{text}");
        assert!(text.ends_with('.'), "{text}");
        assert!(
            (20..=160).contains(&text.len()),
            "{} characters: {text}",
            text.len()
        );
    }

    #[test]
    fn every_reason_has_a_sentence_and_a_hint_of_its_own() {
        let mut told = std::collections::BTreeSet::new();
        for code in PendingCode::ALL {
            is_sentence(code.explain());
            is_sentence(code.hint());
            assert!(told.insert(code.explain()), "{code} is explained like another");
        }
        for code in FailureCode::ALL {
            is_sentence(code.explain());
            is_sentence(code.hint());
            assert!(told.insert(code.explain()), "{code} is explained like another");
        }
    }
}
