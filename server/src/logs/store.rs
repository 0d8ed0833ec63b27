//! The archive itself: chunks as objects, in a directory or a bucket.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use qwex_core::RunId;
use sha2::{Digest, Sha256};
use url::Url;

use super::chunk::{Chunk, ChunkError};

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
    #[error("the chunk {key} is broken")]
    Broken {
        key: String,
        #[source]
        source: ChunkError,
    },
}

const DEADLINE: Duration = Duration::from_secs(60);
const CHECK_DEADLINE: Duration = Duration::from_secs(15);

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
}

impl ChunkStore {
    /// Opens the archive at a URL; a directory is made if it is not there. Credentials for a bucket are those of the
    /// service's own environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`, or the identity of the machine).
    ///
    /// # Errors
    /// The kind of URL is not known, the directory cannot be made, or the environment of the bucket is not whole.
    pub fn open(url: &Url) -> Result<Self, StoreError> {
        let objects: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => {
                let malformed = |()| StoreError::Malformed("names no directory of this machine");
                let dir = url.to_file_path().map_err(malformed)?;
                std::fs::create_dir_all(&dir).map_err(StoreError::Directory)?;
                Arc::new(LocalFileSystem::new_with_prefix(dir)?.with_fsync(true))
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
        Ok(Self { objects })
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

    /// Stores a chunk that came from outside, under a key that its bytes make: whoever else brings something under the
    /// same run and place cannot overwrite it, and the same once more is the same object.
    pub(super) async fn put_by_content(
        &self,
        run: RunId,
        ordinal: i32,
        start: u64,
        chunk: Chunk,
    ) -> Result<(String, u64), StoreError> {
        let place = format!("runs/{run}/imported/{ordinal}/{start:020}");
        let packed = pack(chunk, &place).await?;
        let hash = hex::encode(Sha256::digest(&packed));
        self.put_packed(format!("{place}-{hash}.qwl"), packed).await
    }

    async fn put_packed(&self, key: String, packed: Vec<u8>) -> Result<(String, u64), StoreError> {
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
}
