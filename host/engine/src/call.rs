//! One call that is asked for: its inputs, its reply, and how it ends early; and the run that it shares with others. Knows nothing of
//! queues and of how a run is made.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use ort::session::RunOptions;
use sandmill_domain::ports::Inference;
use sandmill_domain::{Blame, Code, Deadline, Fault, Priority, Tensor, Urgency};
use tokio::sync::oneshot;

use crate::batch::Slot;
use crate::lock;
use crate::order::Room;
use crate::processors::Processor;
use crate::session::Live;
use crate::watchdog::{Expire, Watch, Watchdog};

/// A run ends between two kernels: one that has not, so long after it was told to, is left to itself.
const STRAY_AFTER: Duration = Duration::from_secs(1);

/// What a call ends with.
pub(crate) type Outcome = Result<Inference, Fault>;

/// One call, shared by the caller's future, the watchdog and the context that runs it. Whoever of them takes the reply first
/// ends the call.
pub(crate) struct Call {
    pub(crate) slot: Slot,
    pub(crate) deadline: Deadline,
    pub(crate) priority: Priority,
    state: Mutex<State>,
}

struct State {
    reply: Option<oneshot::Sender<Outcome>>,
    /// None once a context has begun.
    work: Option<Work>,
    /// The run that it is in.
    run: Option<Arc<Run>>,
    begun: Option<Instant>,
}

/// What a call holds while it waits.
pub(crate) struct Work {
    pub(crate) inputs: Vec<Tensor>,
    /// Counts against the queue's bound.
    pub(crate) _bytes: Bytes,
}

impl Call {
    /// A call that waits, and where its outcome will be found.
    pub(crate) fn new(work: Work, slot: Slot, urgency: Urgency) -> (Arc<Self>, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let state = Mutex::new(State { reply: Some(reply), work: Some(work), run: None, begun: None });
        let Urgency { deadline, priority } = urgency;
        (Arc::new(Self { slot, deadline, priority, state }), outcome)
    }

    /// Whether anybody still waits for the outcome.
    pub(crate) fn is_wanted(&self) -> bool {
        lock(&self.state).reply.is_some()
    }

    /// Its inputs, if anybody still waits for the outcome.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> Option<Vec<Tensor>> {
        if self.deadline.is_past(now) {
            Arc::clone(self).expire();
        }
        let mut state = lock(&self.state);
        let wanted = state.reply.is_some();
        state.work.take().filter(|_| wanted).map(|work| work.inputs)
    }

    /// From now on it is in this run, which ends early when all of its calls have ended; false if it has ended before.
    pub(crate) fn join(&self, run: &Arc<Run>) -> bool {
        let mut state = lock(&self.state);
        if state.reply.is_none() {
            return false;
        }
        run.calls.fetch_add(1, Ordering::Relaxed);
        state.run = Some(Arc::clone(run));
        state.begun = Some(Instant::now());
        true
    }

    /// Gives the outcome to the caller, if it still waits.
    pub(crate) fn end(&self, outcome: Outcome) {
        let reply = lock(&self.state).reply.take();
        if let Some(reply) = reply {
            // An error says that the caller has just gone: then nobody wants the outcome.
            drop(reply.send(outcome));
        }
    }

    /// Frees what a waiting call holds and leaves a run that is under way; gives the reply, if nobody has had it, and when the
    /// run had begun.
    fn stop(&self) -> Option<(oneshot::Sender<Outcome>, Option<Instant>)> {
        let (reply, _work, run, begun) = {
            let mut state = lock(&self.state);
            (state.reply.take()?, state.work.take(), state.run.take(), state.begun)
        };
        if let Some(run) = run {
            run.leave();
        }
        Some((reply, begun))
    }
}

impl Expire for Call {
    fn expire(self: Arc<Self>) {
        if let Some(run) = &lock(&self.state).run {
            run.overran.store(true, Ordering::Relaxed);
        }
        if let Some((reply, begun)) = self.stop() {
            let ran = begun.is_some_and(|begun| begun.elapsed() >= begun.saturating_duration_since(self.slot.submitted));
            drop(reply.send(Err(late(ran))));
        }
    }
}

