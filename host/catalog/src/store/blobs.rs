//! A tenant's uploads: streamed in and out, in constant memory, and checked both ways. Equal bytes of two uploads lie in two places.

mod source;
mod target;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as Object;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use sandmill_domain::TenantId;

use self::source::Source;
use self::target::Target;
use super::access::{Store, within};
use super::codec::corrupt;
use super::error::StoreError;
use super::failure::Failure;
use super::ids::Place;
use super::layout;
use super::records::BlobRef;
use crate::Digest;

/// The uploads of one tenant.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Store,
    tenant: TenantId,
}

/// Why one try failed: the next one may not.
enum Ended {
    Failed(Failure),
    For(StoreError),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::For(error)
    }
}

impl Store {
    /// A tenant's uploads.
    pub fn blobs(&self, tenant: &TenantId) -> Blobs {
        Blobs { store: self.clone(), tenant: tenant.clone() }
    }
}

impl Blobs {
    /// Uploads a file, which must be as long as `len` and have this digest; each time to a place of its own. It is in the store for
    /// certain when this succeeds, and stays for as long as a record names it; until then the collector's grace holds. What is left
    /// of an upload that was cancelled, the collector removes.
    ///
    /// # Errors
    /// [`StoreError::File`] if the file is not as it should be; otherwise the store's.
    pub async fn put(&self, path: &Path, sha256: Digest, len: u64) -> Result<BlobRef, StoreError> {
        let max = self.store.options().blob_bytes_max;
        if len > max {
            return Err(StoreError::TooLarge { object: path.display().to_string(), len, max });
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let mut retry = 0;
        loop {
            let place = Place::new(u64::try_from(now_ms).unwrap_or(u64::MAX));
            let blob = BlobRef { sha256, len, place };
            let failure = match self.put_once(path, &blob).await {
                Ok(()) => return Ok(blob),
                Err(Ended::For(error)) => return Err(error),
                Err(Ended::Failed(failure)) => failure,
            };
            retry = self.again(retry, &blob, failure).await?;
        }
    }

    /// Deletes what was just put and is not named, as well as it can: the collector finds the rest.
    pub async fn discard(&self, blobs: &[BlobRef]) {
        let paths = blobs.iter().map(|blob| self.object(blob)).collect();
        let _left = self.store.delete_all(paths).await;
    }

    /// Waits for the next try, if there is one.
    async fn again(&self, retry: u32, blob: &BlobRef, failure: Failure) -> Result<u32, StoreError> {
        if !failure.is_passing() || retry == self.store.options().retries {
            return Err(self.store.fail(&self.object(blob))(failure));
        }
        self.store.wait_before(retry + 1).await;
        Ok(retry + 1)
    }

    fn object(&self, blob: &BlobRef) -> Object {
        layout::blob(&self.tenant, blob)
    }

    async fn put_once(&self, path: &Path, blob: &BlobRef) -> Result<(), Ended> {
        let mut source = Source::open(path, blob).await?;
        let object = self.object(blob);
        if blob.len <= self.store.options().part_bytes as u64 {
            let bytes = source.next(self.store.options().part_bytes).await?;
            source.check().await?;
            let limit = self.store.options().transfer_timeout;
            self.store.check_place(&object).await?;
            within(limit, async { Ok(self.store.0.client.put(&object, PutPayload::from_bytes(bytes)).await?) }).await?;
        } else {
            self.put_parts(&object, source).await?;
        }
        self.store.sync_folders(&object).await.map_err(Failure::from)?;
        Ok(self.verify(&object, blob.len).await?)
    }

    /// The bytes were checked while they were read; what the store took of them is counted.
    async fn verify(&self, object: &Object, len: u64) -> Result<(), StoreError> {
        let what = match self.store.size(object).await? {
            Some(size) if size == len => return Ok(()),
            Some(size) => format!("it said that it had taken {len} bytes, and has {size}"),
            None => "it said that it had taken an upload which is not there".into(),
        };
        Err(StoreError::Unfaithful { object: self.store.name(object), what })
    }

    async fn put_parts(&self, object: &Object, source: Source) -> Result<(), Ended> {
        self.store.check_place(object).await?;
        let mut upload = self.store.limited(async { Ok(self.store.0.client.put_multipart(object).await?) }).await?;
        let sent = self.send_parts(upload.as_mut(), source).await;
        if sent.is_err() {
            // So that its parts cost nothing; a store that does not hear this has a rule for what is left over.
            let _ = self.store.limited(async { Ok(upload.abort().await?) }).await;
        }
        sent?;
        match within(self.store.options().transfer_timeout, async { Ok(upload.complete().await?) }).await {
            Ok(_) => Ok(()),
            // It appears as a whole or not at all.
            Err(Failure::Doubtful(_)) if self.store.size(object).await?.is_some() => {
                Ok(self.store.sync_object(object).await.map_err(Failure::from)?)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn send_parts(&self, upload: &mut dyn MultipartUpload, mut source: Source) -> Result<(), Ended> {
        let options = self.store.options();
        let mut flying = FuturesUnordered::new();
        loop {
            let bytes = source.next(options.part_bytes).await?;
            if bytes.is_empty() {
                break;
            }
            let part = upload.put_part(PutPayload::from_bytes(bytes));
            flying.push(within(options.transfer_timeout, async { Ok(part.await?) }));
            if flying.len() >= options.parts_in_flight.max(1) {
                flying.next().await.transpose()?;
            }
        }
        flying.try_collect::<()>().await?;
        Ok(source.check().await?)
    }

    /// Downloads an upload into a file, for this user alone. The file is there when this succeeds, whole and safe from a loss of
    /// power; it is never there by halves. Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or [`StoreError::Corrupt`] if the bytes are not those that were uploaded; otherwise the store's, or
    /// [`StoreError::File`].
    pub async fn fetch(&self, blob: &BlobRef, into: &Path) -> Result<(), StoreError> {
        self.read(blob, Some(into)).await
    }

    /// Reads an upload to see whether it is whole. Safe to cancel.
    ///
    /// # Errors
    /// As [`Blobs::fetch`].
    pub async fn check(&self, blob: &BlobRef) -> Result<(), StoreError> {
        self.read(blob, None).await
    }

    async fn read(&self, blob: &BlobRef, into: Option<&Path>) -> Result<(), StoreError> {
        let mut retry = 0;
        loop {
            let failure = match self.read_once(blob, into).await {
                Ok(()) => return Ok(()),
                Err(Ended::For(error)) => return Err(error),
                Err(Ended::Failed(failure)) => failure,
            };
            retry = self.again(retry, blob, failure).await?;
        }
    }

    async fn read_once(&self, blob: &BlobRef, into: Option<&Path>) -> Result<(), Ended> {
        let object = self.object(blob);
        let damaged = |what: String| Ended::For(corrupt(self.store.name(&object), what));
        let found = self.store.limited(async { Ok(self.store.0.client.get(&object).await?) }).await?;
        if found.meta.size != blob.len {
            return Err(damaged(format!("it has {} bytes, not {}", found.meta.size, blob.len)));
        }
        let mut target = Target::open(into).await?;
        let mut pieces = found.into_stream();
        let limit = self.store.options().transfer_timeout;
        while let Some(piece) = within(limit, async { Ok(pieces.try_next().await?) }).await? {
            target.push(piece).await?;
        }
        let (digest, len) = target.digest().await?;
        if (digest, len) != (blob.sha256, blob.len) {
            return Err(damaged(format!("it has {len} bytes with the SHA-256 {digest}, not {} with {}", blob.len, blob.sha256)));
        }
        Ok(target.keep().await?)
    }
}
