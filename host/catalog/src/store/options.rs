//! What the store may take, in time, tries and bytes. Every bound has a default.

use std::time::Duration;

/// The bounds of a store's operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// One try of a small operation.
    pub timeout: Duration,
    /// One piece of an upload or a download.
    pub transfer_timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// Before the second try; twice as long before each one after it, less up to a half by chance.
    pub backoff_first: Duration,
    /// The longest of these waits.
    pub backoff_max: Duration,
    /// An upload, in bytes.
    pub blob_bytes_max: u64,
    /// Larger uploads go in pieces of this size, in bytes; Amazon S3 takes 10,000 of at least 5 MiB.
    pub part_bytes: usize,
    /// Pieces under way at once.
    pub parts_in_flight: usize,
    /// Records, or logs, read at once.
    pub reads_in_flight: usize,
    /// Records after which the whole state is written, so that a start need not read all of them.
    pub checkpoint_every: u64,
    /// Such a state, in bytes: a larger one is not written, and a start reads all records.
    pub checkpoint_bytes_max: u64,
    /// Changes that nobody gave a revision for are tried again so often when another came first.
    pub conflict_retries: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            transfer_timeout: Duration::from_secs(60),
            retries: 3,
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            blob_bytes_max: 16 << 30,
            part_bytes: 8 << 20,
            parts_in_flight: 2,
            reads_in_flight: 16,
            checkpoint_every: 100,
            checkpoint_bytes_max: 32 << 20,
            conflict_retries: 10,
        }
    }
}

impl StoreOptions {
    /// At least one, or nothing would ever be read.
    pub(crate) fn reads(&self) -> usize {
        self.reads_in_flight.max(1)
    }

    /// The wait before a try, counted from 1 for the first one that is a repetition.
    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1 << (retry - 1).min(16));
        let mut chance = [0];
        // Without chance it is a fixed wait, which serves too.
        let _ = getrandom::fill(&mut chance);
        doubled.min(self.backoff_max).mul_f64(0.5 + f64::from(chance[0]) / 510.0)
    }
}
