//! When a session is replaced, and how: beside the old one, or in its place where there is no room for two. Pure: knows no clock, no
//! thread and no runtime.

use std::time::Duration;
use std::time::Instant;

use sandmill_domain::RecycleReason as Reason;
use serde::{Deserialize, Serialize};

/// How long spare memory may be lacking before the old session goes first.
const SHORT_MAX: Duration = Duration::from_secs(60);
/// The pause after a replacement that failed, doubled with each further one up to the last.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// What a session may go through before it is replaced; `None` and zero stand for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Calls that it answers.
    pub requests_max: Option<u64>,
    /// Its age.
    pub age_max: Option<Duration>,
    /// What its memory may grow by from when it was warm.
    pub growth_bytes_max: Option<usize>,
    /// Runs that fail one after the other, through no fault of their callers.
    pub failures_max: Option<u32>,
    /// The first two are cut by up to this part, for each session by chance, so that models do not go in step.
    pub jitter_percent: u32,
    /// Beyond so many times a bound, and at once for memory, there is no more waiting for a better moment.
    pub hard_factor: u32,
    /// The least time from one replacement to the next.
    pub pause: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            requests_max: Some(1000),
            age_max: Some(Duration::from_secs(3600)),
            growth_bytes_max: Some(512 << 20),
            failures_max: Some(5),
            jitter_percent: 10,
            hard_factor: 4,
            pause: Duration::from_secs(1),
        }
    }
}

/// What a session has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wear {
    pub(crate) served: u64,
    pub(crate) age: Duration,
    pub(crate) growth_bytes: usize,
    /// In a row.
    pub(crate) failures: u32,
    /// A run had to be ended at its deadline.
    pub(crate) overran: bool,
    /// A run would not end.
    pub(crate) abandoned: bool,
    /// A device has failed, and will fail every run from now on.
    pub(crate) device_failed: bool,
    /// Somebody asked for it.
    pub(crate) by_hand: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing.
    Keep,
    /// Build another session beside this one, then swap them.
    Beside(Reason),
    /// Let this one go first, then build another: calls wait.
    InPlace(Reason),
}

/// One model's recycling. Its session is in use as long as no order is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recycler {
    budget: Budget,
    /// What chance has cut the budget of the present session by, of 1,000.
    cut: u32,
    /// When the last replacement ended.
    since: Option<Instant>,
    /// Replacements for runs that had to be ended, one after the other.
    overruns: u32,
    /// Replacements that failed, one after the other, and until when there is no further one.
    failed: u32,
    not_before: Option<Instant>,
    /// Since when there was no room for another session.
    short: Option<Instant>,
}

impl Recycler {
    /// For a session that is there; `chance` is any number.
    pub(crate) fn new(budget: Budget, chance: u64) -> Self {
        Self { budget, cut: cut(&budget, chance), since: None, overruns: 0, failed: 0, not_before: None, short: None }
    }

    /// What to do with a session that is worn so; `spare` tells whether there is room for another one, and is asked only if one is due.
    #[must_use]
    pub(crate) fn next(mut self, wear: &Wear, spare: impl FnOnce() -> bool, now: Instant) -> (Self, Order) {
        let Some(reason) = self.due(wear, 1) else {
            self.short = None;
            return (self, Order::Keep);
        };
        let urgent = matches!(reason, Reason::ByHand | Reason::Device | Reason::Abandoned);
        let rests = self.not_before.is_some_and(|until| now < until);
        let paused = !urgent && self.since.is_some_and(|since| now < since + self.pause(reason));
        // Hard bounds are for where a replacement beside does not come about. A session that works is not dropped because somebody asks
        // for another one, or because of a run that it had to end.
        let hard = (self.failed > 0 || self.short.is_some() || self.grew_beyond(wear))
            && self.due(wear, self.budget.hard_factor).is_some();
        if hard && !paused && !(rests && self.failed > 1) {
            return (self, Order::InPlace(reason));
        }
        if rests || paused {
            return (self, Order::Keep);
        }
        if spare() {
            self.short = None;
            return (self, Order::Beside(reason));
        }
        let since = *self.short.get_or_insert(now);
        let order = if now.saturating_duration_since(since) >= SHORT_MAX { Order::InPlace(reason) } else { Order::Keep };
        (self, order)
    }

    /// The order was carried out, and another session is in use.
    #[must_use]
    pub(crate) fn replaced(self, reason: Reason, chance: u64, now: Instant) -> Self {
        let overruns = if reason == Reason::Overrun { self.overruns.saturating_add(1) } else { 0 };
        Self { since: Some(now), overruns, ..Self::new(self.budget, chance) }
    }

    /// Who asks for more than there is time for could have sessions made without end: each such replacement doubles the pause to the next.
    fn pause(&self, reason: Reason) -> Duration {
        let overruns = if reason == Reason::Overrun { self.overruns.min(16) } else { 0 };
        self.budget.pause.saturating_mul(1 << overruns).min(BACK_OFF_MAX.max(self.budget.pause))
    }

