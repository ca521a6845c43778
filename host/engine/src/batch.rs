//! Which of the calls that wait run together, when, and why. Pure: knows no queue, no thread, no runtime and no clock.

use std::time::{Duration, Instant};

use sandmill_domain::BatchReason;
use serde::{Deserialize, Serialize};

use crate::order::{Rank, ranked};

/// How many of those that wait the next batch looks at for calls that fit its first.
const LOOK_MAX: usize = 64;

/// When calls may share a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// The rows of one batch; 1 for no batches at all.
    pub(crate) rows_max: usize,
    /// The bytes of their inputs.
    pub(crate) bytes_max: usize,
    /// How long its first call waits for others; none for not at all.
    pub(crate) delay: Duration,
}

impl Policy {
    /// Every call by itself.
    pub(crate) const OFF: Self = Self { rows_max: 1, bytes_max: usize::MAX, delay: Duration::ZERO };
}

/// What there is to know of a call that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its rows; none if it runs by itself whatever else waits.
    pub(crate) rows: Option<usize>,
    /// The sizes of all axes but the first, of all inputs: those of calls that run together are the same.
    pub(crate) tail: Vec<i64>,
    /// Of its inputs.
    pub(crate) bytes: usize,
    pub(crate) submitted: Instant,
    pub(crate) rank: Rank,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To run the calls at these places in the queue, which ascend.
    Run { places: Vec<usize>, reason: BatchReason },
    /// To wait for more calls, until then at most.
    Wait { until: Instant },
    /// Nobody waits.
    Rest,
}

