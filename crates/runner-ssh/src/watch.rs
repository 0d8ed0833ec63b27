//! Watches all attempts on a host by asking the shell there: a tick is one trip for all of them, and reads
//! whole records only of those that are under way. Restart-safe, because nothing is remembered that is
//! not on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qwex_core::{ObjectUid, Observation};
use qwex_runner::supervised::{Look, Told};
use qwex_runner::{Key, ObjectRef, RunnerError, Sighting, SightingStream, WatchPosition};
use tokio::time::Instant;

use crate::logs;
use crate::serve::Served;
use crate::snapshot::Snapshot;

/// Between two looks while something has just happened.
const QUICKEST: Duration = Duration::from_millis(15);
/// Between two looks when nothing has for long.
const SLOWEST: Duration = Duration::from_secs(1);
/// Pauses grow to this part of the time since the last news: what took a minute may be told a second late.
const PART: u32 = 40;
/// From this pause on, others may have the session meanwhile.
const REST: Duration = Duration::from_millis(400);
/// Without news for this long, the watch says that it is alive.
const ALIVE: Duration = Duration::from_secs(10);
/// Objects looked into by one trip.
const BATCH: usize = 64;

pub fn stream(served: Arc<Served>) -> SightingStream {
    Box::pin(async_stream::stream! {
        let mut eye = Eye::default();
        let mut news_at = Instant::now();
        let mut told_at = Instant::now();
        loop {
            let asked_at = Instant::now();
            let news = match eye.look(&served).await {
                Ok(news) => news,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            if !news.is_empty() {
                news_at = Instant::now();
                told_at = news_at;
            }
            for sighting in news {
                yield Ok(sighting);
            }
            if told_at.elapsed() >= ALIVE {
                told_at = Instant::now();
                yield Ok(Sighting::Alive);
            }
            // A slow host or line is asked less often.
            let busy = asked_at.elapsed().min(SLOWEST);
            let pause = (news_at.elapsed() / PART).max(busy).clamp(QUICKEST, SLOWEST);
            if pause >= REST {
                served.rest().await;
            }
            tokio::time::sleep(pause).await;
        }
    })
}

/// What one watch has told so far.
#[derive(Default)]
struct Eye {
    attempts: BTreeMap<Key, Told>,
    listed: bool,
}

impl Eye {
    async fn look(&mut self, served: &Served) -> Result<Vec<Sighting>, RunnerError> {
        let reply = served.ask(&["scan".to_owned()]).await?.pop().unwrap_or_default();
        let mut news = Vec::new();
        let mut present = BTreeSet::new();
        let mut unread = Vec::new();
        for group in groups(&reply.lines) {
            match group {
                Group::Over(key) => {
                    present.insert(key);
                    if !self.attempts.get(&key).is_some_and(|told| told.over) {
                        unread.push(key);
                    }
                }
                Group::Open(key, lines) => {
                    present.insert(key);
                    self.hear(served, key, lines, &mut news);
                }
            }
        }
        for keys in unread.chunks(BATCH) {
            let requests: Vec<String> = keys.iter().map(|key| format!("look {}", key.object())).collect();
            for (key, reply) in keys.iter().zip(served.ask(&requests).await?) {
                self.hear(served, *key, &reply.lines, &mut news);
            }
        }
        self.miss(&present, &mut news);
        if !self.listed {
            self.listed = true;
            news.push(Sighting::Listed(self.list()));
            news.push(Sighting::Position(WatchPosition("host".to_owned())));
        }
        Ok(news)
    }

    /// Takes what the host says of one attempt.
    fn hear(&mut self, served: &Served, key: Key, lines: &[String], news: &mut Vec<Sighting>) {
        let config = served.config();
        let snapshot = match Snapshot::read(config, key, lines) {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return,
            // One bad directory must not blind us to the others.
            Err(error) => return tracing::warn!(run_id = %key.run_id, %error, "cannot read an attempt"),
        };
        let told = self.attempts.entry(key).or_default();
        if told.over {
            return;
        }
        let look = Look {
            observations: snapshot.observations(config),
            uid: snapshot.uid(),
            over: snapshot.is_over(),
            logs: logs::sources(&config.host, &snapshot),
            // Nobody who keeps what a watch tells watches hosts.
            details: None,
        };
        news.extend(told.news(key, look));
    }

    /// Tells of open attempts that are not there any more, and forgets ended ones.
    fn miss(&mut self, present: &BTreeSet<Key>, news: &mut Vec<Sighting>) {
        self.attempts.retain(|key, told| {
            let stays = present.contains(key);
            if !stays && !told.over && told.uid.is_some() {
                news.push(Sighting::Seen(gone(*key, told.uid.clone())));
            }
            stays
        });
    }

    fn list(&self) -> Vec<ObjectRef> {
        let listed = self.attempts.iter();
        listed.filter_map(|(key, told)| told.listed(*key)).collect()
    }
}

/// That an attempt's directory is not there.
pub fn gone(key: Key, uid: Option<ObjectUid>) -> Observation {
    key.gone(uid, "its directory on the host was removed")
}

/// One object in the answer to a scan.
enum Group<'a> {
    /// It has an end, which was not read.
    Over(Key),
    Open(Key, &'a [String]),
}

fn groups(lines: &[String]) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let mut rest = lines;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if let Some(key) = first.strip_prefix("over ").and_then(Key::of_object) {
            groups.push(Group::Over(key));
        } else if let Some(key) = first.strip_prefix("run ").and_then(Key::of_object) {
            let heads = |line: &String| line.starts_with("run ") || line.starts_with("over ");
            let length = behind.iter().position(heads).unwrap_or(behind.len());
            let (own, others) = behind.split_at(length);
            groups.push(Group::Open(key, own));
            rest = others;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_in_the_directory_are_none_of_ours() {
        let key = "qwex-019b76da-a800-7000-8000-000000000000-a1";
        let lines: Vec<String> = [
            "over qwex-x",
            "run qwex-y",
            "life dead",
            &format!("run {key}"),
            "life alive",
        ]
        .iter()
        .map(|line| (*line).to_owned())
        .collect();
        let groups = groups(&lines);
        assert_eq!(groups.len(), 1);
        assert!(matches!(&groups[0], Group::Open(found, own) if found.object() == key && own.len() == 1));
    }
}
