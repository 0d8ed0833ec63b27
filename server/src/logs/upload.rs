//! The log of a run that ended elsewhere on its way into the archive: a row and a place of its own. What is cut gives
//! both up at once; what was killed with its server, the sweep finds by the row. An upload that was given up can never
//! be recorded (the row is gone from under `Recorder::import`), so its objects may be removed at any later moment.

use std::sync::Arc;
use std::time::Duration;

use qwex_core::RunId;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::chunk::Chunk;
use super::store::place_of;
use super::{Archive, StoreError};
use crate::db::{DbResult, upload as rows};

/// The row is moved on so often while bytes come.
const TOUCH: Duration = Duration::from_secs(60);
/// Silent for so long, it is given up: whoever brought it is long gone.
const SILENT: Duration = Duration::from_secs(24 * 3600);
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Uploads of one look.
const SWEEP: i64 = 500;

/// An upload under way. Dropped before it is [`Upload::recorded`], it is given up.
#[derive(Debug)]
pub struct Upload {
    archive: Archive,
    run: RunId,
    id: Uuid,
    touched: Instant,
    /// Held while an object is written: the writing is not cut when its request is.
    writing: Arc<Mutex<()>>,
    is_owed: bool,
}

impl Upload {
    pub(super) async fn begin(archive: &Archive, run: RunId) -> DbResult<Self> {
        let id = Uuid::now_v7();
        rows::begin(&archive.pools.work, id, run).await?;
        Ok(Self {
            archive: archive.clone(),
            run,
            id,
            touched: Instant::now(),
            writing: Arc::default(),
            is_owed: true,
        })
    }

    /// Names its row.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    pub(super) async fn put(
        &self,
        ordinal: i32,
        start: u64,
        chunk: Chunk,
    ) -> Result<(String, u64), StoreError> {
        let (store, place) = (self.archive.store.clone(), (self.run, self.id));
        let writing = self.writing.clone().lock_owned().await;
        let put = tokio::spawn(async move {
            let put = store.put_of_upload(place, ordinal, start, chunk).await;
            drop(writing);
            put
        });
        put.await.map_err(|_| StoreError::Slow)?
    }

    /// Says now and then that bytes still come. False: it was given up.
    pub(super) async fn touch(&mut self) -> DbResult<bool> {
        if self.touched.elapsed() < TOUCH {
            return Ok(true);
        }
        self.touched = Instant::now();
        rows::touch(&self.archive.pools.work, self.id).await
    }

    /// Its objects belong to a run now.
    pub fn recorded(mut self) {
        self.is_owed = false;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_owed {
            return;
        }
        // Where nothing runs any more, the sweep finds the row.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (archive, run, id) = (self.archive.clone(), self.run, self.id);
            let writing = self.writing.clone();
            runtime.spawn(async move {
                let _last = writing.lock().await;
                if let Err(error) = archive.give_up(run, id).await {
                    tracing::info!(%run, error = &error as &dyn std::error::Error, "what a cut import left is removed later");
                }
            });
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("its row cannot be changed")]
    Database(#[from] crate::db::DbError),
    #[error("its objects cannot be removed")]
    Store(#[from] StoreError),
}

impl Archive {
    /// First the row says that the objects belong to nobody, then they go, then the row: whoever is killed in between
    /// leaves what the sweep goes on with.
    async fn give_up(&self, run: RunId, id: Uuid) -> Result<(), SweepError> {
        if rows::abandon(&self.pools.work, id).await? {
            return self.clear(run, id).await;
        }
        // Recorded, and the answer to the commit was lost; or given up by a sweep, and written to since.
        let prefix = format!("{}/", place_of(run, id));
        if !rows::is_recorded(&self.pools.work, run, &prefix).await? {
            self.store.remove_upload(run, id).await?;
        }
        Ok(())
    }

    async fn clear(&self, run: RunId, id: Uuid) -> Result<(), SweepError> {
        self.store.remove_upload(run, id).await?;
        Ok(rows::forget(&self.pools.work, id).await?)
    }

    /// Removes what imports left that were cut with their server, for ever. Every replica may do it.
    pub async fn sweep(self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            match self.sweep_once().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "what cut imports left was removed from the archive"),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what cut imports left stays in the archive for now"
                    );
                }
            }
        }
    }

    async fn sweep_once(&self) -> Result<usize, SweepError> {
        let silent = rows::abandon_silent(&self.pools.work, SILENT.as_secs_f64(), SWEEP).await?;
        let mut last = None;
        let mut count = 0;
        for upload in silent {
            match self.clear(upload.run_id, upload.id).await {
                Ok(()) => count += 1,
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(count), Err)
    }
}
