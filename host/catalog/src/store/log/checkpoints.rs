//! States that were written down, so that a start need not read all records. Never needed: the records say the same.

use std::sync::Arc;

use super::{Head, Log, Revision};
use crate::store::StoreError;
use crate::store::codec::{corrupt, decode_checkpoint, encode_checkpoint};
use crate::store::layout::number;
use crate::store::state::State;

/// Checkpoints that are kept: the one before the newest, for readers that have just found it.
const CHECKPOINTS_KEPT: usize = 2;

impl<S: State> Log<S> {
    /// One that is damaged is passed over, for the records say the same; that it is, the doctor tells.
    pub(super) async fn newest_checkpoint(&self) -> Result<Head<S>, StoreError> {
        for number in self.checkpoints().await? {
            match self.checkpoint(number).await {
                Ok(Some(head)) => return Ok(head),
                Ok(None) | Err(StoreError::Corrupt { .. } | StoreError::TooLarge { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Head::default())
    }

    /// The numbers of all checkpoints that are listed, from the newest on.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<u64>, StoreError> {
        let listed = self.store.list(&self.owner.checkpoints(), None).await?;
        let mut numbers: Vec<_> = listed.iter().filter_map(|object| number(&object.location)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// A checkpoint, checked.
    pub(crate) async fn checkpoint(&self, number: u64) -> Result<Option<Head<S>>, StoreError> {
        let path = self.owner.checkpoint(number);
        let Some(bytes) = self.store.read(&path, self.options().checkpoint_bytes_max).await? else { return Ok(None) };
        let found = decode_checkpoint::<S>(|| self.store.name(&path), &bytes)?;
        if found.revision != number {
            return Err(corrupt(self.store.name(&path), format!("it is of revision {}", found.revision)));
        }
        Ok(Some(Head { revision: Revision(number), state: Arc::new(found.state) }))
    }

    /// As well as it can.
    pub(super) async fn write_checkpoint(&self, head: &Head<S>) {
        let bytes = encode_checkpoint(head.revision.0, &*head.state);
        let (path, max) = (self.owner.checkpoint(head.revision.0), self.options().checkpoint_bytes_max);
        if bytes.len() as u64 > max {
            tracing::warn!(
                checkpoint = self.store.name(&path),
                bytes = bytes.len(),
                max,
                "a state is too large for a checkpoint: starts read more records"
            );
            return;
        }
        if let Err(error) = self.store.create_once(&path, &bytes).await {
            tracing::warn!(
                checkpoint = self.store.name(&path),
                ?error,
                "no checkpoint could be written: starts read more records"
            );
            return;
        }
        let old = self.checkpoints().await.unwrap_or_default().into_iter().skip(CHECKPOINTS_KEPT);
        let _ = self.store.delete_all(old.map(|number| self.owner.checkpoint(number)).collect()).await;
    }
}
