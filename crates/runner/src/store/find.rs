//! Which run a word on the command line means: id, unique beginning of an id, name, `@latest`,
//! `@last-failed`.

use qwex_core::{Run, RunId, RunStatus};

use super::{Store, StoreError};

/// All runs of a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// Newest first.
    pub runs: Vec<Run>,
    /// Records that could not be read; the others are not kept from you by them.
    pub damaged: Vec<StoreError>,
}

/// Fewer characters of an id mean nothing: the first eight are a time.
const SHORTEST_PREFIX: usize = 4;

impl Store {
    /// Ids of all runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list_ids(&self) -> Result<Vec<RunId>, StoreError> {
        let names = self
            .runs
            .names()
            .map_err(|source| StoreError::io("list", self.path(), source))?;
        let mut ids: Vec<RunId> = names
            .iter()
            .filter_map(|name| {
                let name = name.to_str()?;
                let id: RunId = name.parse().ok()?;
                (id.to_string() == name).then_some(id)
            })
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// All runs, newest first, and the damaged records apart.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the store itself cannot be read.
    pub fn list(&self) -> Result<Listing, StoreError> {
        self.list_newest(usize::MAX, |_| true)
    }

    /// The newest `most` runs that `wanted` holds for, newest first, and the damaged records met on the way.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the store itself cannot be read.
    pub fn list_newest(&self, most: usize, wanted: impl Fn(&Run) -> bool) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let mut looked_at = 0;
        let mut window = most.saturating_mul(2);
        loop {
            let ids = self.newest_ids(window)?;
            let is_all = ids.len() < window || window == usize::MAX;
            for id in ids.into_iter().skip(std::mem::take(&mut looked_at)) {
                if listing.runs.len() == most {
                    return Ok(listing);
                }
                match self.get(id) {
                    Ok(run) if wanted(&run) => listing.runs.push(run),
                    // Just being made, or just removed.
                    Ok(_) | Err(StoreError::NotFound { .. }) => {}
                    Err(error) => listing.damaged.push(error),
                }
            }
            if is_all {
                return Ok(listing);
            }
            looked_at = window;
            window = window.saturating_mul(8);
        }
    }

    /// The run that a word means. A name that several runs have means the newest of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Ambiguous`], [`StoreError::Io`].
    pub fn resolve(&self, word: &str) -> Result<RunId, StoreError> {
        let not_found = || StoreError::NotFound {
            word: word.to_owned(),
        };
        match word {
            "@latest" => return self.newest(|_| true)?.ok_or_else(not_found),
            "@last-failed" => {
                return self
                    .newest(|run| run.status == RunStatus::Failed)?
                    .ok_or_else(not_found);
            }
            _ => {}
        }
        let ids = self.newest_ids(usize::MAX)?;
        if let Ok(id) = word.parse::<RunId>() {
            return self.get(id).map(|_| id).or_else(|error| match error {
                StoreError::NotFound { .. } => Err(not_found()),
                StoreError::Damaged { .. } => Ok(id),
                error => Err(error),
            });
        }
        if let Some(id) = self.newest(|run| run.name.as_ref().is_some_and(|name| name.as_str() == word))? {
            return Ok(id);
        }
        by_prefix(word, &ids)
    }

    fn newest(&self, wanted: impl Fn(&Run) -> bool) -> Result<Option<RunId>, StoreError> {
        Ok(self.list_newest(1, wanted)?.runs.first().map(|run| run.id))
    }
}

fn by_prefix(word: &str, ids: &[RunId]) -> Result<RunId, StoreError> {
    let prefix = word.to_ascii_lowercase();
    let long_enough = prefix.len() >= SHORTEST_PREFIX;
    let found: Vec<RunId> = ids
        .iter()
        .copied()
        .filter(|id| long_enough && id.to_string().starts_with(&prefix))
        .collect();
    match found.as_slice() {
        [id] => Ok(*id),
        [] => Err(StoreError::NotFound {
            word: word.to_owned(),
        }),
        _ => Err(StoreError::Ambiguous {
            word: word.to_owned(),
            ids: found,
        }),
    }
}
