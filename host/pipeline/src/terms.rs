//! By when a call must be answered and before which others it goes: the function's terms, and what the caller makes of them. Pure.

use std::time::{Duration, Instant};

use sandmill_domain::{Blame, Code, Deadline, Fault, Urgency, Wish};

/// The terms of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    begun: Instant,
    urgency: Urgency,
    /// Whether the caller waits less long than the function may take.
    hurried: bool,
}

impl Terms {
    /// Of a function that may take so long, for a request whose head came just now.
    pub(crate) fn new(now: Instant, timeout: Duration) -> Self {
        Self { begun: now, urgency: Deadline::after(now, timeout).into(), hurried: false }
    }

    /// With what the caller asks for: its time only ever shortens that of the function, the last word on the priority holds.
    #[must_use]
    pub(crate) fn with(self, wish: Wish) -> Self {
        let asked = wish.timeout.map(|timeout| Deadline::after(self.begun, timeout));
        let sooner = asked.filter(|deadline| *deadline < self.urgency.deadline);
        let deadline = sooner.unwrap_or(self.urgency.deadline);
        let priority = wish.priority.unwrap_or(self.urgency.priority);
        Self { urgency: Urgency { deadline, priority }, hurried: self.hurried || sooner.is_some(), ..self }
    }

    /// For whoever runs the call, or a part of it.
    pub(crate) fn urgency(self) -> Urgency {
        self.urgency
    }

    /// A caller that waits less long than the function may take has only itself to blame if that was too short: neither the model
    /// nor the host has failed, and no breaker may count it.
    pub(crate) fn blame(self, fault: Fault) -> Fault {
        if self.hurried && fault.code == Code::DeadlineExceeded { fault.blaming(Blame::Caller) } else { fault }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandmill_domain::Priority;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn wish(millis: impl Into<Option<u64>>, priority: Option<Priority>) -> Wish {
        Wish { priority, timeout: millis.into().map(Duration::from_millis) }
    }

    #[test]
    fn a_caller_can_only_shorten_its_time() {
        let now = Instant::now();
        let terms = Terms::new(now, TIMEOUT);
        for (asked, left, hurried) in
            [(None, 10_000, false), (Some(10_001), 10_000, false), (Some(10_000), 10_000, false), (Some(9_999), 9_999, true)]
        {
            let after = terms.with(wish(asked, None));
            assert_eq!(after.urgency.deadline.remaining(now), Duration::from_millis(left), "{asked:?}");
            assert_eq!(after.hurried, hurried, "{asked:?}");
        }
        let longest = terms.with(wish(u64::MAX, None));
        assert_eq!(longest, terms);
    }

    #[test]
    fn a_deadline_of_the_callers_own_is_nobody_elses_fault() {
        let terms = Terms::new(Instant::now(), TIMEOUT);
        let late = || Fault::new(Code::DeadlineExceeded, "late").blaming(Blame::Model);
        assert_eq!(terms.blame(late()).blame, Blame::Model);
        let hurried = terms.with(wish(9_000, None));
        assert_eq!(hurried.blame(late()).blame, Blame::Caller);
        assert_eq!(hurried.blame(Fault::new(Code::ModelFailed, "broken")).blame, Blame::Model);
    }

    proptest! {
        #[test]
        fn the_nearest_deadline_and_the_last_priority_hold(
            wishes in prop::collection::vec((prop::option::of(1_u64..20_000), prop::option::of(0_usize..3)), 0..4),
        ) {
            let now = Instant::now();
            let mut terms = Terms::new(now, TIMEOUT);
            for (millis, level) in &wishes {
                terms = terms.with(wish(*millis, level.map(|level| Priority::ALL[level])));
            }
            let nearest = wishes.iter().filter_map(|(millis, _)| *millis).chain([10_000]).min().unwrap_or(0);
            let last = wishes.iter().rev().find_map(|(_, level)| *level).map_or(Priority::Normal, |level| Priority::ALL[level]);
            prop_assert_eq!(terms.urgency.deadline.remaining(now), Duration::from_millis(nearest));
            prop_assert_eq!(terms.urgency.priority, last);
            prop_assert_eq!(terms.hurried, nearest < 10_000);
        }
    }
}
