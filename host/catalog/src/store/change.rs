//! A change on its way into a log: made in the newest state that is known, and again in a newer one if another came first.

use tokio::time::sleep;

use super::error::StoreError;
use super::log::{ChangeError, Head, Log, Revision};
use super::records::{Author, Entry};
use super::state::{Refusal, State};

/// Who changes what, and who is told of states that are found on the way.
pub(super) struct Change<'a, S, P> {
    pub(super) log: Log<S>,
    pub(super) author: &'a Author,
    /// The revision that the change rests on, if it rests on one.
    pub(super) seen: Option<Revision>,
    pub(super) publish: P,
}

impl<S: State, P: Fn(&Head<S>) + Sync> Change<'_, S, P> {
    /// Begins with what is known; `change` may be asked more than once.
    pub(super) async fn make(
        &self,
        mut head: Head<S>,
        mut change: impl FnMut(&S) -> Result<S::Change, Refusal> + Send,
    ) -> Result<Revision, ChangeError> {
        let options = self.log.options();
        for retry in 0..=options.conflict_retries {
            if retry > 0 {
                sleep(options.backoff(retry)).await;
            }
            if self.is_other(&head) {
                head = self.newer(&head).await?;
            }
            if self.is_other(&head) {
                break;
            }
            let error = match self.make_in(&head, &mut change).await {
                Ok(revision) => return Ok(revision),
                Err(error) => error,
            };
            head = self.learn(head, error).await?;
        }
        Err(self.log.conflict(head.revision).into())
    }

    fn is_other(&self, head: &Head<S>) -> bool {
        self.seen.is_some_and(|seen| seen != head.revision)
    }

    async fn make_in(
        &self,
        head: &Head<S>,
        change: &mut (impl FnMut(&S) -> Result<S::Change, Refusal> + Send),
    ) -> Result<Revision, ChangeError> {
        let entry = Entry::new(self.author, change(&head.state)?);
        let made = self.log.append(head, &entry).await?;
        (self.publish)(&made);
        Ok(made.revision)
    }

    /// A newer state to try again in, if the error comes of an old one.
    async fn learn(&self, head: Head<S>, error: ChangeError) -> Result<Head<S>, ChangeError> {
        if !matches!(error, ChangeError::Refused(_) | ChangeError::Store(StoreError::Conflict { .. })) {
            return Err(error);
        }
        let newer = self.newer(&head).await?;
        let is_refusal = matches!(error, ChangeError::Refused(_));
        if is_refusal && newer.revision == head.revision { Err(error) } else { Ok(newer) }
    }

    async fn newer(&self, head: &Head<S>) -> Result<Head<S>, StoreError> {
        let head = self.log.catch_up(head).await?;
        (self.publish)(&head);
        Ok(head)
    }
}
