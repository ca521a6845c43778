//! What is billed.

use serde::{Deserialize, Serialize};

/// What a function used, for a while, on one host or on many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Requests that reached it, refused ones included.
    pub requests: u64,
    /// What its plugins ran, in microseconds.
    pub plugin_us: u64,
    /// What its models ran, in microseconds: a run counts once, however many calls share it.
    pub model_us: u64,
    /// Of the bodies of its requests,
    pub received_bytes: u64,
    /// and of its answers.
    pub sent_bytes: u64,
    /// Calls that waited for a model to be loaded, all together once.
    pub cold_starts: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// What came to it since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        self.each(before, u64::saturating_sub)
    }

    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: of(self.requests, other.requests),
            plugin_us: of(self.plugin_us, other.plugin_us),
            model_us: of(self.model_us, other.model_us),
            received_bytes: of(self.received_bytes, other.received_bytes),
            sent_bytes: of(self.sent_bytes, other.sent_bytes),
            cold_starts: of(self.cold_starts, other.cold_starts),
        }
    }
}
