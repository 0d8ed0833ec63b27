//! The archive itself: chunks as objects, in a directory or a bucket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use qwex_core::RunId;
use url::Url;
use uuid::Uuid;

use super::chunk::{Chunk, ChunkError};
use super::trouble::{Refusal, Refusals};

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("archive URLs begin with file:///, s3://, gs:// or az://, and this one with {0:?}")]
    UnknownKind(String),
    /// The URL itself may hold credentials and is not told.
    #[error("the archive URL {0}")]
    Malformed(&'static str),
    #[error("the archive directory cannot be made")]
    Directory(#[source] std::io::Error),
    #[error("the archive refused")]
    Refused(#[from] object_store::Error),
    #[error("the archive did not answer in time")]
    Slow,
    #[error("what a cut import left cannot be removed")]
    Removal(#[source] std::io::Error),
    #[error("the chunk {key} is not there")]
    Missing {
        key: String,
        #[source]
        source: object_store::Error,
    },
    #[error("the chunk {key} is broken")]
    Broken {
        key: String,
        #[source]
        source: ChunkError,
    },
}

const DEADLINE: Duration = Duration::from_secs(60);
const CHECK_DEADLINE: Duration = Duration::from_secs(15);
const REMOVED_AT_ONCE: usize = 8;

/// The bucket that a URL names, and nothing beside it that would be passed over in silence.
fn bucket(url: &Url) -> Result<&str, StoreError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StoreError::Malformed(
            "holds credentials; give them by that service's own environment variables",
        ));
    }
    if url.port().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(StoreError::Malformed(
            "has more than a bucket and a path; an endpoint is given by the environment, for S3 AWS_ENDPOINT_URL",
        ));
    }
    let host = url.host_str().filter(|host| !host.is_empty());
    host.ok_or(StoreError::Malformed("names no bucket"))
}

/// The part of a bucket below the path of a URL.
fn below(url: &Url, bucket: impl ObjectStore) -> Arc<dyn ObjectStore> {
    match url.path().trim_matches('/') {
        "" => Arc::new(bucket),
        prefix => Arc::new(PrefixStore::new(bucket, prefix)),
    }
}

/// Chunks by key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    objects: Arc<dyn ObjectStore>,
    /// Where the archive lies, if it is a directory.
    dir: Option<PathBuf>,
    refusals: Refusals,
}

impl ChunkStore {
    /// Opens the archive at a URL; a directory is made if it is not there. Credentials for a bucket are those of the
    /// service's own environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`, or the identity of the machine).
    ///
    /// # Errors
    /// The kind of URL is not known, the directory cannot be made, or the environment of the bucket is not whole.
    pub fn open(url: &Url) -> Result<Self, StoreError> {
        let mut place = None;
        let objects: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => {
                let malformed = |()| StoreError::Malformed("names no directory of this machine");
                let dir = url.to_file_path().map_err(malformed)?;
                std::fs::create_dir_all(&dir).map_err(StoreError::Directory)?;
                let objects = LocalFileSystem::new_with_prefix(&dir)?.with_fsync(true);
                place = Some(dir);
                Arc::new(objects)
            }
            "s3" => {
                let bucket = AmazonS3Builder::from_env().with_bucket_name(bucket(url)?);
                below(url, bucket.build()?)
            }
            "gs" => {
                let bucket = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket(url)?);
                below(url, bucket.build()?)
            }
            "az" => {
                let container = MicrosoftAzureBuilder::from_env().with_container_name(bucket(url)?);
                below(url, container.build()?)
            }
            other => return Err(StoreError::UnknownKind(format!("{other}:"))),
        };
        Ok(Self::of(objects, place))
    }

    fn of(objects: Arc<dyn ObjectStore>, dir: Option<PathBuf>) -> Self {
        Self {
            objects,
            dir,
            refusals: Refusals::default(),
        }
    }

    /// What it refused of this process lately, unless it took something since.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusals.recent()
    }

    /// Asks the archive for an object that is not there: whether it answers, and lets us read.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        let path = Path::from("runs/none");
        let asked = tokio::time::timeout(CHECK_DEADLINE, self.objects.head(&path)).await;
        match asked.map_err(|_| StoreError::Slow)? {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
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
        let packed = pack(chunk, &key).await?;
        self.put_packed(key, packed).await
    }

    /// Stores a chunk that came from outside, where nothing but the same upload puts anything.
    pub(super) async fn put_of_upload(
        &self,
        (run, upload): (RunId, Uuid),
        ordinal: i32,
        start: u64,
        chunk: Chunk,
    ) -> Result<(String, u64), StoreError> {
        let key = format!("{}/{ordinal}/{start:020}.qwl", place_of(run, upload));
        let packed = pack(chunk, &key).await?;
        self.put_packed(key, packed).await
    }

    async fn put_packed(&self, key: String, packed: Vec<u8>) -> Result<(String, u64), StoreError> {
        let length = packed.len() as u64;
        let path = Path::from(key.as_str());
        let put = self.objects.put(&path, PutPayload::from(packed));
        let put = match tokio::time::timeout(DEADLINE, put).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StoreError::Slow),
        };
        self.refusals.note(&put);
        put.map(|()| (key, length))
    }

    /// Removes whatever an upload left. Nothing of it need be there.
    pub(super) async fn remove_upload(&self, run: RunId, upload: Uuid) -> Result<(), StoreError> {
        let place = place_of(run, upload);
        let removal = async {
            match &self.dir {
                Some(dir) => remove_dir(&dir.join(&place)).await,
                None => Ok(self.remove_below(&Path::from(place)).await?),
            }
        };
        let removed = tokio::time::timeout(DEADLINE, removal).await;
        removed.map_err(|_| StoreError::Slow)?
    }

    async fn remove_below(&self, prefix: &Path) -> object_store::Result<()> {
        let listed = self.objects.list(Some(prefix));
        let each = listed.try_for_each_concurrent(REMOVED_AT_ONCE, |object| async move {
            match self.objects.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        });
        each.await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Chunk, StoreError> {
        let path = Path::from(key);
        let get = async { self.objects.get(&path).await?.bytes().await };
        let got = tokio::time::timeout(DEADLINE, get)
            .await
            .map_err(|_| StoreError::Slow)?;
        let packed = got.map_err(|error| match error {
            object_store::Error::NotFound { .. } => StoreError::Missing {
                key: key.to_owned(),
                source: error,
            },
            error => error.into(),
        })?;
        let chunk = tokio::task::spawn_blocking(move || Chunk::unpack(&packed)).await;
        let broken = |source| StoreError::Broken {
            key: key.to_owned(),
            source,
        };
        chunk.map_err(|_| StoreError::Slow)?.map_err(broken)
    }
}

