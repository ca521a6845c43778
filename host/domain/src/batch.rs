//! How calls share a run of a model.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether calls of a model share runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batching {
    /// If it was measured that it pays, and that rows do not depend on one another.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always: whoever says so knows that rows do not depend on one another.
    Fixed {
        /// The rows of one run at most, within the bound of the model's own axis.
        rows: usize,
        /// How long the first call waits for others.
        delay: Duration,
    },
}

/// One run and the calls in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Rows of all its calls; 1 for a model whose tensors have none.
    pub rows: usize,
    /// The most that it could have had; none if it shares with nobody.
    pub rows_max: Option<NonZeroUsize>,
    /// Why it began when it did.
    pub reason: BatchReason,
}

/// Why a run began with the calls that it had, and did not wait for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchReason {
    /// It was full.
    Full,
    /// Its first call had waited for others as long as it may.
    Delay,
    /// A context was idle: to wait would have gained nothing.
    Idle,
    /// It is a call that shares with nobody: batching is off, its rows cannot be told, or those before it found nobody.
    Alone,
}

impl BatchReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::Delay, Self::Idle, Self::Alone];

    /// In metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Delay => "delay",
            Self::Idle => "idle",
            Self::Alone => "alone",
        }
    }
}
