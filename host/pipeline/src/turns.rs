//! Turns for the work of calls on threads that carry requests. The runtime polls what is ready in the order in which it became so:
//! many calls of one tenant, each of which works for up to a millisecond in one poll, would stand before another's one. Here each poll
//! is a slice that waits for its turn, and of those that wait, the tenant's goes first that has had the least by its weight
//! ([`sandmill_domain::fair`]). Knows nothing of what a slice does.
//!
//! A tenant that is alone is found so by one load of a value that changes only when others come and go.

use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sandmill_domain::fair::{Flow, Place};
use sandmill_domain::turns;

use crate::clock::now;

/// The turns of a host; as many as it has threads that carry requests.
#[derive(Debug)]
#[repr(align(128))]
pub struct Turns {
    /// The number of the flow that is alone; 0 if several are there, or none. On a cache line without what waiting changes.
    alone: AtomicU64,
    waiting: Mutex<turns::Turns<Waker>>,
    /// How much the current thread has worked so far.
    clock: fn() -> Duration,
}

impl Turns {
    /// So many at once, at least one.
    pub fn new(max: usize) -> Arc<Self> {
        Self::timed(max, cpu_time)
    }

    fn timed(max: usize, clock: fn() -> Duration) -> Arc<Self> {
        Arc::new(Self { alone: AtomicU64::new(0), waiting: Mutex::new(turns::Turns::new(max)), clock })
    }

    fn waiting(&self) -> MutexGuard<'_, turns::Turns<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turns that are free.
    fn grant<'a>(&'a self, mut waiting: MutexGuard<'a, turns::Turns<Waker>>) {
        while let Some(waker) = waiting.grant() {
            // A waker runs code of whoever made it.
            drop(waiting);
            waker.wake();
            waiting = self.waiting();
        }
    }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// What one tenant takes turns as. On cache lines of its own, which nobody writes to.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Party {
    turns: Arc<Turns>,
    pub(crate) flow: Flow,
    weight: AtomicU32,
}

impl Party {
    pub(crate) fn new(turns: &Arc<Turns>, weight: NonZeroU32) -> Self {
        Self { turns: Arc::clone(turns), flow: Flow::new(), weight: AtomicU32::new(weight.get()) }
    }

    pub(crate) fn weight(&self) -> NonZeroU32 {
        NonZeroU32::new(self.weight.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }

    /// From the next slice on.
    pub(crate) fn set_weight(&self, weight: NonZeroU32) {
        self.weight.store(weight.get(), Ordering::Relaxed);
    }

    /// Does the work, of which each poll waits for its turn; and tells how long it has waited, if it had to ask at all. If it is
    /// dropped, its turn is another's.
    pub(crate) async fn pace<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> (T, Option<Duration>) {
        let mut slices = Slices { party: self, place: None, asked: None, waited: None };
        let done = poll_fn(|context| slices.poll(context, work.as_mut())).await;
        (done, slices.waited)
    }

    fn is_alone(&self) -> bool {
        self.turns.alone.load(Ordering::Relaxed) == self.flow.number()
    }
}

/// Of one call.
struct Slices<'a> {
    party: &'a Party,
    /// Where it waits.
    place: Option<Place>,
    asked: Option<Instant>,
    waited: Option<Duration>,
}

