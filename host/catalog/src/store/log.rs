//! One log of numbered records, each created only if it is absent: whoever creates the next number has changed the state, and
//! nobody else has. Knows nothing of what changes mean.

mod checkpoints;

use std::fmt;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use sandmill_domain::TenantId;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;

use super::access::Store;
use super::codec::{corrupt, decode, encode};
use super::create::Created;
use super::error::StoreError;
use super::layout::{Owner, number};
use super::options::StoreOptions;
use super::records::Entry;
use super::state::{RECORD_BYTES_MAX, Refusal, State, SystemState, TenantState};

/// How many records a log has; 0 for an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A state, and the record that led to it. Cheap to copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head<S> {
    /// Of the last record in it.
    pub revision: Revision,
    /// What the log adds up to.
    pub state: Arc<S>,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// It does not follow from the state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not get into the log, or nobody knows.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A log, read and written.
#[derive(Clone, Debug)]
pub struct Log<S> {
    store: Store,
    owner: Owner,
    state: PhantomData<fn() -> S>,
}

impl Store {
    /// The host's own log.
    pub fn system_log(&self) -> Log<SystemState> {
        Log::new(self.clone(), Owner::System)
    }

    /// A tenant's log.
    pub fn tenant_log(&self, tenant: &TenantId) -> Log<TenantState> {
        Log::new(self.clone(), Owner::Tenant(tenant.clone()))
    }
}

impl<S: State> Log<S> {
    /// One of a store's logs; `S` must be the state of what its owner's log holds.
    pub(crate) fn new(store: Store, owner: Owner) -> Self {
        Self { store, owner, state: PhantomData }
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        self.store.options()
    }

    fn name_of(&self, number: u64) -> String {
        self.store.name(&self.owner.record(number))
    }

    /// The present state: the newest checkpoint that is whole, then all records after it. Safe to cancel.
    ///
    /// # Errors
    /// If the store cannot be read, or a record is missing, damaged, or does not follow from those before it.
    pub async fn load(&self) -> Result<Head<S>, StoreError> {
        let head = self.newest_checkpoint().await?;
        if head.revision > Revision::default() && self.record(head.revision.0).await?.is_none() {
            return Err(self.gap(head.revision.0));
        }
        let head = self.catch_up(&head).await?;
        self.check_end(&head).await?;
        Ok(head)
    }

    /// The present state, by all records from the first one on.
    ///
    /// # Errors
    /// As [`Log::load`].
    pub async fn replay(&self) -> Result<Head<S>, StoreError> {
        let head = self.catch_up(&Head::default()).await?;
        self.check_end(&head).await?;
        Ok(head)
    }

    /// The state with all records that came since. Safe to cancel.
    ///
    /// # Errors
    /// As [`Log::load`]; that a record is missing whose successors are there is not noticed.
    pub async fn catch_up(&self, head: &Head<S>) -> Result<Head<S>, StoreError> {
        let mut head = head.clone();
        self.advance(&mut head, None).await?;
        Ok(head)
    }

    /// Applies the records after a state, up to a revision or to the end. If this fails, those before the trouble are applied.
    pub(crate) async fn advance(&self, head: &mut Head<S>, until: Option<Revision>) -> Result<(), StoreError> {
        let last = until.map_or(u64::MAX, |revision| revision.0);
        if head.revision.0 >= last {
            return Ok(());
        }
        // Mostly there is nothing new: one question suffices.
        let Some(first) = self.record(head.revision.0 + 1).await? else { return Ok(()) };
        self.apply(head, &first)?;
        let reads = futures_util::stream::iter(head.revision.0 + 1..=last).map(|number| self.record(number));
        let mut reads = pin!(reads.buffered(self.store.options().reads()));
        while let Some(Some(entry)) = reads.try_next().await? {
            self.apply(head, &entry)?;
        }
        Ok(())
    }

