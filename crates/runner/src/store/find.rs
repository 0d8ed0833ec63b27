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
        let mut listing = Listing::default();
        for id in self.list_ids()? {
            match self.get(id) {
                Ok(run) => listing.runs.push(run),
                // Just being made, or just removed.
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        Ok(listing)
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
        let ids = self.list_ids()?;
        if let Ok(id) = word.parse::<RunId>() {
            return ids.contains(&id).then_some(id).ok_or_else(not_found);
        }
        if let Some(id) = self.newest(|run| run.name.as_ref().is_some_and(|name| name.as_str() == word))? {
            return Ok(id);
        }
        by_prefix(word, &ids)
    }

    fn newest(&self, wanted: impl Fn(&Run) -> bool) -> Result<Option<RunId>, StoreError> {
        let ids = self.list_ids()?;
        Ok(ids
            .into_iter()
            .find(|id| self.get(*id).is_ok_and(|run| wanted(&run))))
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
