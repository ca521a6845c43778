//! So many turns at once for those who share the processors, given to whoever has had the least ([`crate::fair`]); and whether anybody
//! shares at all: a flow that is alone need not ask. Pure: a waiting item is whatever wakes who waits, and time is given.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::fair::{Fair, Flow, Place};

/// A flow counts as there for so long after it last asked.
const LINGER: Duration = Duration::from_millis(100);
/// How often it is seen who is there no more.
const LOOK: Duration = Duration::from_millis(10);

/// The turns, and who waits for one.
#[derive(Debug)]
pub struct Turns<T> {
    max: usize,
    fair: Fair<T>,
    /// Given, and whether whoever got it knows.
    out: HashMap<Place, bool>,
    /// When each flow was last seen.
    seen: HashMap<Flow, Instant>,
    alone: Option<Flow>,
    looked: Option<Instant>,
}

impl<T> Turns<T> {
    /// So many turns, at least one.
    pub fn new(max: usize) -> Self {
        let (out, seen) = (HashMap::new(), HashMap::new());
        Self { max: max.max(1), fair: Fair::default(), out, seen, alone: None, looked: None }
    }

    /// A flow is there: whether alone, so that it needs no turns until another comes.
    pub fn meet(&mut self, flow: Flow, now: Instant) -> bool {
        if self.alone.is_some_and(|alone| alone != flow) {
            // Who was alone has not been seen since: it has not asked.
            self.seen.values_mut().for_each(|seen| *seen = now);
            self.looked = Some(now);
        }
        self.seen.insert(flow, now);
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK) {
            self.looked = Some(now);
            let Self { seen, fair, .. } = self;
            seen.retain(|flow, seen| now.saturating_duration_since(*seen) < LINGER || !fair.is_idle(*flow));
        }
        let is_alone = self.seen.len() == 1;
        self.alone = is_alone.then_some(flow);
        is_alone
    }

    /// The flow that needs no turns at the moment.
    pub fn alone(&self) -> Option<Flow> {
        self.alone
    }

    /// Begins to wait for a turn.
    pub fn ask(&mut self, flow: Flow, weight: NonZeroU32, item: T) -> Place {
        self.fair.push(flow, weight, item)
    }

    /// Gives a turn, if one is free, to the fairest of those that wait: it is to be woken, and to [take](Turns::take) it.
    pub fn grant(&mut self) -> Option<T> {
        if self.out.len() >= self.max {
            return None;
        }
        let (place, item) = self.fair.pop()?;
        self.out.insert(place, false);
        Some(item)
    }

    /// Whether a turn was given; from now on it is in use.
    pub fn take(&mut self, place: Place) -> bool {
        self.out.get_mut(&place).map(|taken| *taken = true).is_some()
    }

    /// What wakes somebody who waits; none if it was given a turn.
    pub fn waker(&mut self, place: Place) -> Option<&mut T> {
        self.fair.get_mut(place)
    }

    /// Waits no more; a turn that was given meanwhile goes back, unused.
    pub fn leave(&mut self, place: Place) {
        if self.fair.remove(place).is_none() {
            self.end(place, Duration::ZERO);
        }
    }

    /// Gives a turn back, in which so much was used.
    pub fn end(&mut self, place: Place, cost: Duration) {
        if self.out.remove(&place).is_some() {
            self.fair.charge(place, cost);
        }
    }

    /// Whether nothing of a flow waits or has a turn.
    pub fn is_idle(&self, flow: Flow) -> bool {
        self.fair.is_idle(flow)
    }

    /// Turns that are given.
    pub fn out(&self) -> usize {
        self.out.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn who_is_alone_is_told_so_until_another_comes_and_some_time_after_it_went() {
        let (mut turns, start) = (Turns::<()>::new(2), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let (one, two) = (Flow::new(), Flow::new());
        assert!(turns.meet(one, at(0)));
        // It does not ask while it is alone.
        assert!(!turns.meet(two, at(10_000)));
        assert_eq!(turns.alone(), None);
        assert!(!turns.meet(one, at(10_050)));
        assert!(!turns.meet(one, at(10_099)), "the other has just been there");
        assert!(turns.meet(one, at(10_110)));
        assert_eq!(turns.alone(), Some(one));
        // Who was alone and is gone: the next is alone after as long.
        assert!(!turns.meet(two, at(20_000)));
        assert!(turns.meet(two, at(20_100)));
    }

    #[test]
    fn who_waits_or_has_a_turn_is_there() {
        let (mut turns, start) = (Turns::new(1), Instant::now());
        let (one, two) = (Flow::new(), Flow::new());
        turns.meet(one, start);
        turns.meet(two, start);
        let place = turns.ask(one, ONE, ());
        let later = start + 50 * LINGER;
        assert!(!turns.meet(two, later));
        assert_eq!(turns.grant(), Some(()));
        assert!(turns.take(place));
        assert!(!turns.meet(two, later + LINGER));
        turns.end(place, LINGER);
        assert!(turns.meet(two, later + 2 * LINGER));
    }

    #[test]
    fn a_turn_that_is_given_and_not_taken_comes_back() {
        let mut turns = Turns::new(1);
        let (one, two) = (Flow::new(), Flow::new());
        let (first, second) = (turns.ask(one, ONE, 1), turns.ask(two, ONE, 2));
        assert_eq!((turns.grant(), turns.grant()), (Some(1), None));
        assert!(!turns.take(second) && turns.waker(second).is_some());
        turns.leave(first);
        assert_eq!(turns.grant(), Some(2));
        assert!(turns.take(second));
        turns.end(second, Duration::ZERO);
        turns.end(second, Duration::ZERO);
        turns.leave(second);
        assert_eq!(turns.out(), 0);
    }

    proptest! {
        /// Whatever comes, no more turns are out than there are, none is free while somebody waits, and all come back.
        #[test]
        fn turns_are_bounded_used_and_come_back(
            max in 1_usize..5,
            steps in vec((0_u8..4, any::<prop::sample::Index>(), 0_u64..300), 0..1_000),
        ) {
            let (mut turns, mut now) = (Turns::new(max), Instant::now());
            let flows = [(); 4].map(|()| Flow::new());
            let (mut asked, mut used) = (Vec::new(), Vec::new());
            for (step, index, micros) in steps {
                now += Duration::from_micros(micros);
                match step {
                    0 | 1 => {
                        let flow = *index.get(&flows);
                        turns.meet(flow, now);
                        asked.push(turns.ask(flow, ONE, ()));
                    }
                    2 if !asked.is_empty() => {
                        let place = asked.swap_remove(index.index(asked.len()));
                        if turns.take(place) { used.push(place) } else { turns.leave(place) }
                    }
                    3 if !used.is_empty() => {
                        turns.end(used.swap_remove(index.index(used.len())), Duration::from_micros(micros));
                    }
                    _ => {}
                }
                while turns.grant().is_some() {}
                let wanted = asked.len() + used.len();
                prop_assert_eq!(turns.out(), wanted.min(max));
            }
            used.into_iter().for_each(|place| turns.end(place, Duration::ZERO));
            asked.into_iter().for_each(|place| turns.leave(place));
            prop_assert_eq!(turns.out(), 0);
            prop_assert!(flows.iter().all(|flow| turns.fair.is_idle(*flow)));
        }
    }
}
