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

/// What may wait on the whole host.
pub(crate) struct Room {
    places: AtomicUsize,
    bytes: AtomicUsize,
}

impl Room {
    /// For so many instances with so much memory in all.
    pub(crate) fn new(places: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self { places: AtomicUsize::new(places), bytes: AtomicUsize::new(bytes) })
    }

    /// How many more may wait.
    pub(crate) fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let less = |counter: &AtomicUsize, by: usize| {
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(by)).is_ok()
        };
        if !less(&self.places, 1) {
            return None;
        }
        if !less(&self.bytes, bytes) {
            self.places.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { room: Arc::clone(self), bytes })
    }
}

/// Room for one instance; given back when it is dropped.
struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.places.fetch_add(1, Ordering::Relaxed);
        self.room.bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// One that waits. Its place goes after it.
struct Waiting<T> {
    wear: Wear,
    instance: T,
    _place: Place,
}

/// Instances of one plugin that wait for a request; the last one in is the first one out.
pub(crate) struct Idle<T> {
    waiting: Mutex<Vec<Waiting<T>>>,
    room: Arc<Room>,
}

impl<T> Idle<T> {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self { waiting: Mutex::new(Vec::new()), room }
    }

    /// One that may serve another request.
    pub(crate) fn take(&self, now: Instant) -> Option<(Wear, T)> {
        self.sweep(now);
        let taken = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some((taken.wear, taken.instance))
    }

    /// Keeps one of so much memory for a further request, or drops it if its budget is used up or there is no room.
    pub(crate) fn keep(&self, wear: Wear, instance: T, bytes: usize, now: Instant) {
        if wear.is_spent(now) {
            return;
        }
        if let Some(place) = self.room.take(bytes) {
            let waiting = Waiting { wear, instance, _place: place };
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
        }
    }

    /// Drops those whose time is over; when the next one's is, if one is left.
    pub(crate) fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let spent: Vec<_> = waiting.extract_if(.., |waiting| waiting.wear.is_spent(now)).collect();
        let next = waiting.iter().map(|waiting| waiting.wear.expires).min();
        drop(waiting);
        // Not under the lock: an instance has memory to give back.
        drop(spent);
        next
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

    fn left(room: &Room) -> (usize, usize) {
        (room.places.load(Ordering::Relaxed), room.bytes.load(Ordering::Relaxed))
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2000);
        let room = Room::new(2, 100);
        let wear = Wear::new(&BUDGET, now, 0);
        let idle = Idle::new(Arc::clone(&room));
        idle.keep(wear, 0, 101, now);
        assert_eq!(left(&room), (2, 100));
        for instance in 1..4 {
            idle.keep(wear, instance, 50, now);
        }
        assert_eq!(left(&room), (0, 0));
        assert_eq!(idle.take(now).map(|(_, instance)| instance), Some(2));
        assert_eq!(idle.sweep(now), Some(now + Duration::from_secs(1000)));
        assert_eq!(idle.sweep(later), None);
        assert_eq!(left(&room), (2, 100));
        idle.keep(wear, 4, 1, now);
        drop(idle);
        assert_eq!(left(&room), (2, 100));
    }
}
