//! The archive itself: chunks as objects, in a directory or a bucket.

use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use qwex_core::RunId;
use url::Url;

use super::chunk::{Chunk, ChunkError};

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the archive URL {0} is of no kind that this build knows; file:///… works")]
    UnknownKind(Url),
    #[error("the archive directory cannot be made")]
    Directory(#[source] std::io::Error),
    #[error("the archive refused")]
    Refused(#[from] object_store::Error),
    #[error("the archive did not answer in time")]
    Slow,
    #[error("the chunk {key} is broken")]
    Broken {
        key: String,
        #[source]
        source: ChunkError,
    },
}

const DEADLINE: Duration = Duration::from_secs(60);

/// Chunks by key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    objects: Arc<dyn ObjectStore>,
}

impl ChunkStore {
    /// Opens the archive at a URL; a directory is made if it is not there.
    ///
    /// # Errors
    /// The kind of URL is not known, or the directory cannot be made.
    pub fn open(url: &Url) -> Result<Self, StoreError> {
        let dir = match url.scheme() {
            "file" => url
                .to_file_path()
                .map_err(|()| StoreError::UnknownKind(url.clone()))?,
            _ => return Err(StoreError::UnknownKind(url.clone())),
        };
        std::fs::create_dir_all(&dir).map_err(StoreError::Directory)?;
        Ok(Self {
            objects: Arc::new(LocalFileSystem::new_with_prefix(dir)?.with_fsync(true)),
        })
    }

    /// Stores a chunk durably. Returns its key and its stored length in bytes.
    pub(super) async fn put(
        &self,
        run: RunId,
        ordinal: i32,
        start: u64,
        chunk: Chunk,
    ) -> Result<(String, u64), StoreError> {
        let key = format!("runs/{run}/{ordinal}/{start:020}.qwl");
        let broken = |source| StoreError::Broken {
            key: key.clone(),
            source,
        };
        let packed = tokio::task::spawn_blocking(move || chunk.pack()).await;
        let packed = packed.map_err(|_| StoreError::Slow)?.map_err(broken)?;
        let length = packed.len() as u64;
        let path = Path::from(key.as_str());
        let put = self.objects.put(&path, PutPayload::from(packed));
        tokio::time::timeout(DEADLINE, put)
            .await
            .map_err(|_| StoreError::Slow)??;
        Ok((key, length))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Chunk, StoreError> {
        let path = Path::from(key);
        let get = async { self.objects.get(&path).await?.bytes().await };
        let packed = tokio::time::timeout(DEADLINE, get)
            .await
            .map_err(|_| StoreError::Slow)??;
        let chunk = tokio::task::spawn_blocking(move || Chunk::unpack(&packed)).await;
        let broken = |source| StoreError::Broken {
            key: key.to_owned(),
            source,
        };
        chunk.map_err(|_| StoreError::Slow)?.map_err(broken)
    }
}