impl Slices<'_> {
    fn poll<T>(&mut self, context: &mut Context<'_>, work: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        let Some(place) = self.place else {
            if self.party.is_alone() || self.ask(context.waker()) {
                return work.poll(context);
            }
            // All that are ready come to ask before anybody is given a turn, and what sockets have brought is seen: the runtime
            // wakes who has yielded after that.
            let _pending = pin!(tokio::task::yield_now()).poll(context);
            return Poll::Pending;
        };
        if !self.is_granted(place, context.waker()) {
            return Poll::Pending;
        }
        // From here on the turn is what gives it back.
        self.place = None;
        self.waited = self.asked.take().map(|asked| self.waited.unwrap_or_default() + now().saturating_duration_since(asked));
        let turns = &*self.party.turns;
        let _turn = Turn { turns, place, begun: (turns.clock)() };
        work.poll(context)
    }

    /// Begins to wait; or is alone, after all.
    fn ask(&mut self, waker: &Waker) -> bool {
        let (party, now) = (self.party, now());
        let mut waiting = party.turns.waiting();
        let is_alone = waiting.meet(party.flow, now);
        party.turns.alone.store(waiting.alone().map_or(0, Flow::number), Ordering::Relaxed);
        if !is_alone {
            self.place = Some(waiting.ask(party.flow, party.weight(), waker.clone()));
            self.asked = Some(now);
        }
        is_alone
    }

    fn is_granted(&self, place: Place, waker: &Waker) -> bool {
        let turns = &self.party.turns;
        let mut waiting = turns.waiting();
        match waiting.waker(place) {
            Some(known) => known.clone_from(waker),
            None => return waiting.take(place),
        }
        turns.grant(waiting);
        turns.waiting().take(place)
    }
}

impl Drop for Slices<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut waiting = self.party.turns.waiting();
            waiting.leave(place);
            self.party.turns.grant(waiting);
        }
    }
}

