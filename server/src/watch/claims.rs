//! Objects that say they are ours and are not: whoever may write to a namespace may make a Job with our labels.
//! Nothing that is seen of one counts, neither facts nor logs; the object itself is left alone.

use std::collections::{HashMap, HashSet};

use qwex_core::{EpisodeId, Fact, ObjectUid, Observation};
use qwex_runner::{Claim, LogSource, ObjectRef};

use super::{Context, Ended};
use crate::clusters::Verdict;

/// The objects that are not known to be ours, for as long as they are there.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    doubted: HashMap<ObjectUid, Stranger>,
}

#[derive(Debug)]
struct Stranger {
    claim: Claim,
    episodes: HashSet<EpisodeId>,
}

impl Strangers {
    /// Judges new claims, and again the doubted ones of which there is news: the run may be recorded by now.
    pub async fn judge(
        &mut self,
        context: &Context,
        mut claims: Vec<Claim>,
        news: &[Observation],
    ) -> Result<(), Ended> {
        let again = news
            .iter()
            .filter_map(|seen| self.doubted.get(seen.uid.as_ref()?));
        claims.extend(again.map(|stranger| stranger.claim.clone()));
        claims.sort_by(|a, b| a.object.uid.0.cmp(&b.object.uid.0));
        claims.dedup();
        if claims.is_empty() {
            return Ok(());
        }
        let judged = context.reach.judge(&context.backend, claims).await;
        for (claim, verdict) in judged.ok_or(Ended::Unjudged)? {
            match verdict {
                Verdict::Ours => {
                    self.doubted.remove(&claim.object.uid);
                }
                Verdict::Stranger { why } => self.doubt(claim, why),
            }
        }
        Ok(())
    }

    fn doubt(&mut self, claim: Claim, why: &'static str) {
        let ObjectRef { run_id, attempt, uid } = &claim.object;
        if self.doubted.contains_key(uid) {
            return;
        }
        tracing::warn!(run = %run_id, attempt = attempt.0, object = claim.name, %uid, why, "an object claims to be ours and is not: it is left alone, and nothing about it counts");
        metrics::counter!("qwex_strangers_total").increment(1);
        let stranger = Stranger {
            episodes: HashSet::new(),
            claim: claim.clone(),
        };
        self.doubted.insert(uid.clone(), stranger);
    }

    /// Leaves out what was seen of strangers.
    pub fn leave_out(&mut self, observations: &mut Vec<Observation>, logs: &mut Vec<LogSource>) {
        if self.doubted.is_empty() {
            return;
        }
        observations.retain(|seen| {
            let stranger = seen.uid.as_ref().and_then(|uid| self.doubted.get_mut(uid));
            match stranger {
                None => true,
                Some(stranger) => {
                    if let Fact::EpisodeStarted { episode, .. } = &seen.fact {
                        stranger.episodes.insert(episode.clone());
                    }
                    false
                }
            }
        });
        let of_stranger = |log: &LogSource| {
            self.doubted
                .values()
                .any(|one| one.episodes.contains(&log.episode))
        };
        logs.retain(|log| !of_stranger(log));
    }

    pub fn has(&self, uid: &ObjectUid) -> bool {
        self.doubted.contains_key(uid)
    }

    /// Forgets those that are not there any more.
    pub fn keep(&mut self, listed: &[ObjectRef]) {
        if !self.doubted.is_empty() {
            let there: HashSet<&ObjectUid> = listed.iter().map(|object| &object.uid).collect();
            self.doubted.retain(|uid, _| there.contains(uid));
        }
    }
}
