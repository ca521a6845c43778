//! Who goes first of those that wait, and how much of a queue each priority may fill. Pure: knows no queue and no clock.

use std::time::{Duration, Instant};

use sandmill_domain::{Priority, Urgency};

/// A call that has waited so long goes before all that came later, whatever its priority: however many of a higher one come, they
/// cost it no more than this. A call of less time gets there at half of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a call stands among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    priority: Priority,
    /// From then on it has waited long enough.
    matures: Instant,
}

impl Rank {
    /// Of a call that begins to wait.
    pub(crate) fn new(urgency: Urgency, now: Instant) -> Self {
        let patience = (urgency.deadline.remaining(now) / 2).min(PATIENCE);
        Self { priority: urgency.priority, matures: now + patience }
    }

    /// As which it counts.
    pub(crate) fn at(self, now: Instant) -> Priority {
        if now >= self.matures { Priority::High } else { self.priority }
    }
}

/// Those that wait, with their places in the queue, the first to be served first: by priority, and among equals as they came. Lazy:
/// whoever needs only the first few looks for no more.
pub(crate) fn ranked<I>(
    waiting: I,
    rank: impl Fn(&I::Item) -> Rank + Copy,
    now: Instant,
) -> impl Iterator<Item = (usize, I::Item)>
where
    I: Iterator + Clone,
{
    Priority::ALL
        .into_iter()
        .flat_map(move |priority| waiting.clone().enumerate().filter(move |(_, call)| rank(call).at(now) == priority))
}

/// How much of a queue's bound is there for calls of one priority. Those of a lower one leave some to those of a higher: a crowd of
/// them must not be what refuses these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    max: usize,
    share: usize,
}

impl Room {
    /// All of it, three quarters, or half, rounded up.
    pub(crate) fn of(priority: Priority, max: usize) -> Self {
        let share = match priority {
            Priority::High => max,
            Priority::Normal => max - max / 4,
            Priority::Low => max - max / 2,
        };
        Self { max, share }
    }

    /// What is taken with so much more, if there is room for it: a call that waits alone may take all, else one that is larger than
    /// its share could never run.
    pub(crate) fn add(self, taken: usize, more: usize) -> Option<usize> {
        let max = if taken == 0 { self.max } else { self.share };
        taken.checked_add(more).filter(|total| *total <= max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandmill_domain::Deadline;

    use super::*;

    fn rank(priority: Priority, timeout: Duration, now: Instant) -> Rank {
        Rank::new(Urgency { deadline: Deadline::after(now, timeout), priority }, now)
    }

    #[test]
    fn who_has_waited_long_enough_counts_as_high() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        for (timeout, matures) in [(ms(10_000), ms(1000)), (ms(2000), ms(1000)), (ms(500), ms(250)), (ms(0), ms(0))] {
            let low = rank(Priority::Low, timeout, now);
            assert_eq!(low.at(now + matures), Priority::High, "{timeout:?}");
            if !matures.is_zero() {
                assert_eq!(low.at(now + matures - Duration::from_nanos(1)), Priority::Low, "{timeout:?}");
            }
        }
    }

    #[test]
    fn each_priority_has_its_share_of_the_room() {
        let cases = [
            (Priority::High, 128, 128),
            (Priority::Normal, 128, 96),
            (Priority::Low, 128, 64),
            (Priority::Normal, 2, 2),
            (Priority::Low, 3, 2),
            (Priority::Low, 1, 1),
        ];
        for (priority, max, share) in cases {
            let room = Room::of(priority, max);
            assert_eq!(room.add(share - 1, 1), Some(share), "{priority:?} of {max}");
            assert_eq!(room.add(share, 1), None, "{priority:?} of {max}");
            // Alone, up to the whole.
            assert_eq!(room.add(0, max), Some(max));
            assert_eq!(room.add(0, max + 1), None);
            assert_eq!(room.add(1, max - 1), (max <= share).then_some(max), "{priority:?} of {max}");
        }
        assert_eq!(Room::of(Priority::High, usize::MAX).add(usize::MAX, 1), None);
    }

    fn some_priority() -> impl Strategy<Value = Priority> {
        prop::sample::select(Priority::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn the_order_is_by_priority_and_then_as_they_came(
            waiting in prop::collection::vec((some_priority(), 0_u64..3000), 0..50),
        ) {
            let start = Instant::now();
            let now = start + Duration::from_secs(2);
            let ranks: Vec<Rank> = waiting
                .iter()
                .map(|(priority, millis)| rank(*priority, Duration::from_secs(60), start + Duration::from_millis(*millis)))
                .collect();
            let places: Vec<usize> = ranked(ranks.iter(), |rank| **rank, now).map(|(place, _)| place).collect();
            let mut expected: Vec<usize> = (0..ranks.len()).collect();
            expected.sort_by_key(|place| ranks[*place].at(now));
            prop_assert_eq!(places, expected);
        }

        /// One is served every 10 ms; now and then a few come at once, of any priority.
        #[test]
        fn nobody_waits_for_more_than_those_before_it_once_it_has_waited_long_enough(
            arrivals in prop::collection::vec(prop::collection::vec(some_priority(), 0..4), 1..300),
        ) {
            const STEP: Duration = Duration::from_millis(10);
            let timeout = Duration::from_secs(1);
            let start = Instant::now();
            let mut queue: Vec<(usize, Instant, Rank)> = Vec::new();
            let mut came = 0;
            for (turn, priorities) in arrivals.into_iter().enumerate() {
                let now = start + STEP * u32::try_from(turn).expect("few");
                for priority in priorities {
                    queue.push((came, now, rank(priority, timeout, now)));
                    came += 1;
                }
                let Some((place, _)) = ranked(queue.iter(), |(_, _, rank)| *rank, now).next() else { continue };
                let (served, _, _) = queue.remove(place);
                for (waits, since, _) in &queue {
                    let is_mature = now >= *since + timeout / 2;
                    prop_assert!(!is_mature || served < *waits, "{} went before {}", served, waits);
                }
            }
        }
    }
}