impl Expire for Run {
    /// It is told to end, and when that has not helped, left to itself.
    fn expire(self: Arc<Self>) {
        let told = self.progress.compare_exchange(UNDER_WAY, TOLD, Ordering::AcqRel, Ordering::Acquire);
        if told.is_ok() {
            if let Err(error) = self.options.terminate() {
                tracing::warn!(%error, "a run cannot be ended");
            }
            if let Some(owner) = self.owner.upgrade() {
                let watch = owner.watchdog().watch(Instant::now() + STRAY_AFTER, Arc::clone(&self) as Arc<dyn Expire>);
                *lock(&self.watch) = Some(watch);
                // It may have ended meanwhile, and found no watch to drop.
                if self.progress.load(Ordering::Acquire) == OVER {
                    lock(&self.watch).take();
                }
            }
            return;
        }
        let strays = self.progress.compare_exchange(TOLD, STRAY, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if let Some(owner) = self.owner.upgrade().filter(|_| strays) {
            owner.abandon(&self);
        }
    }
}

/// Whose runs they are.
pub(crate) trait Owner: Send + Sync {
    fn watchdog(&self) -> &Watchdog;

    /// A run did not end when it was told to. Called on the watchdog's thread.
    fn abandon(&self, run: &Run);
}

/// One run of a model, for one call or for several.
pub(crate) struct Run {
    /// Made anew for every run: its terminate flag stays set, and must not hit the next.
    pub(crate) options: RunOptions,
    /// Those that still want it, and whoever is about to make it.
    calls: AtomicUsize,
    owner: Weak<dyn Owner>,
    /// Whether it is made on a thread that carries requests.
    pub(crate) here: bool,
    /// What it is made on, once that is known.
    pub(crate) live: OnceLock<Weak<Live>>,
    /// The turn in which it is made, if there is one.
    pub(crate) processor: OnceLock<Weak<Processor>>,
    /// One of the four below.
    progress: AtomicU8,
    /// Whether a deadline has passed while it was under way.
    overran: AtomicBool,
    /// Over whether it ends when it was told to.
    watch: Mutex<Option<Watch>>,
}

const UNDER_WAY: u8 = 0;
const TOLD: u8 = 1;
const STRAY: u8 = 2;
const OVER: u8 = 3;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// It was ended at a deadline.
    pub(crate) overran: bool,
    /// It had been left to itself before.
    pub(crate) stray: bool,
}

impl Run {
    pub(crate) fn new(owner: Weak<dyn Owner>, here: bool) -> ort::Result<Arc<Self>> {
        Self::with(RunOptions::new()?, owner, here)
    }

    /// After it, memory that the session's arena does not need any more goes back to the system.
    pub(crate) fn last_for_a_while(owner: Weak<dyn Owner>) -> ort::Result<Arc<Self>> {
        let mut options = RunOptions::new()?;
        options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        Self::with(options, owner, false)
    }

    fn with(options: RunOptions, owner: Weak<dyn Owner>, here: bool) -> ort::Result<Arc<Self>> {
        let (calls, progress, overran) = (AtomicUsize::new(1), AtomicU8::new(UNDER_WAY), AtomicBool::new(false));
        let (live, processor, watch) = (OnceLock::new(), OnceLock::new(), Mutex::new(None));
        Ok(Arc::new(Self { options, calls, owner, here, live, processor, progress, overran, watch }))
    }

    /// The last to leave ends it. Whoever makes it leaves when all calls have joined: then a count of zero is final.
    pub(crate) fn leave(self: &Arc<Self>) {
        if self.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            Arc::clone(self).expire();
        }
    }

    /// Whoever has made it says that it is over.
    pub(crate) fn over(&self) -> Ended {
        let before = self.progress.swap(OVER, Ordering::AcqRel);
        // Before it is told to end there is none.
        if before != UNDER_WAY {
            drop(lock(&self.watch).take());
        }
        Ended { overran: before != UNDER_WAY && self.overran.load(Ordering::Relaxed), stray: before == STRAY }
    }
}

/// The deadline passed: for most of the time the model ran, or the call waited for it.
pub(crate) fn late(ran: bool) -> Fault {
    if ran {
        Fault::new(Code::DeadlineExceeded, "the model did not answer in time").blaming(Blame::Model)
    } else {
        Fault::new(Code::DeadlineExceeded, "the request's time was over before the model was free")
    }
}

/// The caller's end of a call: dropped before the outcome is there, it ends the call.
pub(crate) struct Answer {
    pub(crate) call: Arc<Call>,
    pub(crate) outcome: oneshot::Receiver<Outcome>,
    pub(crate) _watch: Watch,
}

impl Answer {
    /// Waits for the outcome, to the deadline at most.
    pub(crate) async fn wait(mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        outcome.unwrap_or_else(|_| Err(Fault::new(Code::Internal, "the model's context went away")))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        drop(self.call.stop());
    }
}

