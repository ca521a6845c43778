//! Who goes first of several flows that share something: the one that has had the least so far, by its weight. Start-time fair
//! queueing (Goyal, Vin and Cheng, 1996), told afterwards what each item has really used. Pure: knows no clock and no lock.
//!
//! Each flow has a tag, what it has used divided by its weight; time goes forward with the tags of those that are served. A flow that
//! was idle comes back at the present time: it has saved nothing up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a flow that was idle may still owe, by a weight of 1; of what it used beyond that, the others do not get theirs.
const DEBT_MAX: Duration = Duration::from_secs(5);
/// What an item uses at least, so that nobody has any number of them for nothing.
const COST_MIN: Duration = Duration::from_micros(1);
/// Idle flows that are remembered, beside one for each that is not idle.
const IDLE_MAX: usize = 64;

/// One of those that share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(NonZeroU64);

impl Flow {
    /// One that there was not before in this process.
    #[expect(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }

    /// Never 0.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

/// One item that waits, or has been served and not yet charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    flow: Flow,
    number: u64,
}

impl Place {
    /// Whose it is.
    pub fn flow(self) -> Flow {
        self.flow
    }
}

/// Nanoseconds divided by a weight, with 32 binary places.
type Tag = u128;

/// What waits, flow by flow.
#[derive(Debug)]
pub struct Fair<T> {
    flows: HashMap<Flow, State<T>>,
    /// Those of which something waits, whose turn it is first.
    line: BTreeSet<(Tag, Flow)>,
    /// The tag of the last that was served, and never back.
    time: Tag,
    places: u64,
    /// With more flows than this it is seen which can be forgotten.
    flows_max: usize,
}

#[derive(Debug)]
struct State<T> {
    weight: NonZeroU32,
    /// What it was charged.
    used: Tag,
    /// What it will be charged for what it has out, if that costs as much as the last did.
    expected: Tag,
    last: Duration,
    waiting: BTreeMap<u64, T>,
    /// By what each is expected to cost.
    out: BTreeMap<u64, Tag>,
}

impl<T> State<T> {
    fn tag(&self) -> Tag {
        self.used + self.expected
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty()
    }
}

fn tag(cost: Duration, weight: NonZeroU32) -> Tag {
    (cost.as_nanos() << 32) / Tag::from(weight.get())
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { flows: HashMap::new(), line: BTreeSet::new(), time: 0, places: 0, flows_max: IDLE_MAX }
    }
}

impl<T> Fair<T> {
    /// One more item of a flow, which has this weight from now on.
    pub fn push(&mut self, flow: Flow, weight: NonZeroU32, item: T) -> Place {
        self.forget();
        let time = self.time;
        let new =
            || State { weight, used: time, expected: 0, last: Duration::ZERO, waiting: BTreeMap::new(), out: BTreeMap::new() };
        let state = self.flows.entry(flow).or_insert_with(new);
        state.weight = weight;
        if state.waiting.is_empty() {
            let owed = if state.is_idle() { tag(DEBT_MAX, weight) } else { Tag::MAX };
            state.used = state.used.clamp(time, time.saturating_add(owed));
            self.line.insert((state.tag(), flow));
        }
        self.places += 1;
        state.waiting.insert(self.places, item);
        Place { flow, number: self.places }
    }

    /// The next item of the flow whose turn it is; it is to be [charged](Fair::charge).
    pub fn pop(&mut self) -> Option<(Place, T)> {
        let (_, flow) = self.line.pop_first()?;
        let state = self.flows.get_mut(&flow)?;
        self.time = self.time.max(state.used);
        let (number, item) = state.waiting.pop_first()?;
        let expected = tag(state.last, state.weight);
        state.out.insert(number, expected);
        state.expected += expected;
        if !state.waiting.is_empty() {
            self.line.insert((state.tag(), flow));
        }
        Some((Place { flow, number }, item))
    }

    /// An item that was served has used so much, at least 1 µs. Of each only once.
    pub fn charge(&mut self, place: Place, cost: Duration) {
        self.change(place.flow, |state| {
            let Some(expected) = state.out.remove(&place.number) else { return };
            let cost = cost.max(COST_MIN);
            state.expected -= expected;
            state.used += tag(cost, state.weight);
            state.last = cost;
        });
    }

