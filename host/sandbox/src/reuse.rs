//! Instances that serve more than one request: how long each may, and where they wait. Knows nothing of what an instance is.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandmill_domain::InstanceBudget;

/// What is left of one instance's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wear {
    requests_left: usize,
    expires: Instant,
}

impl Wear {
    /// A budget that begins now, both of its bounds cut by a share of the jitter: 0 for none of it, 255 for almost all.
    pub(crate) fn new(budget: &InstanceBudget, now: Instant, share: u8) -> Self {
        let percent = budget.jitter_percent.min(100);
        let cut = |whole: u128| whole - whole * percent as u128 * u128::from(share) / (100 * 256);
        let requests = usize::try_from(cut(budget.requests_max as u128)).unwrap_or(usize::MAX);
        let age = Duration::from_nanos(u64::try_from(cut(budget.age_max.as_nanos())).unwrap_or(u64::MAX));
        let expires = now.checked_add(age).unwrap_or(now + Duration::from_secs(3600));
        Self { requests_left: requests.max(1), expires }
    }

    /// A request was served.
    pub(crate) fn count(&mut self) {
        self.requests_left = self.requests_left.saturating_sub(1);
    }

    /// Whether it serves no further request.
    pub(crate) fn is_spent(&self, now: Instant) -> bool {
        self.requests_left == 0 || now >= self.expires
    }
}

/// A share of the jitter at random.
pub(crate) fn random_share() -> u8 {
    RandomState::new().hash_one(0_u8).to_le_bytes()[0]
}

/// Instances of one plugin that wait for a request; the last one in is the first one out.
pub(crate) struct Idle<T> {
    waiting: Mutex<Vec<(Wear, T)>>,
    /// How many more may wait on the whole host.
    places: Arc<AtomicUsize>,
}

impl<T> Idle<T> {
    pub(crate) fn new(places: Arc<AtomicUsize>) -> Self {
        Self { waiting: Mutex::default(), places }
    }

    /// One that may serve another request. Those whose time is over are dropped by the way.
    pub(crate) fn take(&self, now: Instant) -> Option<(Wear, T)> {
        let mut spent = Vec::new();
        let taken = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            spent.extend(waiting.extract_if(.., |(wear, _)| wear.is_spent(now)));
            waiting.pop()
        };
        self.places.fetch_add(spent.len() + usize::from(taken.is_some()), Ordering::Relaxed);
        taken
    }

    /// Keeps one for a further request, or drops it if its budget is used up or there is no place.
    pub(crate) fn keep(&self, wear: Wear, instance: T, now: Instant) {
        if wear.is_spent(now) {
            return;
        }
        let place = self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |places| places.checked_sub(1));
        if place.is_ok() {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((wear, instance));
        }
    }
}

impl<T> Drop for Idle<T> {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).len();
        self.places.fetch_add(waiting, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: InstanceBudget = InstanceBudget { requests_max: 100, age_max: Duration::from_secs(1000), jitter_percent: 50 };

    #[test]
    fn jitter_cuts_both_bounds() {
        let now = Instant::now();
        assert_eq!(Wear::new(&BUDGET, now, 0), Wear { requests_left: 100, expires: now + Duration::from_secs(1000) });
        assert_eq!(Wear::new(&BUDGET, now, 128), Wear { requests_left: 75, expires: now + Duration::from_secs(750) });
        let one = InstanceBudget { requests_max: 1, ..BUDGET };
        assert_eq!(Wear::new(&one, now, 255).requests_left, 1);
    }

    #[test]
    fn whichever_bound_is_met_first_ends_it() {
        let now = Instant::now();
        let mut wear = Wear::new(&InstanceBudget { requests_max: 2, ..BUDGET }, now, 0);
        wear.count();
        assert!(!wear.is_spent(now) && wear.is_spent(now + Duration::from_secs(1000)));
        wear.count();
        assert!(wear.is_spent(now));
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2000);
        let places = Arc::new(AtomicUsize::new(2));
        let wear = Wear::new(&BUDGET, now, 0);
        let idle = Idle::new(Arc::clone(&places));
        for instance in 0..3 {
            idle.keep(wear, instance, now);
        }
        assert_eq!(places.load(Ordering::Relaxed), 0);
        assert_eq!(idle.take(now).map(|(_, instance)| instance), Some(1));
        assert!(idle.take(later).is_none());
        assert_eq!(places.load(Ordering::Relaxed), 2);
        idle.keep(wear, 4, now);
        drop(idle);
        assert_eq!(places.load(Ordering::Relaxed), 2);
    }
}