/// Bytes that count against a bound until they are dropped.
pub(crate) struct Bytes {
    count: usize,
    total: Arc<AtomicUsize>,
}

impl Bytes {
    /// Adds them to the total, if there is room for them.
    pub(crate) fn count(total: &Arc<AtomicUsize>, count: usize, room: Room) -> Option<Self> {
        total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| room.add(total, count)).ok()?;
        Some(Self { count, total: Arc::clone(total) })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// The queue takes no more calls of this priority.
pub(crate) fn full(priority: Priority) -> Fault {
    let part = match priority {
        Priority::High => return Fault::new(Code::Overloaded, "the model's queue is full"),
        Priority::Normal => "3/4",
        Priority::Low => "half",
    };
    let name = priority.as_str();
    Fault::new(Code::Overloaded, format!("the model's queue is full for calls of priority {name}, which may fill {part} of it"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::order::Rank;
    use crate::test_support;

    fn slot(now: Instant, urgency: Urgency) -> Slot {
        Slot { rows: None, tail: vec![], bytes: 0, submitted: now, rank: Rank::new(urgency, now) }
    }

    fn all_of(max: usize) -> Room {
        Room::of(Priority::High, max)
    }

    #[test]
    fn late_work_is_not_begun_even_if_the_watchdog_is_late_too() {
        let total = Arc::default();
        let work = Work { inputs: vec![], _bytes: Bytes::count(&total, 8, all_of(8)).unwrap() };
        let now = Instant::now();
        let urgency = Deadline::after(now, Duration::from_secs(1)).into();
        let (call, mut outcome) = Call::new(work, slot(now, urgency), urgency);
        assert!(call.begin(now + Duration::from_secs(1)).is_none());
        assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, Code::DeadlineExceeded);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    /// Owns runs, and counts those that are left to themselves.
    struct Host {
        watchdog: Watchdog,
        abandoned: AtomicUsize,
    }

    impl Owner for Host {
        fn watchdog(&self) -> &Watchdog {
            &self.watchdog
        }

        fn abandon(&self, _run: &Run) {
            self.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn host() -> Arc<Host> {
        test_support::environment();
        Arc::new(Host { watchdog: Watchdog::start().unwrap(), abandoned: AtomicUsize::new(0) })
    }

    fn run(host: &Arc<Host>) -> Arc<Run> {
        Run::new(Arc::downgrade(host) as Weak<dyn Owner>, false).unwrap()
    }

    fn waiting_call() -> Arc<Call> {
        let now = Instant::now();
        let urgency = Deadline::after(now, Duration::from_secs(60)).into();
        let work = Work { inputs: vec![], _bytes: Bytes::count(&Arc::default(), 0, all_of(0)).unwrap() };
        let (call, outcome) = Call::new(work, slot(now, urgency), urgency);
        std::mem::forget(outcome);
        call
    }

    #[test]
    fn a_run_ends_when_all_its_calls_have_ended() {
        let host = host();
        let run = run(&host);
        let (one, two, gone) = (waiting_call(), waiting_call(), waiting_call());
        Arc::clone(&gone).expire();
        assert!(one.join(&run) && two.join(&run) && !gone.join(&run));
        run.leave();
        assert_eq!(run.calls.load(Ordering::Relaxed), 2);
        Arc::clone(&one).expire();
        assert_eq!(run.calls.load(Ordering::Relaxed), 1);
        assert_eq!(run.progress.load(Ordering::Relaxed), UNDER_WAY);
        Arc::clone(&two).expire();
        Arc::clone(&two).expire();
        assert_eq!(run.calls.load(Ordering::Relaxed), 0);
        assert_eq!(run.over(), Ended { overran: true, stray: false });
        assert_eq!(Arc::strong_count(&run), 1, "neither the calls nor the watchdog hold it");
    }

    #[test]
    fn a_run_that_does_not_end_when_it_is_told_to_is_left_to_itself() {
        let host = host();
        let (prompt, stray) = (run(&host), run(&host));
        for run in [&prompt, &stray] {
            Arc::clone(run).expire();
        }
        assert_eq!(prompt.over(), Ended { overran: false, stray: false }, "its caller went away");
        while host.abandoned.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(stray.over(), Ended { overran: false, stray: true });
        assert_eq!(host.abandoned.load(Ordering::SeqCst), 1);
    }
}