    /// The order failed: what was in use is, or is to be built later if it had to go first.
    #[must_use]
    pub(crate) fn failed(mut self, now: Instant) -> Self {
        let pause = BACK_OFF.saturating_mul(1 << self.failed.min(16)).min(BACK_OFF_MAX);
        self.failed = self.failed.saturating_add(1);
        self.not_before = Some(now + pause);
        self
    }

    /// Whether the last replacement failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// How many calls the present session answers.
    pub(crate) fn requests_max(&self) -> Option<u64> {
        self.budget.requests_max.map(|max| (max - max * u64::from(self.cut) / 1000).max(1))
    }

    fn share(&self, whole: Duration) -> Duration {
        whole.saturating_mul(self.cut) / 1000
    }

    fn grew_beyond(&self, wear: &Wear) -> bool {
        self.budget.growth_bytes_max.is_some_and(|max| wear.growth_bytes >= max.saturating_mul(self.budget.hard_factor as usize))
    }

    /// The first bound that is reached, each times `factor`.
    fn due(&self, wear: &Wear, factor: u32) -> Option<Reason> {
        let Budget { age_max, growth_bytes_max, failures_max, .. } = self.budget;
        let age_max = age_max.map(|max| max.saturating_sub(self.share(max)).saturating_mul(factor));
        let requests_max = self.requests_max().map(|max| max.saturating_mul(factor.into()));
        let growth_max = growth_bytes_max.map(|max| max.saturating_mul(factor as usize));
        let failures_max = failures_max.map(|max| max.saturating_mul(factor));
        [
            (wear.by_hand && factor == 1, Reason::ByHand),
            (wear.device_failed, Reason::Device),
            (wear.abandoned && factor == 1, Reason::Abandoned),
            (failures_max.is_some_and(|max| wear.failures >= max), Reason::Failures),
            (growth_max.is_some_and(|max| wear.growth_bytes >= max), Reason::Memory),
            (requests_max.is_some_and(|max| wear.served >= max), Reason::Requests),
            (age_max.is_some_and(|max| wear.age >= max), Reason::Age),
            (wear.overran && factor == 1, Reason::Overrun),
        ]
        .into_iter()
        .find_map(|(is_due, reason)| is_due.then_some(reason))
    }
}

