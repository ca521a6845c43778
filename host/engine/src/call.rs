//! One run that is asked for: its inputs, its reply, and how it ends early. Knows nothing of queues and of how a run is made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ort::session::RunOptions;
use sandmill_domain::ports::Inference;
use sandmill_domain::{Blame, Code, Deadline, Fault, Tensor};
use tokio::sync::oneshot;

use crate::lock;
use crate::watchdog::{Expire, Watch};

/// What a call ends with.
pub(crate) type Outcome = Result<Inference, Fault>;

/// One call, shared by the caller's future, the watchdog and the context that runs it. Whoever of them takes the reply first
/// ends the call.
pub(crate) struct Call {
    pub(crate) submitted: Instant,
    pub(crate) deadline: Deadline,
    /// Made anew for every call: its terminate flag stays set, and must not hit the next run.
    pub(crate) options: RunOptions,
    state: Mutex<State>,
}

struct State {
    reply: Option<oneshot::Sender<Outcome>>,
    /// None once a context has begun.
    work: Option<Work>,
}

/// What a call holds while it waits.
pub(crate) struct Work {
    pub(crate) inputs: Vec<Tensor>,
    /// Counts against the queue's bound.
    pub(crate) _bytes: Bytes,
}

impl Call {
    /// A call that waits, and where its outcome will be found.
    pub(crate) fn new(
        work: Work,
        deadline: Deadline,
        submitted: Instant,
    ) -> ort::Result<(Arc<Self>, oneshot::Receiver<Outcome>)> {
        let (reply, outcome) = oneshot::channel();
        let state = Mutex::new(State { reply: Some(reply), work: Some(work) });
        Ok((Arc::new(Self { submitted, deadline, options: RunOptions::new()?, state }), outcome))
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

    /// Gives the outcome to the caller, if it still waits.
    pub(crate) fn end(&self, outcome: Outcome) {
        let reply = lock(&self.state).reply.take();
        if let Some(reply) = reply {
            // An error says that the caller has just gone: then nobody wants the outcome.
            drop(reply.send(outcome));
        }
    }

    /// Frees what a waiting call holds and ends a run that is under way; gives the reply, if nobody has had it, and whether the
    /// run had begun.
    fn stop(&self) -> Option<(oneshot::Sender<Outcome>, bool)> {
        let (reply, work) = {
            let mut state = lock(&self.state);
            (state.reply.take()?, state.work.take())
        };
        if work.is_none()
            && let Err(error) = self.options.terminate()
        {
            tracing::warn!(%error, "a run cannot be ended");
        }
        Some((reply, work.is_none()))
    }
}

impl Expire for Call {
    fn expire(&self) {
        if let Some((reply, begun)) = self.stop() {
            drop(reply.send(Err(late(begun))));
        }
    }
}

/// The deadline passed: while the model ran, or before it began.
pub(crate) fn late(begun: bool) -> Fault {
    if begun {
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
    /// Adds them to the total, unless it would pass `max`.
    pub(crate) fn count(total: &Arc<AtomicUsize>, count: usize, max: usize) -> Result<Self, Fault> {
        let add = |total: usize| total.checked_add(count).filter(|total| *total <= max);
        total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| full())?;
        Ok(Self { count, total: Arc::clone(total) })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// The queue takes no more.
pub(crate) fn full() -> Fault {
    Fault::new(Code::Overloaded, "the model's queue is full")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_support;

    #[test]
    fn late_work_is_not_begun_even_if_the_watchdog_is_late_too() {
        test_support::environment();
        let total = Arc::default();
        let work = Work { inputs: vec![], _bytes: Bytes::count(&total, 8, 8).unwrap() };
        let now = Instant::now();
        let (call, mut outcome) = Call::new(work, Deadline::after(now, Duration::from_secs(1)), now).unwrap();
        assert!(call.begin(now + Duration::from_secs(1)).is_none());
        assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, Code::DeadlineExceeded);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
