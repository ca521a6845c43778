//! When a model's session goes for want of calls or of memory, and when a model that could not be loaded is tried again. Pure:
//! it sees numbers and moments, and what follows is done by others (`life`, `keeper`).

use std::time::{Duration, Instant};

/// A model that could not be loaded is tried again after this, doubled each time up to the last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where one model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it must always have a session.
    pub(crate) kept: bool,
    /// When it was last called.
    pub(crate) asked: Instant,
    /// What its sessions hold.
    pub(crate) bytes: usize,
}

/// Whether nobody has called a model for so long that its session goes, which `kept` ones never do, and none without `idle_max`.
pub(crate) fn is_idle(kept: bool, asked: Instant, idle_max: Option<Duration>, now: Instant) -> bool {
    !kept && idle_max.is_some_and(|idle| now.saturating_duration_since(asked) >= idle)
}

/// Whose sessions go so that `held` bytes become at most `goal`, by their places, the least recently used first. None goes in vain:
/// there is no answer if all that may go would not be enough.
pub(crate) fn victims(standings: &[Standing], held: usize, goal: usize) -> Option<Vec<usize>> {
    let mut order = Vec::from_iter((0..standings.len()).filter(|place| !standings[*place].kept && standings[*place].bytes > 0));
    order.sort_by_key(|place| standings[*place].asked);
    let mut left = held;
    let mut count = 0;
    while left > goal {
        left = left.saturating_sub(standings[*order.get(count)?].bytes);
        count += 1;
    }
    order.truncate(count);
    Some(order)
}

/// Loads that failed, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retries {
    failed: u32,
    next: Option<Instant>,
}

impl Retries {
    /// Another one failed: when it is tried again.
    pub(crate) fn fail(&mut self, now: Instant) -> Instant {
        let next = now + RETRY.saturating_mul(1 << self.failed.min(16)).min(RETRY_MAX);
        *self = Self { failed: self.failed.saturating_add(1), next: Some(next) };
        next
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn idle_is_who_was_not_called_for_long_enough_and_may_go() {
        let now = Instant::now() + 100 * S;
        let since = |kept, seconds| Standing { kept, asked: now - seconds * S, bytes: 1 };
        for (standing, idle_max, expected) in [
            (since(false, 10), Some(10 * S), true),
            (since(false, 9), Some(10 * S), false),
            (since(true, 50), Some(10 * S), false),
            (since(false, 50), None, false),
        ] {
            assert_eq!(is_idle(standing.kept, standing.asked, idle_max, now), expected, "{standing:?} {idle_max:?}");
        }
    }

    #[test]
    fn a_model_that_cannot_be_loaded_is_tried_ever_more_rarely() {
        let now = Instant::now();
        let mut retries = Retries::default();
        assert!(retries.is_due(now));
        let waits = Vec::from_iter((0..9).map(|_| (retries.fail(now) - now).as_secs()));
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!retries.is_due(now + 59 * S) && retries.is_due(now + 60 * S));
    }

    fn standings() -> impl Strategy<Value = Vec<(bool, u64, usize)>> {
        prop::collection::vec((any::<bool>(), 0_u64..50, 0_usize..100), 0..12)
    }

    proptest! {
        #[test]
        fn those_who_go_make_the_room_and_no_more(models in standings(), goal in 0_usize..1200) {
            let now = Instant::now();
            let all = Vec::from_iter(models.iter().map(|(kept, asked, bytes)| {
                Standing { kept: *kept, asked: now + Duration::from_secs(*asked), bytes: *bytes }
            }));
            let held: usize = all.iter().map(|model| model.bytes).sum();
            let may_go: usize = all.iter().filter(|model| !model.kept).map(|model| model.bytes).sum();
            let Some(victims) = victims(&all, held, goal) else {
                prop_assert!(held - may_go > goal, "there was enough that may go");
                return Ok(());
            };
            let gone = |victims: &[usize]| victims.iter().map(|place| all[*place].bytes).sum::<usize>();
            prop_assert!(held - gone(&victims) <= goal);
            if let Some((_, fewer)) = victims.split_last() {
                prop_assert!(held - gone(fewer) > goal, "one less would do");
            }
            for (place, model) in all.iter().enumerate().filter(|(place, _)| !victims.contains(place)) {
                let later = victims.iter().all(|victim| all[*victim].asked <= model.asked);
                prop_assert!(model.kept || model.bytes == 0 || later, "{place} was used before one that goes");
            }
            prop_assert!(victims.iter().all(|place| !all[*place].kept));
        }
    }
}