/// The next batch: the call that goes first, and of the others those that fit, as they would go.
pub(crate) fn next<'a, I>(waiting: I, policy: Policy, now: Instant) -> Step
where
    I: IntoIterator<Item = &'a Slot>,
    I::IntoIter: Clone,
{
    let mut waiting = ranked(waiting.into_iter(), |slot| slot.rank, now).take(LOOK_MAX);
    let Some((place, first)) = waiting.next() else { return Step::Rest };
    let Some(mut rows) = first.rows.filter(|rows| *rows < policy.rows_max) else {
        // Either it runs by itself anyway, or it fills a batch.
        let reason = if policy.rows_max > 1 && first.rows.is_some() { BatchReason::Full } else { BatchReason::Alone };
        return Step::Run { places: vec![place], reason };
    };
    let (mut places, mut bytes, mut since) = (vec![place], first.bytes, first.submitted);
    for (place, slot) in waiting {
        let fits = slot.tail == first.tail && slot.bytes <= policy.bytes_max.saturating_sub(bytes);
        if let Some(more) = slot.rows.filter(|more| fits && rows + more <= policy.rows_max) {
            rows += more;
            bytes += slot.bytes;
            since = since.min(slot.submitted);
            places.push(place);
            if rows == policy.rows_max {
                break;
            }
        }
    }
    places.sort_unstable();
    let until = since + policy.delay;
    match rows == policy.rows_max {
        true => Step::Run { places, reason: BatchReason::Full },
        false if policy.delay.is_zero() => Step::Run { places, reason: BatchReason::Idle },
        false if until <= now => Step::Run { places, reason: BatchReason::Delay },
        false => Step::Wait { until },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandmill_domain::{Deadline, Priority, Urgency};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn slot(rows: impl Into<Option<usize>>, tail: i64, submitted: Instant) -> Slot {
        of(Priority::Normal, rows, tail, submitted)
    }

    fn of(priority: Priority, rows: impl Into<Option<usize>>, tail: i64, submitted: Instant) -> Slot {
        let urgency = Urgency { deadline: Deadline::after(submitted, Duration::from_secs(60)), priority };
        Slot { rows: rows.into(), tail: vec![tail], bytes: 10, submitted, rank: Rank::new(urgency, submitted) }
    }

    fn run(places: &[usize], reason: BatchReason) -> Step {
        Step::Run { places: places.to_vec(), reason }
    }

    #[test]
    fn batches_close_when_they_are_full_late_or_a_context_is_idle() {
        let now = Instant::now();
        let at_once = Policy { rows_max: 4, ..Policy::OFF };
        let lean = Policy { bytes_max: 25, ..at_once };
        let delayed = Policy { delay: MS, ..at_once };
        let one = |tail| slot(1, tail, now);
        let cases = [
            (vec![], at_once, Step::Rest),
            (vec![one(0)], at_once, run(&[0], BatchReason::Idle)),
            (vec![one(0); 3], at_once, run(&[0, 1, 2], BatchReason::Idle)),
            (vec![one(0); 9], at_once, run(&[0, 1, 2, 3], BatchReason::Full)),
            (vec![one(0); 9], lean, run(&[0, 1], BatchReason::Idle)),
            (vec![one(0); 9], Policy::OFF, run(&[0], BatchReason::Alone)),
            // Other shapes are left for the next batch; what fits behind them is not.
            (vec![one(0), one(7), one(0)], at_once, run(&[0, 2], BatchReason::Idle)),
            // A call of many rows is not torn.
            (vec![one(0), slot(4, 0, now), one(0)], at_once, run(&[0, 2], BatchReason::Idle)),
            (vec![slot(3, 0, now), slot(2, 0, now), one(0)], at_once, run(&[0, 2], BatchReason::Full)),
            (vec![slot(4, 0, now), one(0)], at_once, run(&[0], BatchReason::Full)),
            (vec![slot(9, 0, now), one(0)], at_once, run(&[0], BatchReason::Full)),
            (vec![slot(None, 0, now), one(0)], at_once, run(&[0], BatchReason::Alone)),
            (vec![one(0); 3], delayed, Step::Wait { until: now + MS }),
            (vec![one(0); 4], delayed, run(&[0, 1, 2, 3], BatchReason::Full)),
            (vec![slot(1, 0, now - MS), one(0)], delayed, run(&[0, 1], BatchReason::Delay)),
        ];
        for (waiting, policy, expected) in cases {
            assert_eq!(next(&waiting, policy, now), expected, "{waiting:?} {policy:?}");
        }
    }

    #[test]
    fn who_goes_first_leads_and_lower_ones_fill_up() {
        let now = Instant::now();
        let policy = Policy { rows_max: 3, ..Policy::OFF };
        let (high, low) = (|tail| of(Priority::High, 1, tail, now), |tail| of(Priority::Low, 1, tail, now));
        let normal = |tail| slot(1, tail, now);
        let cases = [
            (vec![low(0), normal(0), high(0)], policy, run(&[0, 1, 2], BatchReason::Full)),
            (vec![low(0), low(0), normal(0), high(0)], policy, run(&[0, 2, 3], BatchReason::Full)),
            (vec![low(0), normal(7), normal(7), high(0)], policy, run(&[0, 3], BatchReason::Idle)),
            (vec![low(0), normal(0), high(0), high(0)], Policy::OFF, run(&[2], BatchReason::Alone)),
            (vec![low(0), of(Priority::High, None, 0, now)], policy, run(&[1], BatchReason::Alone)),
            // One that has waited for a second goes before those of a higher priority that came later.
            (vec![low(0), of(Priority::Low, 1, 7, now - 1000 * MS), high(0)], Policy::OFF, run(&[1], BatchReason::Alone)),
        ];
        for (waiting, policy, expected) in cases {
            assert_eq!(next(&waiting, policy, now), expected, "{waiting:?} {policy:?}");
        }
        // Whoever is in the batch has waited for it.
        let delayed = Policy { delay: 5 * MS, ..policy };
        let waiting = [of(Priority::Low, 1, 0, now - 5 * MS), of(Priority::High, 1, 0, now)];
        assert_eq!(next(&waiting, delayed, now), run(&[0, 1], BatchReason::Delay));
        assert_eq!(next(&waiting[1..], delayed, now), Step::Wait { until: now + 5 * MS });
    }

    proptest! {
        #[test]
        fn a_batch_is_of_one_shape_within_its_rows_and_has_the_call_that_goes_first(
            waiting in prop::collection::vec((prop::option::of(1_usize..6), 0_i64..3, 0_usize..3), 0..100),
            rows_max in 1_usize..9,
            delay_ms in 0_u32..3,
            waited_ms in 0_u32..3,
        ) {
            let submitted = Instant::now();
            let now = submitted + waited_ms * MS;
            let waiting: Vec<Slot> =
                waiting.into_iter().map(|(rows, tail, level)| of(Priority::ALL[level], rows, tail, submitted)).collect();
            let first = waiting.iter().min_by_key(|slot| slot.rank.at(now));
            let policy = Policy { rows_max, delay: delay_ms * MS, ..Policy::OFF };
            match next(&waiting, policy, now) {
                Step::Rest => prop_assert!(waiting.is_empty()),
                Step::Wait { until } => prop_assert!(until > now && delay_ms > 0),
                Step::Run { places, reason } => {
                    let first = first.expect("somebody waits");
                    prop_assert!(places.iter().any(|place| std::ptr::eq(&raw const waiting[*place], first)));
                    prop_assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
                    prop_assert!(places.iter().all(|place| waiting[*place].tail == first.tail));
                    let rows: Option<usize> = places.iter().map(|place| waiting[*place].rows).sum();
                    prop_assert!(places.len() == 1 || rows.is_some_and(|rows| rows <= rows_max));
                    prop_assert_eq!(reason == BatchReason::Alone, rows_max == 1 || first.rows.is_none());
                }
            }
        }
    }
}
