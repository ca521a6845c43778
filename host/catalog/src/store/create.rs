//! Creating an object only if it is absent, and knowing whether one has: by this a number of a log is taken by exactly one record,
//! and whoever took it knows.
//!
//! A store may do a thing and not say so, or say so and not do it. So what is there is looked at after every try.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{PutMode, PutPayload};

use super::access::Store;
use super::error::StoreError;
use super::failure::Failure;

/// Whose object it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// Ours, as it was read back.
    Ours,
    /// Another's, who came first.
    Others,
}

impl Store {
    /// Creates an object whose bytes are like no other's, and reads it back. A try whose end is not known is told apart from
    /// another writer's by what lies there.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if it cannot be told whether it is there, or will be; otherwise it is not.
    pub(crate) async fn create(&self, path: &Path, bytes: &Bytes) -> Result<Created, StoreError> {
        // Why an earlier try may still have an effect.
        let mut doubt = None;
        let mut unsent = String::new();
        for retry in 0..=self.options().retries {
            self.wait_before(retry).await;
            let Err(failure) = self.create_once(path, bytes).await else { return self.confirm(path, bytes).await };
            let seen = self.look(path, bytes).await;
            match (failure, seen) {
                // What is seen on a medium that fails may not be there after the next start.
                (Failure::Broken(cause), _) => return Err(self.unknown(path, cause)),
                (_, Some(Created::Others)) => return Ok(Created::Others),
                // Whoever refuses, or has no space, cannot have written it: nobody knows what happened.
                (failure, Some(Created::Ours)) if failure.is_final() && doubt.is_none() => {
                    return Err(self.unknown(path, format!("it is there in spite of {failure:?}")));
                }
                (_, Some(Created::Ours)) => return self.settle(path).await,
                (Failure::Unsent(cause), None) => unsent = cause,
                (Failure::Doubtful(cause), None) => doubt = Some(cause),
                (Failure::Exists, None) => doubt = Some("it was said to be there, and cannot be read".into()),
                (failure, None) => return Err(self.end(path, doubt, failure)),
            }
        }
        Err(self.end(path, doubt, Failure::Unsent(unsent)))
    }

    fn end(&self, path: &Path, doubt: Option<String>, failure: Failure) -> StoreError {
        match doubt {
            Some(cause) => self.unknown(path, cause),
            None => self.fail(path)(failure),
        }
    }

    fn unknown(&self, path: &Path, cause: String) -> StoreError {
        StoreError::Unknown { object: self.name(path), cause }
    }

    /// One try, without a look at what came of it.
    pub(super) async fn create_once(&self, path: &Path, bytes: &Bytes) -> Result<(), Failure> {
        self.check_place(path).await?;
        let payload = PutPayload::from_bytes(bytes.clone());
        self.limited(async { Ok(self.0.client.put_opts(path, payload, PutMode::Create.into()).await?) }).await?;
        // The object is there by now: what fails here leaves it in doubt.
        self.sync_folders(path).await.map_err(|error| Failure::Broken(error.to_string()))
    }

    /// Whose object lies there, if that can be told.
    async fn look(&self, path: &Path, bytes: &Bytes) -> Option<Created> {
        match self.get(path, bytes.len() as u64).await {
            Ok(found) if found == *bytes => Some(Created::Ours),
            Ok(_) | Err(Failure::TooLarge(..)) => Some(Created::Others),
            Err(_) => None,
        }
    }

    /// A store that said it had written is taken at its word only once.
    async fn confirm(&self, path: &Path, bytes: &Bytes) -> Result<Created, StoreError> {
        let what = match self.retry(|| self.get(path, bytes.len() as u64)).await {
            Ok(found) if found == *bytes => return Ok(Created::Ours),
            Ok(_) | Err(Failure::TooLarge(..)) => "it said that it had written a new object, and holds another in its place",
            Err(Failure::Missing) => "it said that it had written an object which is not there",
            Err(failure) => return Err(self.unknown(path, format!("it cannot be read back: {failure:?}"))),
        };
        Err(StoreError::Unfaithful { object: self.name(path), what: what.into() })
    }

    /// On a disk an object may be seen before it is safe.
    async fn settle(&self, path: &Path) -> Result<Created, StoreError> {
        self.sync_object(path).await.map_err(|error| self.unknown(path, error.to_string()))?;
        Ok(Created::Ours)
    }
}
