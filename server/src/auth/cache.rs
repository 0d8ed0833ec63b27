//! What is remembered of tokens between two looks at the database: for a short time, and of a bounded number of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Known;

/// With the time a lookup takes this stays under one second: the time within which a revoked token is refused.
const REMEMBERED: Duration = Duration::from_millis(700);
/// While one request looks again, others may go on with the old answer for this long.
const GRACE: Duration = Duration::from_millis(150);
/// More ids than this in one second are guesses: everything is forgotten then.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    /// `None`: there is no such token.
    known: Option<Arc<Known>>,
    until: Instant,
    /// Somebody looks it up again already.
    renewing: bool,
}

pub(super) enum Found {
    Fresh(Option<Arc<Known>>),
    Absent,
}

impl Cache {
    pub(super) fn get(&self, id: &str) -> Found {
        let Ok(mut entries) = self.entries.lock() else {
            return Found::Absent;
        };
        let Some(entry) = entries.get_mut(id) else {
            return Found::Absent;
        };
        let now = Instant::now();
        if now < entry.until || (entry.renewing && now < entry.until + GRACE) {
            return Found::Fresh(entry.known.clone());
        }
        // Beyond the grace every request looks for itself: the one that should may be stuck.
        entry.renewing = true;
        Found::Absent
    }

    pub(super) fn put(&self, id: &str, known: Option<Arc<Known>>) {
        let Ok(mut entries) = self.entries.lock() else {
            return;
        };
        if entries.len() >= MOST {
            let now = Instant::now();
            entries.retain(|_, entry| now < entry.until);
            if entries.len() >= MOST {
                entries.clear();
            }
        }
        let entry = Entry {
            known,
            until: Instant::now() + REMEMBERED,
            renewing: false,
        };
        entries.insert(id.to_owned(), entry);
    }

    pub(super) fn forget(&self, id: &str) {
        if let Ok(mut entries) = self.entries.lock() {
            entries.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_is_remembered_and_forgotten() {
        let cache = Cache::default();
        assert!(matches!(cache.get("a"), Found::Absent));
        cache.put("a", None);
        assert!(matches!(cache.get("a"), Found::Fresh(None)));
        cache.forget("a");
        assert!(matches!(cache.get("a"), Found::Absent));
    }

    #[test]
    fn f05_a_flood_of_ids_takes_no_more_room() {
        let cache = Cache::default();
        for number in 0..3 * MOST {
            cache.put(&number.to_string(), None);
        }
        assert!(cache.entries.lock().unwrap().len() <= MOST);
    }
}
