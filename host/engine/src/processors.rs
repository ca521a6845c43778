//! Turns on the processors for runs on models' own threads. The kernel shares processors out thread by thread: whoever has more models,
//! or more threads, would have more of them. Here a run first takes a turn, of which there are as many as processors, and of those that
//! wait, it goes to whoever has had the least by its weight ([`sandmill_domain::fair`]). Knows nothing of what is run, and of whom.

use std::fmt::{self, Debug, Formatter};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use sandmill_domain::fair::{Flow, Place};
use sandmill_domain::ports::{BoxFuture, Share};
use sandmill_domain::turns::Turns;

use crate::lock;
use crate::trial::cpu_time;

/// The turns of all models.
pub(crate) struct Processors {
    /// The number of the flow that is alone and needs none; 0 if several are there.
    alone: AtomicU64,
    waiting: Mutex<Turns<Thread>>,
}

impl Processors {
    /// As many as the process may use.
    pub(crate) fn of_this_machine() -> Arc<Self> {
        Self::new(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { alone: AtomicU64::new(0), waiting: Mutex::new(Turns::new(count)) })
    }

    #[cfg(test)]
    pub(crate) fn is_idle(&self, part: &Part) -> bool {
        lock(&self.waiting).is_idle(part.share.flow())
    }

    fn grant(waiting: &mut MutexGuard<'_, Turns<Thread>>) {
        while let Some(thread) = waiting.grant() {
            thread.unpark();
        }
    }
}

/// What a model has of them, as one of those of its share.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) processors: Arc<Processors>,
    pub(crate) share: Arc<dyn Share>,
    /// How many threads work in one run.
    pub(crate) threads: u32,
}

impl Debug for Part {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Part").field("flow", &self.share.flow()).finish_non_exhaustive()
    }
}

/// All turns were others' for as long as one would wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Part {
    /// Waits for a turn, for so long at most; none is needed while nobody else runs anything.
    ///
    /// # Errors
    /// [`Busy`]; whoever asks again stands where it stood, beside other flows.
    pub(crate) fn take(&self, patience: Duration) -> Result<Option<Arc<Processor>>, Busy> {
        let (flow, processors) = (self.share.flow(), &self.processors);
        if processors.alone.load(Ordering::Relaxed) == flow.number() {
            return Ok(None);
        }
        let now = Instant::now();
        let place = {
            let mut waiting = lock(&processors.waiting);
            let is_alone = waiting.meet(flow, now);
            processors.alone.store(waiting.alone().map_or(0, Flow::number), Ordering::Relaxed);
            if is_alone {
                return Ok(None);
            }
            let place = waiting.ask(flow, self.share.weight(), thread::current());
            Processors::grant(&mut waiting);
            place
        };
        self.wait(place, now + patience).map(Some)
    }

    fn wait(&self, place: Place, until: Instant) -> Result<Arc<Processor>, Busy> {
        loop {
            let mut waiting = lock(&self.processors.waiting);
            if waiting.take(place) {
                drop(waiting);
                let (processors, threads) = (Arc::clone(&self.processors), self.threads);
                let (begun, worked, back) = (Instant::now(), cpu_time(), AtomicBool::new(false));
                return Ok(Arc::new(Processor { processors, place, threads, begun, worked, back }));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                waiting.leave(place);
                Processors::grant(&mut waiting);
                return Err(Busy);
            }
            drop(waiting);
            thread::park_timeout(left);
        }
    }

    /// The same work, of which each poll takes its turn among those on threads that carry requests.
    pub(crate) fn pace(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Arc::clone(&self.share).pace(work)
    }
}

/// A turn in use; the thread that has it gives it back by dropping it.
pub(crate) struct Processor {
    processors: Arc<Processors>,
    place: Place,
    threads: u32,
    begun: Instant,
    /// What its thread had used by then.
    worked: Duration,
    back: AtomicBool,
}

impl Processor {
    /// Takes it from a run that does not end: others wait.
    pub(crate) fn take_away(this: &Weak<Self>) {
        if let Some(processor) = this.upgrade() {
            processor.give_back(processor.begun.elapsed());
        }
    }

    fn give_back(&self, used: Duration) {
        if !self.back.swap(true, Ordering::AcqRel) {
            let mut waiting = lock(&self.processors.waiting);
            waiting.end(self.place, used.saturating_mul(self.threads));
            Processors::grant(&mut waiting);
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.give_back(cpu_time().saturating_sub(self.worked));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Somebody.
    pub(crate) struct Somebody(pub(crate) Flow);

    impl Share for Somebody {
        fn flow(&self) -> Flow {
            self.0
        }

        fn weight(&self) -> NonZeroU32 {
            NonZeroU32::MIN
        }

        fn pace(self: Arc<Self>, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
            work
        }
    }

    pub(crate) fn part(processors: &Arc<Processors>) -> Part {
        Part { processors: Arc::clone(processors), share: Arc::new(Somebody(Flow::new())), threads: 1 }
    }

    #[test]
    fn who_is_alone_needs_no_turn_and_others_take_them() {
        let processors = Processors::new(1);
        let (one, other) = (part(&processors), part(&processors));
        for _ in 0..3 {
            assert!(one.take(Duration::ZERO).unwrap().is_none());
        }
        let held = other.take(Duration::ZERO).unwrap().unwrap();
        assert_eq!(one.take(Duration::from_millis(1)).err(), Some(Busy));
        drop(held);
        assert!(one.take(Duration::ZERO).unwrap().is_some());
        assert_eq!(lock(&processors.waiting).out(), 0);
    }

    #[test]
    fn a_turn_is_handed_to_a_thread_that_waits() {
        let processors = Processors::new(1);
        let (one, other) = (part(&processors), part(&processors));
        one.take(LONG).unwrap();
        let held = other.take(LONG).unwrap().unwrap();
        let (waits, waiting) = mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                waits.send(()).unwrap();
                one.take(LONG).unwrap().is_some()
            });
            waiting.recv().unwrap();
            drop(held);
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn what_is_taken_away_comes_back_once() {
        let processors = Processors::new(1);
        let (one, other) = (part(&processors), part(&processors));
        one.take(LONG).unwrap();
        let stray = other.take(LONG).unwrap().unwrap();
        Processor::take_away(&Arc::downgrade(&stray));
        let next = one.take(Duration::ZERO).unwrap().unwrap();
        drop(stray);
        assert_eq!(lock(&processors.waiting).out(), 1);
        drop(next);
        assert_eq!(lock(&processors.waiting).out(), 0);
    }
}