    /// At most `max` records after a revision, in order, each with its own.
    ///
    /// # Errors
    /// If one cannot be read, or is damaged.
    pub async fn entries(&self, after: Revision, max: usize) -> Result<Vec<(Revision, Entry<S::Change>)>, StoreError> {
        let numbers = (after.0..).skip(1).take(max);
        let reads = futures_util::stream::iter(numbers).map(|number| async move { Ok((number, self.record(number).await?)) });
        let mut reads = pin!(reads.buffered(self.store.options().reads_in_flight.max(1)));
        let mut entries = Vec::new();
        while let Some((number, Some(entry))) = reads.try_next().await? {
            entries.push((Revision(number), entry));
        }
        Ok(entries)
    }

    async fn record(&self, number: u64) -> Result<Option<Entry<S::Change>>, StoreError> {
        let path = self.owner.record(number);
        let Some(bytes) = self.store.read(&path, RECORD_BYTES_MAX as u64).await? else { return Ok(None) };
        decode(|| self.store.name(&path), &bytes).map(Some)
    }

    fn apply(&self, head: &mut Head<S>, entry: &Entry<S::Change>) -> Result<(), StoreError> {
        let number = head.revision.0 + 1;
        let applied = Arc::make_mut(&mut head.state).apply(entry);
        applied.map_err(|refusal| corrupt(self.name_of(number), format!("it does not follow: {refusal}")))?;
        head.revision = Revision(number);
        Ok(())
    }

    /// A log ends where its next number is absent, unless there are later ones: then that one was lost.
    pub(crate) async fn check_end(&self, head: &Head<S>) -> Result<(), StoreError> {
        let next = head.revision.0 + 1;
        let later = self.store.list(&self.owner.log(), Some(&self.owner.record(next))).await?;
        let is_later = later.iter().filter_map(|object| number(&object.location)).any(|number| number > next);
        // It may have been written since: then it is there, whatever comes after it.
        if is_later && self.record(next).await?.is_none() { Err(self.gap(next)) } else { Ok(()) }
    }

    fn gap(&self, number: u64) -> StoreError {
        corrupt(self.name_of(number), "it is missing, and there are records after it")
    }

    /// Makes a change, if nobody has made another since `head`. The record is in the store for certain when this succeeds.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] if it does not follow; [`StoreError::Conflict`] if another came first; [`StoreError::Unknown`] if it
    /// cannot be told whether it was made, as when this is cancelled.
    pub async fn append(&self, head: &Head<S>, entry: &Entry<S::Change>) -> Result<Head<S>, ChangeError> {
        let mut state = S::clone(&head.state);
        state.apply(entry)?;
        let number = head.revision.0 + 1;
        let bytes = self.encode(number, entry)?;
        if self.store.create(&self.owner.record(number), &bytes).await? == Created::Others {
            return Err(self.conflict(Revision(number)).into());
        }
        let head = Head { revision: Revision(number), state: Arc::new(state) };
        if number.is_multiple_of(self.options().checkpoint_every.max(1)) {
            // Nothing but the time of a start depends on it.
            if timeout(self.options().timeout, self.write_checkpoint(&head)).await.is_err() {
                tracing::warn!(
                    log = self.store.name(&self.owner.log()),
                    number,
                    "a checkpoint took too long: starts read more records"
                );
            }
        }
        Ok(head)
    }

    pub(crate) fn conflict(&self, present: Revision) -> StoreError {
        StoreError::Conflict { log: self.store.name(&self.owner.log()), present }
    }

    fn encode(&self, number: u64, entry: &Entry<S::Change>) -> Result<Bytes, StoreError> {
        let bytes = encode(entry);
        if bytes.len() <= RECORD_BYTES_MAX {
            return Ok(bytes);
        }
        Err(StoreError::TooLarge { object: self.name_of(number), len: bytes.len() as u64, max: RECORD_BYTES_MAX as u64 })
    }
}
