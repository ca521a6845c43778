//! The places where one model runs: threads of its own behind a bounded queue. Knows nothing of how a run is made.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use ort::session::RunOptions;
use sandmill_domain::ports::Inference;
use sandmill_domain::{Code, Deadline, Fault, Tensor};

use crate::call::{Answer, Bytes, Call, Outcome, Work, full, late};
use crate::watchdog::{Expire, Watchdog};

/// How long a dropped model waits for its threads: a run ends between two kernels, and one kernel can take seconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a model once; outputs in the order of its signature.
pub(crate) type Runner = dyn Fn(&[Tensor], &RunOptions) -> Result<Vec<Tensor>, Fault> + Send + Sync;

/// The bounds of one model's contexts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Runs at once, each on a thread of its own.
    pub(crate) threads: usize,
    /// Calls that wait; one that is given up keeps its place until a context comes by.
    pub(crate) queue_max: usize,
    /// The bytes of their inputs.
    pub(crate) queue_bytes_max: usize,
}

/// One model's contexts; dropping them ends their threads.
pub(crate) struct Contexts {
    /// None only while they are dropped.
    queue: Option<Sender<Arc<Call>>>,
    queue_bytes_max: usize,
    queued_bytes: Arc<AtomicUsize>,
    watchdog: Arc<Watchdog>,
    threads: Vec<JoinHandle<()>>,
    /// Cut when the last thread has ended.
    alive: Receiver<()>,
}

impl Contexts {
    /// Starts the threads.
    pub(crate) fn start(bounds: Bounds, watchdog: Arc<Watchdog>, runner: &Arc<Runner>) -> io::Result<Self> {
        let (queue, calls) = crossbeam_channel::bounded(bounds.queue_max);
        let (life, alive) = crossbeam_channel::bounded(0);
        // Whole before the first thread starts, so that a failed start ends those that did.
        let mut contexts = Self {
            queue: Some(queue),
            queue_bytes_max: bounds.queue_bytes_max,
            queued_bytes: Arc::default(),
            watchdog,
            threads: Vec::with_capacity(bounds.threads),
            alive,
        };
        for _ in 0..bounds.threads {
            contexts.threads.push(start_thread(calls.clone(), Arc::clone(runner), life.clone())?);
        }
        Ok(contexts)
    }

    /// Queues a run; the answer ends it when it is dropped.
    pub(crate) fn submit(&self, inputs: Vec<Tensor>, deadline: Deadline) -> Result<Answer, Fault> {
        let submitted = Instant::now();
        if deadline.is_past(submitted) {
            return Err(late(false));
        }
        let count = inputs.iter().map(|tensor| tensor.data.len()).fold(0, usize::saturating_add);
        let bytes = Bytes::count(&self.queued_bytes, count, self.queue_bytes_max)?;
        let (call, outcome) = Call::new(Work { inputs, _bytes: bytes }, deadline, submitted)
            .map_err(|error| Fault::new(Code::Internal, "a run cannot be prepared").because(error.to_string()))?;
        self.enqueue(Arc::clone(&call))?;
        let watch = self.watchdog.watch(deadline.instant(), Arc::clone(&call) as Arc<dyn Expire>);
        Ok(Answer { call, outcome, _watch: watch })
    }

    fn enqueue(&self, call: Arc<Call>) -> Result<(), Fault> {
        let Some(queue) = &self.queue else { return Err(Fault::new(Code::NotReady, "the model is going away")) };
        queue.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => full(),
            TrySendError::Disconnected(_) => Fault::new(Code::Internal, "the model's contexts are gone"),
        })
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        self.queue = None;
        // Nobody ever sends: it is cut when the threads have dropped their ends, or the time is over.
        if self.alive.recv_timeout(JOIN_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a model was dropped while a run of it would not end; its thread is left to itself");
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a model's context panicked");
            }
        }
    }
}

fn start_thread(calls: Receiver<Arc<Call>>, runner: Arc<Runner>, life: Sender<()>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("engine-context".to_owned()).spawn(move || {
        for call in calls {
            serve(&call, &*runner);
        }
        drop(runner);
        drop(life);
    })
}

/// A panic ends the call, not the thread.
fn serve(call: &Call, runner: &Runner) {
    let begun = Instant::now();
    let Some(inputs) = call.begin(begun) else { return };
    let work = || run(call, &inputs, begun, runner);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    // Lent memory goes home before the caller hears of the end, so that it may lend as much again at once.
    drop(inputs);
    call.end(outcome.unwrap_or_else(|_| Err(Fault::new(Code::Internal, "the model's context broke"))));
}

