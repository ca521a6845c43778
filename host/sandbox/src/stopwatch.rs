//! How long a guest has run: the sum of the slices between its entries and its exits. Knows nothing of wasmtime.

use std::time::{Duration, Instant};

/// Measures one guest.
#[derive(Default)]
pub(crate) struct Stopwatch {
    slice: Option<Instant>,
    spent: Duration,
}

impl Stopwatch {
    /// The guest begins to run, or goes on.
    pub(crate) fn start(&mut self, now: Instant) {
        self.slice = Some(now);
    }

    /// The guest is at its end, or in the host.
    pub(crate) fn stop(&mut self, now: Instant) {
        if let Some(start) = self.slice.take() {
            self.spent += now.saturating_duration_since(start);
        }
    }

    /// All slices that have ended.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slices_count() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = Stopwatch::default();
        watch.start(at(0));
        watch.stop(at(2));
        watch.stop(at(50));
        watch.start(at(100));
        watch.stop(at(103));
        assert_eq!(watch.spent(), Duration::from_millis(5));
    }
}
