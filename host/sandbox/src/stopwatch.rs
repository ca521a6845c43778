//! How long a guest has run: the sum of the slices in which its future was polled. Knows nothing of wasmtime.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Measures one guest. The slices of a guest never overlap, so relaxed atomics are enough: what hands a future from one
/// thread to the next also orders these.
pub(crate) struct Stopwatch {
    origin: Instant,
    slice_started_ns: AtomicU64,
    spent_ns: AtomicU64,
}

impl Stopwatch {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, slice_started_ns: AtomicU64::new(0), spent_ns: AtomicU64::new(0) }
    }

    /// Runs `future`, counting only the time in which it is polled.
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.slice_started_ns.store(self.ns_at(Instant::now()), Ordering::Relaxed);
            let poll = future.as_mut().poll(context);
            let spent = self.spent(Instant::now());
            self.spent_ns.store(nanoseconds(spent), Ordering::Relaxed);
            poll
        })
        .await
    }

    /// All slices so far and the one under way: to be asked from within [`Stopwatch::measure`].
    pub(crate) fn spent(&self, now: Instant) -> Duration {
        let slice = self.ns_at(now).saturating_sub(self.slice_started_ns.load(Ordering::Relaxed));
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed).saturating_add(slice))
    }

    fn ns_at(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.origin))
    }
}

/// 585 years, and then no more.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[tokio::test]
    async fn only_polled_time_counts() {
        let stopwatch = Stopwatch::new(Instant::now());
        let slice = Duration::from_millis(2);
        let pause = Duration::from_millis(300);
        stopwatch
            .measure(async {
                sleep(slice);
                tokio::time::sleep(pause).await;
                sleep(slice);
            })
            .await;
        stopwatch.measure(async { sleep(slice) }).await;
        let spent = Duration::from_nanos(stopwatch.spent_ns.load(Ordering::Relaxed));
        assert!((slice * 3..pause).contains(&spent), "{spent:?}");
    }
}
