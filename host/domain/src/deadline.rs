//! The moment by which a request must be answered. Knows nothing of timers: whoever waits brings their own.

use std::time::{Duration, Instant};

/// A point in time after which nobody wants the answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline that lies `budget` after `now`.
    pub fn after(now: Instant, budget: Duration) -> Self {
        // An hour-long horizon for a budget that overflows the clock: no request lives so long.
        Self(now.checked_add(budget).unwrap_or(now + Duration::from_secs(3600)))
    }

    /// The moment itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left at `now`; zero once it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether it has passed at `now`.
    pub fn is_past(self, now: Instant) -> bool {
        now >= self.0
    }
}
