//! When a release's breaker opens and for how long, and where it stands. The machine itself is the pipeline's.

use std::time::Duration;

/// The bounds of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Runs of the model that fail one after the other: then it opens.
    pub failures_max: usize,
    /// For so long no call is admitted; then one is, to try.
    pub open_time: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { failures_max: 5, open_time: Duration::from_secs(60) }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls are admitted.
    Closed,
    /// One call at a time is admitted, to try the model.
    HalfOpen,
    /// No call is admitted.
    Open,
}

impl BreakerState {
    /// As the metrics see it: `closed`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}
