//! Single objects, read, listed and deleted under time limits with bounded repetition. Knows nothing of what they hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::time::{sleep, timeout};

use super::error::StoreError;
use super::failure::Failure;
use super::local::Local;
use super::options::StoreOptions;

/// A store that passed its probe. Cheap to copy.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) client: Arc<dyn ObjectStore>,
    pub(super) local: Option<Local>,
    pub(super) location: String,
    pub(super) options: StoreOptions,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.location).finish()
    }
}

impl Store {
    /// As it was given.
    pub fn location(&self) -> &str {
        &self.0.location
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.0.options
    }

    pub(super) fn client(&self) -> &dyn ObjectStore {
        &*self.0.client
    }

    /// An object's name for messages.
    pub(crate) fn name(&self, path: &Path) -> String {
        match &self.0.local {
            Some(local) => format!("{}/{path}", local.root().display()),
            None => format!("{path} in {}", self.0.location),
        }
    }

    pub(crate) fn fail(&self, path: &Path) -> impl FnOnce(Failure) -> StoreError + use<> {
        let name = self.name(path);
        |failure| failure.into_error(name)
    }

    /// A whole object; nothing if it is not there.
    pub(crate) async fn read(&self, path: &Path, bytes_max: u64) -> Result<Option<Bytes>, StoreError> {
        match self.retry(|| self.get(path, bytes_max)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Failure::Missing) => Ok(None),
            Err(failure) => Err(self.fail(path)(failure)),
        }
    }

    pub(super) async fn get(&self, path: &Path, bytes_max: u64) -> Result<Bytes, Failure> {
        self.limited(async {
            let found = self.0.client.get(path).await?;
            match found.meta.size {
                len if len > bytes_max => Err(Failure::TooLarge(len, bytes_max)),
                _ => Ok(found.bytes().await?),
            }
        })
        .await
    }

    /// Its size; nothing if it is not there.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, StoreError> {
        match self.retry(|| self.limited(async { Ok(self.0.client.head(path).await?.size) })).await {
            Ok(size) => Ok(Some(size)),
            Err(Failure::Missing) => Ok(None),
            Err(failure) => Err(self.fail(path)(failure)),
        }
    }

    /// All objects below a prefix whose names come after another's. The list may lag behind.
    pub(crate) async fn list(&self, prefix: &Path, after: Option<&Path>) -> Result<Vec<ObjectMeta>, StoreError> {
        let attempt = || async {
            let mut found = match after {
                Some(after) => self.0.client.list_with_offset(Some(prefix), after),
                None => self.0.client.list(Some(prefix)),
            };
            let mut all = Vec::new();
            while let Some(object) = self.limited(async { Ok(found.try_next().await?) }).await? {
                all.push(object);
            }
            Ok(all)
        };
        match self.retry(attempt).await {
            Err(Failure::Missing) => Ok(Vec::new()),
            found => found.map_err(self.fail(prefix)),
        }
    }

    /// Deletes an object; one that is not there is deleted.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), StoreError> {
        match self.retry(|| self.limited(async { Ok(self.0.client.delete(path).await?) })).await {
            Ok(()) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(self.fail(path)(failure)),
        }
    }

    /// A try under the time limit. Its end is not known if it takes longer.
    pub(super) async fn limited<T>(&self, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        within(self.options().timeout, attempt).await
    }

    /// Repeats what may be repeated at will.
    pub(super) async fn retry<T, F: Future<Output = Result<T, Failure>>>(&self, attempt: impl Fn() -> F) -> Result<T, Failure> {
        for retry in 0..self.options().retries {
            self.wait_before(retry).await;
            match attempt().await {
                Err(failure) if failure.is_passing() => {}
                ended => return ended,
            }
        }
        self.wait_before(self.options().retries).await;
        attempt().await
    }

    pub(super) async fn wait_before(&self, retry: u32) {
        if retry > 0 {
            sleep(self.options().backoff(retry)).await;
        }
    }

    /// Nothing is written into a folder that has taken the place of the store's.
    pub(super) async fn check_place(&self, path: &Path) -> Result<(), Failure> {
        self.on_disk(path, |local, _object| local.check()).await.map_err(|error| Failure::Unsent(error.to_string()))
    }

    pub(super) async fn sync_folders(&self, path: &Path) -> std::io::Result<()> {
        self.on_disk(path, Local::sync_folders).await
    }

    pub(super) async fn sync_object(&self, path: &Path) -> std::io::Result<()> {
        self.on_disk(path, Local::sync_object).await
    }

    async fn on_disk(&self, path: &Path, sync: fn(&Local, &Path) -> std::io::Result<()>) -> std::io::Result<()> {
        let Some(local) = self.0.local.clone() else { return Ok(()) };
        let path = path.clone();
        // A disk that hangs leaves its thread behind, and what was to be synced in doubt.
        let synced = timeout(self.options().timeout, tokio::task::spawn_blocking(move || sync(&local, &path)));
        synced.await.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?
    }

    /// Deletes many objects, some at once.
    pub(crate) async fn delete_all(&self, paths: Vec<Path>) -> Result<(), StoreError> {
        let deletions = paths.into_iter().map(|path| async move { self.delete(&path).await });
        futures_util::stream::iter(deletions).buffer_unordered(self.options().reads()).try_collect().await
    }
}

pub(super) async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(Failure::Doubtful(format!("no answer within {limit:?}"))))
}
