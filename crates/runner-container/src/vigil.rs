//! podman says `running` for ever of a container whose monitor (conmon) was killed before its command ended: nobody is
//! left to tell it of the end. So what runs for long is asked for its processes now and then; where there are none for a
//! while, the container is abandoned, and how its command ended is lost.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::query_parameters::TopOptions;

use crate::ask::ask;
use crate::backend::Inner;
use crate::connect::Client;
use crate::engine::Flavor;
use crate::snapshot::{Phase, Snapshot};

/// How often a container is asked, counted from when this process first saw it.
const PAUSE: Duration = Duration::from_secs(3);
/// How long the monitor of a command that just ended may take to say so.
const PATIENCE: Duration = Duration::from_secs(10);

/// What this process knows of running containers, by their ids.
#[derive(Debug, Default)]
pub struct Vigil {
    looks: Mutex<HashMap<String, Look>>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    asked: Instant,
    empty_since: Option<Instant>,
}

impl Look {
    fn is_abandoned(self, now: Instant) -> bool {
        self.empty_since
            .is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }
}

impl Vigil {
    /// Whether to ask now; and if not, what is known.
    fn is_due(&self, id: &str, now: Instant) -> Result<(), bool> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let look = looks.entry(id.to_owned()).or_insert(Look {
            asked: now,
            empty_since: None,
        });
        if now.duration_since(look.asked) < PAUSE {
            return Err(look.is_abandoned(now));
        }
        look.asked = now;
        Ok(())
    }

    fn note(&self, id: &str, is_empty: bool, now: Instant) -> bool {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(look) = looks.get_mut(id) else {
            return false;
        };
        look.empty_since = is_empty.then(|| look.empty_since.unwrap_or(now));
        look.is_abandoned(now)
    }

    fn forget(&self, id: &str) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.remove(id);
    }
}

impl Inner {
    /// The container, abandoned if it is.
    pub async fn judged(&self, client: &Client, mut container: Snapshot) -> Snapshot {
        if client.flavor == Flavor::Docker {
            return container;
        }
        if container.phase != Phase::Running {
            self.vigil.forget(&container.id);
            return container;
        }
        let abandoned = match self.vigil.is_due(&container.id, Instant::now()) {
            Err(known) => known,
            Ok(()) => {
                let is_empty = is_empty(client, &container.id).await;
                self.vigil.note(&container.id, is_empty, Instant::now())
            }
        };
        if abandoned {
            container.phase = Phase::Abandoned;
        }
        container
    }
}

/// Whether the container has no process. An engine that does not answer says nothing.
async fn is_empty(client: &Client, id: &str) -> bool {
    match ask(|| client.docker.top_processes(id, None::<TopOptions>)).await {
        Ok(top) => top.processes.unwrap_or_default().is_empty(),
        // podman's answer is then "200 OK" and empty.
        Err(Error::JsonSerdeError { err }) => err.is_eof(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_abandoned_only_after_a_while_without_processes() {
        let vigil = Vigil::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(
            vigil.is_due("c", at(0)),
            Err(false),
            "the first look asks nothing"
        );
        assert_eq!(vigil.is_due("c", at(3)), Ok(()));
        assert!(!vigil.note("c", true, at(3)));
        assert_eq!(vigil.is_due("c", at(4)), Err(false));
        assert_eq!(vigil.is_due("c", at(12)), Ok(()));
        assert!(!vigil.note("c", false, at(12)), "it has processes again");
        assert!(!vigil.note("c", true, at(15)));
        assert!(vigil.note("c", true, at(25)));
        vigil.forget("c");
        assert!(!vigil.note("c", true, at(40)));
    }
}
