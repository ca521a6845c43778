//! One call that is asked for: its inputs, its reply, and how it ends early; and the run that it shares with others. Knows nothing of
//! queues and of how a run is made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ort::session::RunOptions;
use sandmill_domain::ports::Inference;
use sandmill_domain::{Blame, Code, Deadline, Fault, Priority, Tensor, Urgency};
use tokio::sync::oneshot;

use crate::batch::Slot;
use crate::lock;
use crate::order::Room;
use crate::watchdog::{Expire, Watch};

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
    pub(crate) fn begin(&self, now: Instant) -> Option<Vec<Tensor>> {
        if self.deadline.is_past(now) {
            self.expire();
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
    fn expire(&self) {
        if let Some((reply, begun)) = self.stop() {
            let ran = begun.is_some_and(|begun| begun.elapsed() >= begun.saturating_duration_since(self.slot.submitted));
            drop(reply.send(Err(late(ran))));
        }
    }
}

impl Expire for Run {
    fn expire(&self) {
        if let Err(error) = self.options.terminate() {
            tracing::warn!(%error, "a run cannot be ended");
        }
    }
}

/// One run of a model, for one call or for several.
pub(crate) struct Run {
    /// Made anew for every run: its terminate flag stays set, and must not hit the next.
    pub(crate) options: RunOptions,
    /// Those that still want it, and whoever is about to make it.
    calls: AtomicUsize,
}

impl Run {
    pub(crate) fn new() -> ort::Result<Arc<Self>> {
        Ok(Arc::new(Self { options: RunOptions::new()?, calls: AtomicUsize::new(1) }))
    }

    /// The last to leave ends it. Whoever makes it leaves when all calls have joined: then a count of zero is final.
    pub(crate) fn leave(&self) {
        if self.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.expire();
        }
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

    #[test]
    fn a_run_ends_when_all_its_calls_have_ended() {
        test_support::environment();
        let now = Instant::now();
        let call = || {
            let urgency = Deadline::after(now, Duration::from_secs(60)).into();
            let work = Work { inputs: vec![], _bytes: Bytes::count(&Arc::default(), 0, all_of(0)).unwrap() };
            Call::new(work, slot(now, urgency), urgency).0
        };
        let run = Run::new().unwrap();
        let (one, two, gone) = (call(), call(), call());
        gone.expire();
        assert!(one.join(&run) && two.join(&run) && !gone.join(&run));
        run.leave();
        assert_eq!(run.calls.load(Ordering::Relaxed), 2);
        one.expire();
        assert_eq!(run.calls.load(Ordering::Relaxed), 1);
        two.expire();
        two.expire();
        assert_eq!(run.calls.load(Ordering::Relaxed), 0);
    }
}