/// Where the objects of an upload lie, and no other's; without a slash at its end.
pub(super) fn place_of(run: RunId, upload: Uuid) -> String {
    format!("runs/{run}/imported/{upload}")
}

/// With what a write that was killed left beside the objects, and the directories above that are empty then: a write makes
/// those that it misses.
async fn remove_dir(dir: &std::path::Path) -> Result<(), StoreError> {
    use std::io::ErrorKind;
    if let Err(error) = tokio::fs::remove_dir_all(dir).await {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {}
            _ => return Err(StoreError::Removal(error)),
        }
    }
    for above in dir.ancestors().skip(1).take(2) {
        if tokio::fs::remove_dir(above).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn pack(chunk: Chunk, key: &str) -> Result<Vec<u8>, StoreError> {
    let packed = tokio::task::spawn_blocking(move || chunk.pack()).await;
    packed
        .map_err(|_| StoreError::Slow)?
        .map_err(|source| StoreError::Broken {
            key: key.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        ChunkStore::open(&url.parse().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn bad_urls_are_refused_with_words_and_without_their_secrets() {
        assert!(refusal("ftp://host/dir").contains("s3://, gs:// or az://"));
        assert!(refusal("file://host/dir").contains("no directory"));
        for secret in ["s3://key:hunter2@bucket", "gs://bucket?token=hunter2"] {
            let told = refusal(secret);
            assert!(
                told.contains("environment") && !told.contains("hunter2"),
                "{told}"
            );
        }
        assert!(refusal("s3:///path").contains("no bucket"));
    }

    #[tokio::test]
    async fn an_empty_directory_is_a_good_archive() {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(dir.path().join("new")).unwrap();
        ChunkStore::open(&url).unwrap().check().await.unwrap();
    }

    /// Two uploads of one run and a followed log beside them; one upload is removed.
    async fn only_one_upload_goes(store: ChunkStore) {
        let run: RunId = "01920000-0000-7000-8000-000000000001".parse().unwrap();
        let (gone, kept) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let chunk = || Chunk {
            bytes: "x\n".into(),
            lines: Vec::new(),
        };
        for start in [0, 2] {
            store.put_of_upload((run, gone), 0, start, chunk()).await.unwrap();
        }
        let (other, _) = store.put_of_upload((run, kept), 0, 0, chunk()).await.unwrap();
        let (followed, _) = store.put(run, 0, 0, chunk()).await.unwrap();
        for _ in 0..2 {
            store.remove_upload(run, gone).await.unwrap();
        }
        let mut left: Vec<String> = store
            .objects
            .list(None)
            .map_ok(|object| object.location.to_string())
            .try_collect()
            .await
            .unwrap();
        left.sort();
        assert_eq!(left, [followed, other]);
    }

    #[tokio::test]
    async fn the_objects_of_an_upload_are_removed_and_no_other() {
        only_one_upload_goes(ChunkStore::of(
            Arc::new(object_store::memory::InMemory::new()),
            None,
        ))
        .await;
        let dir = tempfile::tempdir().unwrap();
        only_one_upload_goes(ChunkStore::open(&Url::from_directory_path(dir.path()).unwrap()).unwrap()).await;
    }

    #[tokio::test]
    async fn nothing_is_left_of_the_last_upload_in_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let store = ChunkStore::open(&Url::from_directory_path(dir.path()).unwrap()).unwrap();
        let run: RunId = "01920000-0000-7000-8000-000000000001".parse().unwrap();
        let upload = Uuid::from_u128(1);
        let place = dir.path().join(place_of(run, upload)).join("0");
        std::fs::create_dir_all(&place).unwrap();
        // What a server that was killed in the middle of a write leaves.
        std::fs::write(place.join("00000000000000000000.qwl#1"), "half").unwrap();
        store.remove_upload(run, upload).await.unwrap();
        let left = std::fs::read_dir(dir.path().join("runs")).unwrap().count();
        assert_eq!(left, 0);
    }
}
