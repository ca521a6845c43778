//! What a model's runs have taken lately, and what that says of a call that waits. Pure but for its two numbers, which whoever has made a
//! run moves; knows no queue and no clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each run moves the means by one part in so many.
const PARTS: u64 = 8;

/// How fast a model comes through its calls; zero before its first run.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Of one run, and of a run by each of its calls; in nanoseconds.
    run: AtomicU64,
    call: AtomicU64,
}

impl Pace {
    /// A run for so many calls took so long. One that was ended early says only that it would have taken longer.
    pub(crate) fn ran(&self, took: Duration, calls: usize, to_its_end: bool) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if to_its_end || took > self.run.load(Ordering::Relaxed) {
            follow(&self.run, took);
            follow(&self.call, took / calls.max(1) as u64);
        }
    }

    /// What a run takes.
    pub(crate) fn run(&self) -> Duration {
        Duration::from_nanos(self.run.load(Ordering::Relaxed))
    }

    /// When a call would be answered that comes after so many, which run in so many places.
    pub(crate) fn answers_in(&self, before: usize, places: usize) -> Duration {
        let before = u64::try_from(before).unwrap_or(u64::MAX);
        let wait = self.call.load(Ordering::Relaxed).saturating_mul(before) / places.max(1) as u64;
        Duration::from_nanos(wait).saturating_add(self.run())
    }
}

/// Two at once may lose the one's run, which is one among many.
fn follow(mean: &AtomicU64, value: u64) {
    let before = mean.load(Ordering::Relaxed);
    let after = if before == 0 { value } else { before - before / PARTS + value / PARTS };
    mean.store(after, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_run_is_the_measure_and_others_move_it() {
        let pace = Pace::default();
        assert_eq!(pace.answers_in(100, 1), Duration::ZERO, "nothing is known");
        pace.ran(8 * MS, 4, true);
        assert_eq!((pace.run(), pace.answers_in(10, 2)), (8 * MS, 18 * MS));
        pace.ran(16 * MS, 4, true);
        assert_eq!(pace.run(), 9 * MS);
        (0..200).for_each(|_| pace.ran(2 * MS, 1, true));
        assert!(pace.run().abs_diff(2 * MS) < MS / 10, "{:?}", pace.run());
    }

    #[test]
    fn a_run_that_was_ended_early_makes_no_model_faster() {
        let pace = Pace::default();
        pace.ran(8 * MS, 1, true);
        pace.ran(MS, 1, false);
        assert_eq!(pace.run(), 8 * MS);
        pace.ran(16 * MS, 1, false);
        assert_eq!(pace.run(), 9 * MS);
    }

    #[test]
    fn no_number_is_too_large() {
        let pace = Pace::default();
        pace.ran(Duration::MAX, 0, true);
        assert!(pace.answers_in(usize::MAX, 0) >= pace.run());
    }
}
