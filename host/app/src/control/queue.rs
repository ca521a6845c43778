//! Where deployments and uploads wait: so many at work and so many before them on this host, so many of one tenant, and of each tenant
//! one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandmill_domain::{Advice, Code, Fault, TenantId};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Of one tenant, at work and waiting: the rest is for others.
const TENANT_PLACES_MAX: usize = 4;

/// When whoever found no place may come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The host's.
pub(crate) struct Queue {
    at_work: Arc<Semaphore>,
    places: Arc<Semaphore>,
    lines: Mutex<HashMap<TenantId, Arc<Line>>>,
}

/// One tenant's part.
struct Line {
    places: Arc<Semaphore>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A place, from before the first byte on.
pub(crate) struct Waiting {
    line: Arc<Line>,
    _of_tenant: OwnedSemaphorePermit,
    _of_host: OwnedSemaphorePermit,
}

/// The right to be at work, until it is dropped.
pub(crate) struct Working {
    _turn: OwnedMutexGuard<()>,
    _at_work: OwnedSemaphorePermit,
    _waited: Waiting,
}

impl Queue {
    /// So many at work, and so many that wait.
    pub(crate) fn new(at_work_max: usize, waiting_max: usize) -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self { at_work: semaphore(at_work_max), places: semaphore(at_work_max + waiting_max), lines: Mutex::default() }
    }

    /// A place for one of this tenant's.
    ///
    /// # Errors
    /// `TooManyRequests` if the tenant has as many as it may, `Overloaded` if the host has.
    pub(crate) fn enter(&self, tenant: &TenantId) -> Result<Waiting, Fault> {
        let full = |code, message: &str| Fault::new(code, message).advising(Advice::RetryAfter(RETRY_AFTER));
        let line = self.line(tenant);
        let of_tenant = Arc::clone(&line.places).try_acquire_owned();
        let of_tenant =
            of_tenant.map_err(|_none| full(Code::TooManyRequests, "the tenant has as many deployments under way as it may"))?;
        let of_host = Arc::clone(&self.places).try_acquire_owned();
        let of_host = of_host.map_err(|_none| full(Code::Overloaded, "the host has as many deployments under way as it may"))?;
        Ok(Waiting { line, _of_tenant: of_tenant, _of_host: of_host })
    }

    /// Waits for it.
    pub(crate) async fn work(&self, waiting: Waiting) -> Working {
        // The tenant's own first: whoever waits for it keeps nobody else from work.
        let turn = Arc::clone(&waiting.line.turn).lock_owned().await;
        let at_work = Arc::clone(&self.at_work).acquire_owned().await;
        let at_work = at_work.expect("invariant: it is never closed");
        Working { _turn: turn, _at_work: at_work, _waited: waiting }
    }

    fn line(&self, tenant: &TenantId) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Those in which nobody is.
        lines.retain(|name, line| name == tenant || Arc::strong_count(line) > 1);
        let new = || Arc::new(Line { places: Arc::new(Semaphore::new(TENANT_PLACES_MAX)), turn: Arc::default() });
        Arc::clone(lines.entry(tenant.clone()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a name")
    }

    fn refused(place: Result<Waiting, Fault>) -> Code {
        let fault = place.err().expect("there is none");
        assert!(matches!(fault.advice, Some(Advice::RetryAfter(RETRY_AFTER))), "{fault:?}");
        fault.code
    }

    #[test]
    fn places_are_bounded_for_a_tenant_and_for_the_host() {
        let queue = Queue::new(2, 4);
        let (acme, other) = (tenant("acme"), tenant("other"));
        let mut places: Vec<_> = (0..TENANT_PLACES_MAX).map(|_| queue.enter(&acme).expect("a place")).collect();
        assert_eq!(refused(queue.enter(&acme)), Code::TooManyRequests);
        let others: Vec<_> = (0..2).map(|_| queue.enter(&other).expect("a place")).collect();
        assert_eq!(refused(queue.enter(&other)), Code::Overloaded);
        places.pop();
        let third = queue.enter(&other).expect("what one gives back another may have");
        assert_eq!(queue.lines.lock().expect("sound").len(), 2);
        drop((places, others, third));
        let _place = queue.enter(&tenant("third")).expect("a place");
        assert_eq!(queue.lines.lock().expect("sound").len(), 1, "nobody who is not there is remembered");
    }

    #[tokio::test]
    async fn of_a_tenant_one_is_at_work_and_of_the_host_so_many() {
        let queue = Queue::new(2, 16);
        let wait = |name: &'static str| {
            let place = queue.enter(&tenant(name)).expect("a place");
            Box::pin(queue.work(place))
        };
        let first = wait("a").await;
        let mut second = wait("a");
        assert!(futures_util::poll!(&mut second).is_pending(), "its own is at work");
        let other = wait("b").await;
        let mut third = wait("c");
        assert!(futures_util::poll!(&mut third).is_pending(), "two are at work");
        drop(first);
        // Whoever has waited longest for work is next; the tenant's second waits for it from now on.
        assert!(futures_util::poll!(&mut second).is_pending());
        let _third = third.await;
        drop(other);
        let _second = second.await;
    }
}