/// A turn in use; given back when it is dropped, by a panic too.
struct Turn<'a> {
    turns: &'a Turns,
    place: Place,
    begun: Duration,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let used = (self.turns.clock)().saturating_sub(self.begun);
        let mut waiting = self.turns.waiting();
        waiting.end(self.place, used);
        self.turns.grant(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use futures_util::future::{join_all, poll_immediate};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::*;

    thread_local!(static WORKED: Cell<Duration> = const { Cell::new(Duration::ZERO) });

    fn turns(max: usize) -> Arc<Turns> {
        Turns::timed(max, || WORKED.get())
    }

    fn party(turns: &Arc<Turns>, weight: u32) -> Party {
        Party::new(turns, NonZeroU32::new(weight).unwrap())
    }

    fn out(turns: &Turns) -> usize {
        turns.waiting().out()
    }

    /// Who had each slice.
    type Log = Rc<RefCell<String>>;

    /// Slices of so many µs each.
    async fn call(party: &Party, name: char, slices: usize, micros: u64, log: Log) -> Option<Duration> {
        let work = pin!(async {
            for _ in 0..slices {
                WORKED.set(WORKED.get() + Duration::from_micros(micros));
                log.borrow_mut().push(name);
                yield_now().await;
            }
        });
        party.pace(work).await.1
    }

    /// Both are there.
    fn meet(one: &Party, other: &Party) {
        for party in [one, other] {
            let mut slices = Slices { party, place: None, asked: None, waited: None };
            slices.ask(Waker::noop());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_neither_waits_nor_takes_turns() {
        let turns = turns(1);
        let (one, other, log) = (party(&turns, 1), party(&turns, 1), Log::default());
        let calls = (0..3).map(|_| call(&one, 'a', 2, 10, Rc::clone(&log)));
        assert_eq!(join_all(calls).await, [None; 3]);
        assert!(one.is_alone());
        assert!(call(&other, 'b', 1, 10, Rc::clone(&log)).await.is_some());
        assert!(!one.is_alone() && !other.is_alone());
        assert!(call(&one, 'a', 1, 10, Rc::clone(&log)).await.is_some(), "the other may come again");
        advance(Duration::from_millis(110)).await;
        assert_eq!(call(&one, 'a', 1, 10, log).await, None);
        assert!(one.is_alone());
        assert_eq!(out(&turns), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_does_not_wait_for_a_flood() {
        let turns = turns(1);
        let (flood, calm, log) = (party(&turns, 1), party(&turns, 1), Log::default());
        meet(&flood, &calm);
        let many = join_all((0..20).map(|_| call(&flood, 'f', 3, 100, Rc::clone(&log))));
        let one = async {
            // The flood has had its first slices.
            for _ in 0..8 {
                yield_now().await;
            }
            log.borrow_mut().push('!');
            call(&calm, 'c', 3, 100, Rc::clone(&log)).await
        };
        tokio::join!(many, one);
        let log = log.take();
        let after = log.split('!').nth(1).unwrap();
        let last = after.rfind('c').unwrap();
        let before = after[..last].matches('f').count();
        assert!(before <= 3, "{before} slices of the flood were before three of the other's: {log}");
        assert_eq!(log.len(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn slices_are_had_in_proportion_to_weights_and_what_they_cost() {
        let turns = turns(2);
        let (light, heavy, log) = (party(&turns, 1), party(&turns, 1), Log::default());
        heavy.set_weight(NonZeroU32::new(3).unwrap());
        meet(&light, &heavy);
        let many = |party, name, micros| {
            let log = &log;
            join_all((0..10).map(move |_| call(party, name, 60, micros, Rc::clone(log))))
        };
        tokio::join!(many(&light, 'l', 50), many(&heavy, 'h', 100));
        // While both had some left.
        let log = log.take();
        let (light, heavy) = (log[..600].matches('l').count(), log[..600].matches('h').count());
        let ratio = heavy as f64 * 100.0 / (light as f64 * 50.0);
        assert!((2.8..3.2).contains(&ratio), "{ratio}: {heavy} of 100 µs and {light} of 50");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_gives_the_turn_back() {
        let turns = turns(1);
        let (one, other) = (Arc::new(party(&turns, 1)), party(&turns, 1));
        meet(&one, &other);
        let broken = tokio::spawn(async move { one.pace(pin!(async { panic!("this one breaks") })).await.0 });
        assert!(broken.await.unwrap_err().is_panic());
        assert_eq!(out(&turns), 0);
        assert!(call(&other, 'o', 1, 1, Log::default()).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_hands_its_turn_on() {
        let turns = turns(1);
        let (one, other) = (party(&turns, 1), party(&turns, 1));
        meet(&one, &other);
        let mut calls: Vec<_> = (0..3).map(|_| Box::pin(call(&one, 'o', 1, 1, Log::default()))).collect();
        for call in &mut calls {
            assert!(poll_immediate(call).await.is_none(), "it has only asked");
        }
        // The first is given the turn, by the third, and does not know it yet.
        assert!(poll_immediate(&mut calls[2]).await.is_none());
        assert_eq!(out(&turns), 1);
        drop(calls.remove(1));
        drop(calls.remove(0));
        assert_eq!(out(&turns), 1, "it is the third's now");
        assert!(calls.remove(0).await.is_some());
        assert_eq!(out(&turns), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10))]

        /// Whoever comes, is polled, goes on or goes away: no more turns are out than there are, and all come back.
        #[test]
        fn turns_come_back_from_whoever(
            max in 1_usize..4,
            events in vec((0_u8..4, any::<prop::sample::Index>(), 0_u64..200), 1_000),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let turns = turns(max);
                let parties = [1, 2, 3].map(|weight| party(&turns, weight));
                let mut calls = Vec::new();
                for (event, index, micros) in events {
                    match event {
                        0 if calls.len() < 50 => {
                            let party = index.get(&parties);
                            calls.push(Box::pin(call(party, 'x', index.index(5), micros, Log::default())));
                        }
                        0 | 1 if !calls.is_empty() => drop(calls.swap_remove(index.index(calls.len()))),
                        2 if micros < 3 => advance(Duration::from_millis(60)).await,
                        _ if !calls.is_empty() => {
                            let at = index.index(calls.len());
                            if poll_immediate(&mut calls[at]).await.is_some() {
                                drop(calls.swap_remove(at));
                            }
                        }
                        _ => {}
                    }
                    assert!(out(&turns) <= max);
                }
                join_all(calls).await;
                assert_eq!(out(&turns), 0);
            });
        }
    }
}