    /// An item goes without being served; none if it has been.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        self.change(place.flow, |state| state.waiting.remove(&place.number)).flatten()
    }

    /// An item that waits.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.flows.get_mut(&place.flow)?.waiting.get_mut(&place.number)
    }

    /// Whether nothing of a flow waits or is to be charged.
    pub fn is_idle(&self, flow: Flow) -> bool {
        self.flows.get(&flow).is_none_or(State::is_idle)
    }

    /// Keeps its place in the line right.
    fn change<R>(&mut self, flow: Flow, change: impl FnOnce(&mut State<T>) -> R) -> Option<R> {
        let state = self.flows.get_mut(&flow)?;
        let before = state.tag();
        let changed = change(state);
        if state.tag() != before || state.waiting.is_empty() {
            self.line.remove(&(before, flow));
            if !state.waiting.is_empty() {
                self.line.insert((state.tag(), flow));
            }
        }
        Some(changed)
    }

    /// An idle flow whose tag is past is as one that was never there; if too many owe something, that is forgotten.
    fn forget(&mut self) {
        if self.flows.len() <= self.flows_max {
            return;
        }
        let time = self.time;
        self.flows.retain(|_, state| !state.is_idle() || state.used > time);
        let busy = self.flows.values().filter(|state| !state.is_idle()).count();
        if self.flows.len() > busy + IDLE_MAX {
            self.flows.retain(|_, state| !state.is_idle());
        }
        // Looking at all of them is paid for by as many that came.
        self.flows_max = 2 * self.flows.len() + IDLE_MAX;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn weight(weight: u32) -> NonZeroU32 {
        NonZeroU32::new(weight).unwrap()
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn pop<T>(fair: &mut Fair<T>, cost: u64) -> Option<T> {
        let (place, item) = fair.pop()?;
        fair.charge(place, micros(cost));
        Some(item)
    }

    #[test]
    fn a_flood_goes_after_whoever_has_had_less() {
        let (mut fair, flood, calm) = (Fair::default(), Flow::new(), Flow::new());
        for number in 0..3 {
            fair.push(flood, ONE, format!("flood {number}"));
        }
        assert_eq!(pop(&mut fair, 100).unwrap(), "flood 0");
        fair.push(calm, ONE, "calm 0".to_owned());
        assert_eq!(pop(&mut fair, 30).unwrap(), "calm 0");
        fair.push(calm, ONE, "calm 1".to_owned());
        assert_eq!(pop(&mut fair, 30).unwrap(), "calm 1", "it has had 30 of 100");
        for number in 2..5 {
            fair.push(calm, ONE, format!("calm {number}"));
        }
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut fair, 100)).collect();
        assert_eq!(order, ["calm 2", "flood 1", "calm 3", "flood 2", "calm 4"]);
    }

    #[test]
    fn items_of_one_flow_keep_their_order_and_can_go() {
        let (mut fair, flow) = (Fair::default(), Flow::new());
        let places: Vec<_> = (0..4).map(|item| fair.push(flow, ONE, item)).collect();
        *fair.get_mut(places[2]).unwrap() = 20;
        assert_eq!(fair.remove(places[1]), Some(1));
        assert_eq!(fair.remove(places[1]), None);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut fair, 1)).collect();
        assert_eq!(order, [0, 20, 3]);
        assert!(fair.is_idle(flow));
        let last = fair.push(flow, ONE, 5);
        assert!(!fair.is_idle(flow));
        fair.remove(last);
        assert!(fair.is_idle(flow) && fair.pop().is_none());
    }

    #[test]
    fn an_idle_flow_owes_for_five_seconds_at_most() {
        let (mut fair, spender, other) = (Fair::default(), Flow::new(), Flow::new());
        fair.push(spender, ONE, 's');
        pop(&mut fair, 3_600_000_000);
        fair.push(spender, ONE, 's');
        for _ in 0..10 {
            fair.push(other, ONE, 'o');
        }
        let order: String = std::iter::from_fn(|| pop(&mut fair, 1_000_000)).collect();
        assert_eq!(order, "ooooosooooo");
    }

    #[test]
    fn flows_that_went_away_are_forgotten() {
        let (mut fair, steady) = (Fair::default(), Flow::new());
        for turn in 0..10_000 {
            fair.push(Flow::new(), ONE, ());
            // They owe more and more of the time.
            fair.push(steady, ONE, ());
            while pop(&mut fair, turn).is_some() {}
            assert!(fair.flows.len() <= 2 * (2 * IDLE_MAX + 2) + IDLE_MAX, "{}", fair.flows.len());
        }
        assert!(fair.line.is_empty());
    }

    proptest! {
        /// Two or three flows of which something always waits, with any weights, costs and number of items out at once.
        #[test]
        fn shares_are_as_the_weights_whatever_items_cost(
            flows in vec((1_u32..8, vec(1_u64..400, 1..40)), 2..4),
            out_max in 1_usize..4,
        ) {
            let mut fair = Fair::default();
            let known: Vec<_> = flows.iter().map(|(share, _)| (Flow::new(), weight(*share))).collect();
            let mut used = vec![0_u64; flows.len()];
            let mut turns = vec![0; flows.len()];
            for (index, (flow, weight)) in known.iter().enumerate() {
                (0..=out_max).for_each(|_| _ = fair.push(*flow, *weight, index));
            }
            let mut out = std::collections::VecDeque::new();
            for _ in 0..6_000 {
                let (place, index) = fair.pop().expect("something always waits");
                fair.push(known[index].0, known[index].1, index);
                out.push_back((place, index));
                if out.len() == out_max {
                    let (place, index) = out.pop_front().expect("full");
                    let costs = &flows[index].1;
                    let cost = costs[turns[index] % costs.len()];
                    turns[index] += 1;
                    used[index] += cost;
                    fair.charge(place, micros(cost));
                }
            }
            let shares: Vec<_> = used.iter().zip(&flows).map(|(used, (weight, _))| *used as f64 / f64::from(*weight)).collect();
            // What is out, and the largest item of each, is all that they can be apart.
            let apart = 400.0 * (out_max as f64 + 1.0) * 2.0;
            for pair in shares.windows(2) {
                prop_assert!((pair[0] - pair[1]).abs() <= apart, "{:?} of {:?}", shares, used);
            }
        }

        /// Whoever comes back from a rest, however long, waits for one item of each of the others at most.
        #[test]
        fn nobody_starves(costs in vec(vec(0_u64..1_000, 1..10), 1..6), before in 0_usize..200) {
            let mut fair = Fair::default();
            let others: Vec<_> = costs.iter().map(|_| Flow::new()).collect();
            let mut turns = 0;
            others.iter().enumerate().for_each(|(index, flow)| _ = fair.push(*flow, ONE, Some(index)));
            let mut serve = |fair: &mut Fair<Option<usize>>| {
                let (place, index) = fair.pop().expect("something always waits");
                let Some(index) = index else { return true };
                turns += 1;
                fair.push(others[index], ONE, Some(index));
                fair.charge(place, micros(costs[index][turns % costs[index].len()]));
                false
            };
            (0..before).for_each(|_| _ = serve(&mut fair));
            fair.push(Flow::new(), ONE, None);
            let waited = (0..).take_while(|_| !serve(&mut fair)).count();
            prop_assert!(waited <= costs.len(), "{waited}");
        }

        /// As long as anything waits something is served, and all that came goes out, once.
        #[test]
        fn nothing_is_lost_and_nobody_rests_while_something_waits(
            steps in vec((0_usize..4, 0_usize..5, 0_u64..50), 0..400),
        ) {
            let mut fair = Fair::default();
            let flows = [(); 5].map(|()| Flow::new());
            let (mut waiting, mut out, mut came) = (Vec::new(), Vec::new(), 0_u64);
            for (step, flow, cost) in steps {
                match step {
                    0 | 1 => {
                        waiting.push((fair.push(flows[flow], weight([1, 2, 3, 5, 8][flow]), came), came));
                        came += 1;
                    }
                    2 => {
                        let popped = fair.pop();
                        prop_assert_eq!(popped.is_some(), !waiting.is_empty());
                        if let Some(popped) = popped {
                            let at = waiting.iter().position(|found| *found == popped);
                            prop_assert!(at.is_some(), "{:?}", popped);
                            waiting.swap_remove(at.expect("found"));
                            out.push(popped.0);
                        }
                    }
                    _ if cost % 2 == 0 && !waiting.is_empty() => {
                        let (place, item) = waiting.swap_remove(flow % waiting.len());
                        prop_assert_eq!(fair.remove(place), Some(item));
                    }
                    _ => out.pop().into_iter().for_each(|place| fair.charge(place, micros(cost))),
                }
                let busy = flows.iter().filter(|flow| waiting.iter().any(|(place, _)| place.flow() == **flow)).count();
                prop_assert_eq!(fair.line.len(), busy);
                for flow in flows {
                    let idle = !waiting.iter().map(|(place, _)| place).chain(&out).any(|place| place.flow() == flow);
                    prop_assert_eq!(fair.is_idle(flow), idle);
                }
            }
        }

        /// A rest, however long, gives no claim to what was not used in it.
        #[test]
        fn a_rest_saves_nothing_up(rest in 1_u64..500, cost in 1_u64..100) {
            let (mut fair, busy, rested) = (Fair::default(), Flow::new(), Flow::new());
            fair.push(rested, ONE, 'r');
            pop(&mut fair, cost);
            for _ in 0..rest {
                fair.push(busy, ONE, 'b');
                pop(&mut fair, cost);
            }
            for _ in 0..10 {
                fair.push(busy, ONE, 'b');
                fair.push(rested, ONE, 'r');
            }
            let served: Vec<_> = std::iter::from_fn(|| pop(&mut fair, cost)).collect();
            for part in served.windows(3) {
                prop_assert!(part.contains(&'b') && part.contains(&'r'), "{:?}", served);
            }
        }
    }
}