fn run(call: &Call, inputs: &[Tensor], begun: Instant, runner: &Runner) -> Outcome {
    let outputs = runner(inputs, &call.options)?;
    Ok(Inference { outputs, queued: begun.saturating_duration_since(call.submitted), ran: begun.elapsed() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use bytes::Bytes;
    use sandmill_domain::{Blame, Dtype};

    use super::*;
    use crate::test_support;

    /// Contexts whose runs begin and end when the test says so, and echo their inputs.
    struct Gated {
        contexts: Contexts,
        begun: mpsc::Receiver<()>,
        end: Sender<()>,
        runs: Arc<AtomicUsize>,
        runner: Arc<Runner>,
    }

    fn gated(queue_max: usize, queue_bytes_max: usize) -> Gated {
        test_support::environment();
        let (begin, begun) = mpsc::channel();
        let (end, ends) = crossbeam_channel::unbounded();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let runner: Arc<Runner> = Arc::new(move |inputs, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            begin.send(()).unwrap();
            ends.recv().unwrap();
            assert!(inputs.iter().all(|tensor| tensor.name != "broken"), "this one breaks");
            Ok(inputs.to_vec())
        });
        let bounds = Bounds { threads: 1, queue_max, queue_bytes_max };
        let contexts = Contexts::start(bounds, Arc::new(Watchdog::start().unwrap()), &runner).unwrap();
        Gated { contexts, begun, end, runs, runner }
    }

    fn tensor(name: &str, bytes: usize) -> Vec<Tensor> {
        let shape = vec![i64::try_from(bytes).unwrap()];
        vec![Tensor { name: name.to_owned(), dtype: Dtype::Uint8, shape, data: Bytes::from(vec![1; bytes]) }]
    }

    fn within(time: Duration) -> Deadline {
        Deadline::after(Instant::now(), time)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let gated = gated(2, 1 << 20);
        let submit = || gated.contexts.submit(tensor("x", 1), within(HOUR));
        let mut answers = vec![submit().unwrap()];
        gated.begun.recv().unwrap();
        answers.extend([submit().unwrap(), submit().unwrap()]);
        let fault = submit().err().unwrap();
        assert_eq!((fault.code, fault.blame), (Code::Overloaded, Blame::Host));
        (0..3).for_each(|_| gated.end.send(()).unwrap());
        for answer in answers {
            assert_eq!(answer.wait().await.unwrap().outputs, tensor("x", 1));
        }
    }

    #[test]
    fn queued_bytes_are_bounded_and_freed_with_their_caller() {
        let gated = gated(16, 16);
        let submit = |bytes| gated.contexts.submit(tensor("x", bytes), within(HOUR));
        let _running = submit(16).unwrap();
        gated.begun.recv().unwrap();
        let waiting = submit(16).unwrap();
        assert_eq!(submit(1).err().unwrap().code, Code::Overloaded);
        drop(waiting);
        drop(submit(16).unwrap());
        assert_eq!(submit(17).err().unwrap().code, Code::Overloaded);
        (0..2).for_each(|_| gated.end.send(()).unwrap());
    }

    #[tokio::test]
    async fn expired_work_is_answered_at_once_and_never_run() {
        let gated = gated(16, 1 << 20);
        let running = gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        gated.begun.recv().unwrap();
        let expired = gated.contexts.submit(tensor("x", 1), within(Duration::from_millis(5))).unwrap();
        let fault = expired.wait().await.unwrap_err();
        assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Host));
        drop(gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap());
        let past = gated.contexts.submit(tensor("x", 1), within(Duration::ZERO)).err().unwrap();
        assert_eq!(past.code, Code::DeadlineExceeded);
        let last = gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        (0..2).for_each(|_| gated.end.send(()).unwrap());
        running.wait().await.unwrap();
        last.wait().await.unwrap();
        assert_eq!(gated.runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_deadline_answers_even_if_the_run_goes_on() {
        let gated = gated(16, 1 << 20);
        let late = gated.contexts.submit(tensor("x", 1), within(Duration::from_millis(50))).unwrap();
        gated.begun.recv().unwrap();
        let fault = late.wait().await.unwrap_err();
        assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Model));
        let next = gated.contexts.submit(tensor("x", 2), within(HOUR)).unwrap();
        (0..2).for_each(|_| gated.end.send(()).unwrap());
        let inference = next.wait().await.unwrap();
        assert_eq!(inference.outputs, tensor("x", 2));
    }

    #[tokio::test]
    async fn a_panic_ends_the_call_and_not_the_thread() {
        let gated = gated(16, 1 << 20);
        (0..2).for_each(|_| gated.end.send(()).unwrap());
        let broken = gated.contexts.submit(tensor("broken", 1), within(HOUR)).unwrap();
        assert_eq!(broken.wait().await.unwrap_err().code, Code::Internal);
        let next = gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        assert_eq!(next.wait().await.unwrap().outputs, tensor("x", 1));
    }

    #[tokio::test]
    async fn waiting_and_running_are_told_apart() {
        let gated = gated(16, 1 << 20);
        let pause = Duration::from_millis(20);
        let first = gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        gated.begun.recv().unwrap();
        let second = gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        let expired = gated.contexts.submit(tensor("x", 1), within(pause)).unwrap();
        assert!(expired.wait().await.is_err());
        (0..2).for_each(|_| gated.end.send(()).unwrap());
        let (first, second) = (first.wait().await.unwrap(), second.wait().await.unwrap());
        assert!(first.ran >= pause && second.queued >= pause, "{first:?} {second:?}");
        assert!(second.queued > first.queued);
    }

    #[test]
    fn dropping_joins_the_threads() {
        let Gated { contexts, end, runner, begun, .. } = gated(16, 1 << 20);
        let answer = contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        begun.recv().unwrap();
        end.send(()).unwrap();
        drop(answer);
        drop(contexts);
        assert_eq!(Arc::strong_count(&runner), 1);
    }
}