/// So much of 1,000, up to the budget's jitter.
fn cut(budget: &Budget, chance: u64) -> u32 {
    let most = u64::from(budget.jitter_percent.min(50)) * 10;
    u32::try_from(chance % (most + 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn recycler(budget: Budget) -> Recycler {
        Recycler::new(Budget { jitter_percent: 0, ..budget }, 0)
    }

    fn order(recycler: Recycler, wear: Wear, now: Instant) -> Order {
        recycler.next(&wear, || true, now).1
    }

    #[test]
    fn the_first_bound_that_is_reached_is_the_reason() {
        let now = Instant::now();
        let fresh = Wear::default();
        let cases = [
            (fresh, Order::Keep),
            (Wear { served: 999, age: SECOND * 3599, growth_bytes: (512 << 20) - 1, failures: 4, ..fresh }, Order::Keep),
            (Wear { served: 1000, ..fresh }, Order::Beside(Reason::Requests)),
            (Wear { age: SECOND * 3600, ..fresh }, Order::Beside(Reason::Age)),
            (Wear { growth_bytes: 512 << 20, ..fresh }, Order::Beside(Reason::Memory)),
            (Wear { failures: 5, ..fresh }, Order::Beside(Reason::Failures)),
            (Wear { overran: true, ..fresh }, Order::Beside(Reason::Overrun)),
            (Wear { abandoned: true, ..fresh }, Order::Beside(Reason::Abandoned)),
            (Wear { device_failed: true, ..fresh }, Order::Beside(Reason::Device)),
            (Wear { by_hand: true, served: 5000, ..fresh }, Order::Beside(Reason::ByHand)),
            // Four times the bound of memory is too much to build another beside it.
            (Wear { growth_bytes: 2048 << 20, ..fresh }, Order::InPlace(Reason::Memory)),
            // Calls come quickly: as long as a replacement may still come about, that is no reason to make them wait.
            (Wear { served: 100_000, ..fresh }, Order::Beside(Reason::Requests)),
        ];
        for (wear, expected) in cases {
            assert_eq!(order(recycler(Budget::default()), wear, now), expected, "{wear:?}");
        }
        let none = Budget { requests_max: None, age_max: None, growth_bytes_max: None, failures_max: None, ..Budget::default() };
        let worn = Wear { served: u64::MAX, age: Duration::MAX, growth_bytes: usize::MAX, failures: u32::MAX, ..fresh };
        assert_eq!(order(recycler(none), worn, now), Order::Keep);
    }

    #[test]
    fn replacements_are_not_quicker_one_after_the_other_than_the_pause() {
        let now = Instant::now();
        let used = Wear { served: 1000, ..Wear::default() };
        let recycler = recycler(Budget { jitter_percent: 0, ..Budget::default() }).replaced(Reason::Requests, 0, now);
        assert_eq!(order(recycler, used, now + SECOND / 2), Order::Keep);
        assert_eq!(order(recycler, used, now + SECOND), Order::Beside(Reason::Requests));
        let asked = Wear { by_hand: true, ..used };
        assert_eq!(order(recycler, asked, now), Order::Beside(Reason::ByHand), "whoever asks knows why");
    }

    #[test]
    fn whoever_has_runs_ended_all_the_time_does_not_have_sessions_made_all_the_time() {
        let now = Instant::now();
        let overran = Wear { overran: true, ..Wear::default() };
        let once = recycler(Budget::default()).replaced(Reason::Overrun, 0, now);
        assert_eq!(order(once, overran, now + SECOND), Order::Keep);
        assert_eq!(order(once, overran, now + 2 * SECOND), Order::Beside(Reason::Overrun));
        let many = (0..40).fold(once, |recycler, _| recycler.replaced(Reason::Overrun, 0, now));
        assert_eq!(order(many, overran, now + BACK_OFF_MAX - SECOND), Order::Keep);
        assert_eq!(order(many, overran, now + BACK_OFF_MAX), Order::Beside(Reason::Overrun));
        let used = Wear { served: 1000, ..Wear::default() };
        assert_eq!(order(many, used, now + SECOND), Order::Beside(Reason::Requests), "that has nothing to do with it");
        assert_eq!(order(many.replaced(Reason::Requests, 0, now), overran, now + SECOND), Order::Beside(Reason::Overrun));
    }

    #[test]
    fn failed_replacements_rest_longer_each_time_and_a_hard_bound_ends_that() {
        let now = Instant::now();
        let used = Wear { served: 1000, ..Wear::default() };
        let once = recycler(Budget::default()).failed(now);
        assert_eq!(order(once, used, now + SECOND / 2), Order::Keep);
        assert_eq!(order(once, used, now + SECOND), Order::Beside(Reason::Requests));
        let twice = once.failed(now);
        assert_eq!(order(twice, used, now + SECOND), Order::Keep);
        assert_eq!(order(twice, used, now + 2 * SECOND), Order::Beside(Reason::Requests));
        let many = (0..40).fold(twice, |recycler, _| recycler.failed(now));
        assert_eq!(order(many, used, now + BACK_OFF_MAX), Order::Beside(Reason::Requests));
        let worn = Wear { served: 4000, ..Wear::default() };
        assert_eq!(order(once, worn, now), Order::InPlace(Reason::Requests));
        assert_eq!(order(twice, worn, now), Order::Keep, "that did not help either");
        for works in [Wear { by_hand: true, ..used }, Wear { overran: true, ..used }, Wear { abandoned: true, ..used }] {
            assert_ne!(order(once, works, now + SECOND), Order::InPlace(Reason::ByHand), "{works:?}");
            assert!(!matches!(order(once, works, now), Order::InPlace(_)), "{works:?}");
        }
        let broken = Wear { device_failed: true, ..used };
        assert_eq!(order(once, broken, now), Order::InPlace(Reason::Device), "it answers nobody anyway");
    }

    #[test]
    fn where_memory_is_short_for_long_the_old_one_goes_first() {
        let now = Instant::now();
        let used = Wear { served: 1000, ..Wear::default() };
        let (short, order) = recycler(Budget::default()).next(&used, || false, now);
        assert_eq!(order, Order::Keep);
        let (short, order) = short.next(&used, || false, now + SECOND * 59);
        assert_eq!(order, Order::Keep);
        assert_eq!(short.next(&used, || true, now + SECOND * 60).1, Order::Beside(Reason::Requests));
        assert_eq!(short.next(&used, || false, now + SECOND * 60).1, Order::InPlace(Reason::Requests));
        // Beyond a hard bound, at once.
        let worn = Wear { served: 4000, ..used };
        assert_eq!(short.next(&worn, || false, now + SECOND).1, Order::InPlace(Reason::Requests));
    }

    proptest! {
        #[test]
        fn chance_cuts_a_budget_by_its_jitter_at_most(chance in any::<u64>(), jitter in 0_u32..=50) {
            let budget = Budget { jitter_percent: jitter, ..Budget::default() };
            let max = Recycler::new(budget, chance).requests_max().unwrap();
            prop_assert!(max <= 1000 && max >= 1000 - u64::from(jitter) * 10);
        }

        #[test]
        fn whatever_happens_a_worn_session_is_replaced_in_the_end(events in prop::collection::vec(0_u8..4, 0..40)) {
            let mut now = Instant::now();
            let mut recycler = recycler(Budget::default());
            let used = Wear { served: 1000, ..Wear::default() };
            for event in events {
                now += SECOND;
                recycler = match event {
                    0 => recycler.failed(now),
                    1 => recycler.replaced(Reason::Overrun, 7, now),
                    2 => recycler.next(&used, || false, now).0,
                    _ => recycler.next(&Wear::default(), || true, now).0,
                };
            }
            now += BACK_OFF_MAX;
            prop_assert_ne!(recycler.next(&used, || true, now).1, Order::Keep);
        }
    }
}
