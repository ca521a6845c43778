//! Opening a store: its name, its schema, and a probe of what Sandmill rests on, so that a store that lacks it is refused at start
//! rather than found out by a loss.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::access::{Inner, Store};
use super::codec::{decode, encode};
use super::create::Created;
use super::error::StoreError;
use super::failure::Failure;
use super::ids::Id;
use super::layout::{FORMAT, PROBES};
use super::location::{Found, find};
use super::options::StoreOptions;
use super::records::SCHEMA;

/// Hosts that try to create the same object at once in a probe.
const RIVALS: u128 = 4;

/// The bytes of `format.json`, and of a probe.
const SMALL_BYTES_MAX: u64 = 4096;

/// What a store says of itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    v: u32,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "sandmill catalog")]
    Catalog,
}

impl Store {
    /// Opens a store: a folder by its path or `file://`, made if it is not there; `s3://`, `gs://` or `az://`, with credentials from
    /// the environment variables that their own tools use; or `memory:`, which ends with the process.
    ///
    /// # Errors
    /// If the store cannot be used, was written by a newer Sandmill, or does not do what it must: create objects only if they are
    /// absent, and show at once what was written. Safe to cancel.
    pub async fn open(location: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let Found { client, local } = find(location, &options)?;
        let store = Self(Arc::new(Inner { client, local, location: location.to_owned(), options }));
        store.check().await?;
        Ok(store)
    }

    /// Opens a store by a client that is made already; `location` is its name for messages.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn over(client: Arc<dyn ObjectStore>, location: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let store = Self(Arc::new(Inner { client, local: None, location: location.to_owned(), options }));
        store.check().await?;
        Ok(store)
    }

    async fn check(&self) -> Result<(), StoreError> {
        let format = Path::from(FORMAT);
        // A newer store is not even probed.
        let known = self.check_format(&format).await?;
        self.probe().await?;
        if !known {
            let bytes = encode(&Format { v: SCHEMA, kind: Kind::Catalog });
            // Another host may have made it since; two that know the same schema write the same.
            if self.create(&format, &bytes).await? == Created::Others {
                self.check_format(&format).await?;
            }
        }
        Ok(())
    }

    /// Whether it is there still: an empty folder where a volume was, or a bucket that was made anew, has nothing new to tell either.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if it is not; otherwise the store's.
    pub(super) async fn is_there(&self) -> Result<(), StoreError> {
        let format = Path::from(FORMAT);
        match self.check_format(&format).await? {
            true => Ok(()),
            false => Err(StoreError::Missing { object: self.name(&format) }),
        }
    }

    async fn check_format(&self, format: &Path) -> Result<bool, StoreError> {
        let Some(bytes) = self.read(format, SMALL_BYTES_MAX).await? else { return Ok(false) };
        decode::<Format>(|| self.name(format), &bytes).map(|_| true)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let path = Path::from(format!("{PROBES}/{}.json", Id::random()));
        let probed = self.probe_at(&path).await;
        // A probe that was refused says more than what its removal would.
        let removed = self.delete(&path).await;
        probed.and(removed)
    }

    async fn probe_at(&self, path: &Path) -> Result<(), StoreError> {
        let rivals: Vec<_> = (1..=RIVALS).map(|number| encode(&Id::of(number))).collect();
        let ended = join_all(rivals.iter().map(|bytes| self.create_once(path, bytes))).await;
        let winners: Vec<_> = (0..rivals.len()).filter(|at| ended[*at].is_ok()).collect();
        if winners.len() > 1 {
            return Err(
                self.not_conditional(format!("{} of {RIVALS} writers were told that they had created the same", winners.len()))
            );
        }
        // What is sure to have failed tells more than what follows from it.
        if let (None, Some(failure)) = (winners.first(), ended.into_iter().filter_map(Result::err).find(Failure::is_final)) {
            return Err(self.refusal(path, failure));
        }
        let Some(found) = self.read(path, SMALL_BYTES_MAX).await? else { return self.probe_alone(path).await };
        if winners.first().is_some_and(|winner| rivals[*winner] != found) {
            return Err(self.not_conditional("it holds the bytes of a writer who was told that another was first".into()));
        }
        self.probe_again(path, &found).await
    }

    /// None of the rivals got through, or the one who did was lied to.
    async fn probe_alone(&self, path: &Path) -> Result<(), StoreError> {
        let bytes = encode(&Id::random());
        self.create(path, &bytes).await?;
        self.probe_again(path, &bytes).await
    }

    /// What is there is not replaced, and is listed.
    async fn probe_again(&self, path: &Path, found: &Bytes) -> Result<(), StoreError> {
        let other = encode(&Id::random());
        let again = self.retry(|| self.create_once(path, &other)).await;
        let present = self.read(path, SMALL_BYTES_MAX).await?;
        if again.is_ok() || present.as_ref() == Some(&other) {
            return Err(self.not_conditional("it replaced an object that was there".into()));
        }
        if let Err(failure) = again
            && failure != Failure::Exists
        {
            return Err(self.fail(path)(failure));
        }
        if present.as_ref() != Some(found) {
            return Err(self.unfaithful(path, "what was written cannot be read back"));
        }
        let listed = self.list(&Path::from(PROBES), None).await?;
        if listed.iter().any(|object| object.location == *path && object.size == found.len() as u64) {
            Ok(())
        } else {
            Err(self.unfaithful(path, "what was written is not listed, or with another size"))
        }
    }

    fn refusal(&self, path: &Path, failure: Failure) -> StoreError {
        match failure {
            // Objects are missing when they are read; when they are written, what should hold them is.
            Failure::Missing => {
                StoreError::Location { location: self.location().to_owned(), why: "there is no such bucket or container".into() }
            }
            failure => self.fail(path)(failure),
        }
    }

    fn not_conditional(&self, what: String) -> StoreError {
        StoreError::NotConditional { store: self.location().to_owned(), what }
    }

    fn unfaithful(&self, path: &Path, what: &str) -> StoreError {
        StoreError::Unfaithful { object: self.name(path), what: what.into() }
    }
}
