//! The places where one model runs, alone or in batches: on threads of its own, or on those that carry the requests, behind one
//! bounded queue. Knows nothing of how a run is made, and of where sessions come from.

use std::cell::{Cell, RefCell};
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use sandmill_domain::ports::Inference;
use sandmill_domain::{Batch, BatchReason, Blame, Code, Deadline, Fault, Lender, Tensor, Urgency};
use sandmill_worker::lower_haste;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::batch::{Policy, Slot};
use crate::call::{Answer, Call, Owner, Run, Work, full, late};
use crate::lock;
use crate::order::Rank;
use crate::pad::Padding;
use crate::processors::{Part, Processor};
use crate::queue::{Fetched, Next, Queue};
use crate::rows::{self, Rows};
use crate::session::{Live, Seat, Stop};
use crate::trial::{Trial, cpu_time, unprepared};
use crate::watchdog::{Expire, Watchdog};

/// How long a dropped model waits for its threads: a run ends between two kernels, and one kernel can take seconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A run of more than so many times what was measured has no place on a thread that carries requests,
const SURPRISE: u32 = 4;
/// unless it took less than this, where a page fault is already a surprise.
const NO_SURPRISE: Duration = Duration::from_micros(200);

/// A thread that waits for its turn on the processors looks so often whether its calls are still wanted.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// A model that has worked on them works for so long.
const GOLDEN_PAUSE: Duration = Duration::from_secs(1);

/// What is remembered of an input of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    /// The largest of its whole numbers.
    pub(crate) whole_max: u64,
}

impl Called {
    fn of(tensor: &Tensor) -> Self {
        let mut whole_max = 0;
        if tensor.dtype.is_whole() {
            for element in tensor.data.chunks_exact(tensor.dtype.size().unwrap_or(1)) {
                let negative = tensor.dtype.is_signed() && element.last().is_some_and(|byte| *byte > 127);
                let value = element.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                whole_max = whole_max.max(if negative { 0 } else { value });
            }
        }
        Self { name: tensor.name.clone(), shape: tensor.shape.clone(), whole_max }
    }
}

/// How calls are run once the model is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    /// None if the model's tensors have no rows.
    pub(crate) rows: Option<Rows>,
    /// Which axes are filled up to their buckets.
    pub(crate) padding: Padding,
    /// Which runs are made on the threads that carry requests, if any.
    pub(crate) inline: Option<Inline>,
}

/// Runs that are short enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inline {
    /// Of inputs of at most so many bytes,
    pub(crate) bytes_max: usize,
    /// which had so many rows when they were measured,
    pub(crate) rows_max: usize,
    /// and took so long.
    pub(crate) time: Duration,
}

impl Plan {
    /// Batches of short runs are as short.
    fn for_tasks(&self) -> Option<Policy> {
        let Inline { bytes_max, rows_max, .. } = self.inline?;
        Some(Policy { rows_max: rows_max.min(self.policy.rows_max), bytes_max, delay: Duration::ZERO })
    }
}

/// Told of what only whoever makes sessions can do something about. Called on threads that carry requests: it must be quick.
pub(crate) trait Patron: Send + Sync {
    /// A call waits, and there is no session.
    fn load(&self);

    /// The session has answered so many calls that it should be looked at, or has failed.
    fn look(&self);

    /// A run has ended, after so long.
    fn ran(&self, took: Duration);

    /// A run was left to itself, or (false) such a one has ended after all.
    fn strayed(&self, strays: bool);
}

/// One model's contexts; dropping them ends their threads.
pub(crate) struct Contexts {
    shared: Arc<Shared>,
    /// Cut when the last thread has ended.
    alive: Receiver<()>,
}

/// How calls came to be run.
#[derive(Clone, Copy)]
struct Turn<'a> {
    begun: Instant,
    reason: BatchReason,
    here: bool,
    /// The turn in which they run, on a thread of the model's own beside other tenants' models.
    processor: Option<&'a Arc<Processor>>,
    /// Whether a run was left to itself, and its place given to another thread.
    lost: &'a Cell<bool>,
    /// What its last run was made on.
    live: &'a RefCell<Option<Arc<Live>>>,
}

/// What the threads and tasks that run a model share.
struct Shared {
    name: String,
    queue: Arc<Queue>,
    seat: Arc<Seat>,
    lender: Arc<dyn Lender>,
    watchdog: Arc<Watchdog>,
    patron: Weak<dyn Patron>,
    /// What it has of the processors; none if it takes turns with nobody.
    part: Option<Part>,
    /// Itself, for its runs.
    this: Weak<Self>,
    plan: OnceLock<Plan>,
    /// When it last worked on its golden inputs.
    worked: Mutex<Option<Instant>>,
    /// The last call's inputs, before there is a plan.
    called: Mutex<Vec<Called>>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Held by each thread while it lives; none when the contexts go away.
    life: Option<Sender<()>>,
}

/// What contexts work with.
pub(crate) struct Parts {
    pub(crate) name: String,
    /// Runs at once.
    pub(crate) contexts: usize,
    pub(crate) queue: Arc<Queue>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) lender: Arc<dyn Lender>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) patron: Weak<dyn Patron>,
    pub(crate) part: Option<Part>,
}

impl Contexts {
    /// Starts the threads, which run every call by itself until there is a plan.
    pub(crate) fn start(parts: Parts) -> io::Result<Self> {
        let Parts { name, contexts: count, queue, seat, lender, watchdog, patron, part } = parts;
        let (life, alive) = crossbeam_channel::bounded(0);
        let threads = Mutex::new(Threads { handles: Vec::with_capacity(count), life: Some(life) });
        let (plan, worked, called) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let shared = Arc::new_cyclic(|this| {
            let this = Weak::clone(this);
            Shared { name, queue, seat, lender, watchdog, patron, part, this, plan, worked, called, threads }
        });
        // Whole before the first thread starts, so that a failed start ends those that did.
        let contexts = Self { shared, alive };
        for _ in 0..count {
            contexts.shared.start_thread()?;
        }
        Ok(contexts)
    }

    /// How calls are run from now on; the first plan holds.
    pub(crate) fn adopt(&self, plan: Plan) {
        let (threads, tasks) = (plan.policy, plan.for_tasks());
        if self.shared.plan.set(plan).is_ok() {
            self.shared.queue.set(threads, tasks);
        }
    }

    /// What the last call since this was asked before was like; nothing if there was no call, or is a plan.
    pub(crate) fn take_called(&self) -> Vec<Called> {
        std::mem::take(&mut *lock(&self.shared.called))
    }

    /// Queues a run, or makes it at once if it is short; the answer ends it when it is dropped.
    pub(crate) fn submit(&self, inputs: Vec<Tensor>, urgency: impl Into<Urgency>) -> Result<Answer, Fault> {
        let submitted = Instant::now();
        let urgency @ Urgency { deadline, priority } = urgency.into();
        if deadline.is_past(submitted) {
            return Err(late(false));
        }
        let queue = &self.shared.queue;
        let plan = self.shared.plan.get();
        let rows = plan.and_then(|plan| plan.rows.as_ref()?.count(&inputs, &plan.padding));
        let (rows, tail) = rows.map_or((None, Vec::new()), |(rows, tail)| (Some(rows), tail));
        if plan.is_none() {
            *lock(&self.shared.called) = inputs.iter().map(Called::of).collect();
        }
        let bytes = inputs.iter().map(|tensor| tensor.data.len()).fold(0, usize::saturating_add);
        let work_bytes = queue.count(bytes, priority)?;
        // As the model will see them.
        let bytes = plan.map_or(bytes, |plan| plan.padding.bytes(&inputs));
        let short = plan.and_then(|plan| plan.inline).is_some_and(|inline| bytes <= inline.bytes_max);
        let work = Work { inputs, _bytes: work_bytes };
        let slot = Slot { rows, tail, bytes, submitted, rank: Rank::new(urgency, submitted) };
        let (call, outcome) = Call::new(work, slot, urgency);
        // Before it may run: here, if it is short.
        let watch = self.shared.watchdog.watch(deadline.instant(), Arc::clone(&call) as Arc<dyn Expire>);
        match queue.push(Arc::clone(&call), short)? {
            Next::Leave => (),
            Next::SendTask => start_task(&self.shared),
            Next::Run(fetched) => serve_here(&self.shared, fetched),
            Next::Load => self.shared.tell(|patron| patron.load()),
        }
        Ok(Answer { call, outcome, _watch: watch })
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        self.shared.queue.close();
        let threads = {
            let mut threads = lock(&self.shared.threads);
            threads.life = None;
            std::mem::take(&mut threads.handles)
        };
        // Nobody ever sends: it is cut when the threads have dropped their ends, or the time is over.
        if self.alive.recv_timeout(JOIN_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a model was dropped while a run of it would not end; its thread is left to itself");
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a model's context panicked");
            }
        }
    }
}

/// Starts a task that runs what waits, on a thread that carries requests; the model's own threads do it where there is no such.
fn start_task(shared: &Arc<Shared>) {
    let task = Task(Some(Arc::clone(shared)));
    match Handle::try_current() {
        Ok(runtime) => {
            let work = async { task.run() };
            drop(match &shared.part {
                Some(part) => runtime.spawn(after_all(part.pace(Box::pin(work)))),
                None => runtime.spawn(after_all(work)),
            });
        }
        Err(_none) => {
            drop(task);
            shared.queue.leave_to_threads();
        }
    }
}

/// All that is ready on this thread goes first, and may bring more calls for the same run. That is no work and needs no turn.
async fn after_all(work: impl Future<Output = ()>) {
    tokio::task::yield_now().await;
    work.await;
}

/// Gives its place back if it is dropped before it came, as when the runtime goes away.
struct Task(Option<Arc<Shared>>);

impl Task {
    fn run(mut self) {
        let Some(shared) = self.0.take() else { return };
        let Some(fetched) = shared.queue.fetch(Instant::now()) else { return };
        if fetched.more {
            start_task(&shared);
        }
        serve_here(&shared, fetched);
    }
}

/// Makes a run on this thread, which carries requests.
fn serve_here(shared: &Arc<Shared>, fetched: Fetched) {
    if shared.serve(fetched, None, true) && shared.queue.done() {
        start_task(shared);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.queue.forget_task();
        }
    }
}

impl Shared {
    fn start_thread(&self) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        let (Some(shared), Some(life)) = (self.this.upgrade(), threads.life.clone()) else { return Ok(()) };
        threads.handles.retain(|thread| !thread.is_finished());
        let thread = thread::Builder::new().name("engine-context".to_owned()).spawn(move || {
            // What is run here is long: whoever has a short run, or only a request to read, goes first.
            lower_haste();
            while shared.queue.wait() {
                // Before anything is fetched: what comes until then may share the run, and what expires is none.
                let Ok(processor) = shared.part.as_ref().map_or(Ok(None), |part| part.take(TURN_PATIENCE)) else { continue };
                let Some(fetched) = shared.queue.take() else { continue };
                if !shared.serve(fetched, processor.as_ref(), false) {
                    break;
                }
                shared.queue.done_on_thread();
            }
            drop(shared);
            drop(life);
        })?;
        threads.handles.push(thread);
        Ok(())
    }

    fn tell(&self, what: impl FnOnce(&dyn Patron)) {
        if let Some(patron) = self.patron.upgrade() {
            what(&*patron);
        }
    }

    /// Runs the calls, together if they are several; singly if that fails, so that a bad row fails nobody else's. `here` is on a
    /// thread that carries requests. False if the place of this thread was given to another meanwhile.
    fn serve(&self, fetched: Fetched, processor: Option<&Arc<Processor>>, here: bool) -> bool {
        let (lost, live) = (Cell::new(false), RefCell::new(None));
        let turn = Turn { begun: Instant::now(), reason: fetched.reason, here, processor, lost: &lost, live: &live };
        let begin = |call: Arc<Call>| call.begin(turn.begun).map(|inputs| (call, inputs));
        let (calls, inputs): (Vec<_>, Vec<_>) = fetched.calls.into_iter().filter_map(begin).unzip();
        let left = if calls.len() > 1 { self.together(&calls, inputs, turn) } else { inputs };
        // None, if they have run together.
        for (call, inputs) in calls.iter().zip(left) {
            if lost.get() {
                // This thread has no place to run them any more.
                call.end(Err(full(call.priority)));
                continue;
            }
            self.alone(call, inputs, turn);
        }
        !lost.get()
    }

    fn alone(&self, call: &Arc<Call>, inputs: Vec<Tensor>, turn: Turn<'_>) {
        let started = Instant::now();
        let Some(outputs) = self.run_padded(call, inputs, turn) else { return };
        let outputs = outputs.map_err(|fault| if call.is_wanted() { self.judge(fault, turn) } else { fault });
        let batch = self.batch(call.slot.rows.unwrap_or(1), turn);
        call.end(outputs.map(|outputs| inference(call, outputs, turn, started.elapsed(), Some(batch))));
    }

    fn batch(&self, rows: usize, turn: Turn<'_>) -> Batch {
        let shares = turn.reason != BatchReason::Alone;
        let policy = self.plan.get().filter(|_| shares).map(|plan| if turn.here { plan.for_tasks() } else { Some(plan.policy) });
        let rows_max = policy.flatten().and_then(|policy| NonZeroUsize::new(policy.rows_max));
        Batch { rows, rows_max, reason: turn.reason }
    }

    /// Lent memory goes home before the caller hears of the end, so that it may lend as much again at once.
    fn run_padded(&self, call: &Arc<Call>, inputs: Vec<Tensor>, turn: Turn<'_>) -> Option<Result<Vec<Tensor>, Fault>> {
        let run = |inputs: &[Tensor]| self.run(std::slice::from_ref(call), inputs, turn);
        let Some(padding) = self.plan.get().map(|plan| &plan.padding).filter(|padding| !padding.is_empty()) else {
            return run(&inputs);
        };
        let sizes = padding.sizes(&inputs);
        let padded = match padding.pad(inputs, &*self.lender) {
            Ok(padded) => padded,
            Err(fault) => return Some(Err(fault)),
        };
        let outputs = run(&padded)?;
        Some(outputs.and_then(|outputs| padding.cut(outputs, &sizes, &*self.lender)))
    }

    /// Gives the inputs back if nothing came of it for anybody.
    fn together(&self, calls: &[Arc<Call>], inputs: Vec<Vec<Tensor>>, turn: Turn<'_>) -> Vec<Vec<Tensor>> {
        let Some((rows, padding)) = self.plan.get().and_then(|plan| Some((plan.rows.as_ref()?, &plan.padding))) else {
            return inputs;
        };
        let counts: Vec<usize> = calls.iter().filter_map(|call| call.slot.rows).collect();
        let ran = rows.join(&inputs, padding, &*self.lender).and_then(|joined| {
            let outputs = self.run(calls, &joined, turn).unwrap_or_else(|| Ok(Vec::new()))?;
            let parts = rows::split(&outputs, &counts)?.into_iter().zip(&inputs);
            parts.map(|(part, inputs)| padding.cut(part, &padding.sizes(inputs), &*self.lender)).collect::<Result<Vec<_>, _>>()
        });
        let parts = match ran {
            Ok(parts) if parts.len() == calls.len() => parts,
            Ok(_) => return inputs,
            Err(fault) => {
                tracing::debug!(model = self.name, calls = calls.len(), fault = %fault.report(), "a batch failed: its calls run singly");
                return inputs;
            }
        };
        // Lent memory goes home before the callers hear of the end.
        drop(inputs);
        let ran = turn.begun.elapsed();
        let mut batch = Some(self.batch(counts.iter().sum(), turn));
        for (call, outputs) in calls.iter().zip(parts) {
            call.end(Ok(inference(call, outputs, turn, ran, batch.take())));
        }
        Vec::new()
    }

    /// One run for all of the calls; none if nobody wants it. A panic ends the run, not the thread.
    fn run(&self, calls: &[Arc<Call>], inputs: &[Tensor], turn: Turn<'_>) -> Option<Result<Vec<Tensor>, Fault>> {
        let owner: Weak<dyn Owner> = self.this.clone();
        let run = match Run::new(owner, turn.here) {
            Ok(run) => run,
            Err(error) => return Some(Err(unprepared(error))),
        };
        let wanted = calls.iter().filter(|call| call.join(&run)).count();
        run.leave();
        let live = self.seat.get();
        let (Some(live), true) = (live, wanted > 0) else {
            run.over();
            return (wanted > 0).then(|| Err(Fault::new(Code::NotReady, "the model is going away")));
        };
        drop(run.live.set(Arc::downgrade(&live)));
        drop(turn.processor.map(|processor| run.processor.set(Arc::downgrade(processor))));
        turn.live.replace(Some(Arc::clone(&live)));
        let (begun, started) = (cpu_time(), Instant::now());
        let ran = catch_unwind(AssertUnwindSafe(|| live.session.run(inputs, Stop(&run.options))));
        let ended = run.over();
        self.tell(|patron| patron.ran(started.elapsed()));
        if ended.stray {
            turn.lost.set(true);
            self.tell(|patron| patron.strayed(false));
        }
        if turn.here {
            self.check(cpu_time().saturating_sub(begun));
        }
        let ran = ran.unwrap_or_else(|_panic| Err(Fault::new(Code::Internal, "the model's context broke")));
        if ran.is_ok() {
            self.good(&live, wanted);
        } else if ended.overran {
            live.overran();
            self.tell(|patron| patron.look());
        }
        Some(ran)
    }

    fn good(&self, live: &Live, calls: usize) {
        let served = live.good(calls);
        let due = self.seat.requests_max();
        if served >= due && served - (calls as u64) < due {
            self.tell(|patron| patron.look());
        }
    }

    /// A model that fails on some inputs and works on others is not broken: who sent these is to blame.
    fn judge(&self, fault: Fault, turn: Turn<'_>) -> Fault {
        let failed = matches!(fault.code, Code::ModelFailed | Code::ModelOutOfMemory);
        if failed && !turn.lost.get() && self.works(turn) {
            if fault.code == Code::ModelOutOfMemory {
                return fault.blaming(Blame::Caller);
            }
            let said = format!("{}; on other inputs it works", fault.message);
            return Fault::new(Code::InvalidInput, said).blaming(Blame::Caller).because(fault.report().to_string());
        }
        if matches!(fault.blame, Blame::Model | Blame::Host) && (failed || fault.code == Code::Internal) {
            if let Some(live) = &*turn.live.borrow() {
                live.bad(Some(&fault));
            }
            self.tell(|patron| patron.look());
        }
        fault
    }

    /// Whether the model runs on its golden inputs, or did so a moment ago: who sends many bad ones has it run no more often.
    fn works(&self, turn: Turn<'_>) -> bool {
        let mut worked = lock(&self.worked);
        if worked.is_some_and(|at| at.elapsed() < GOLDEN_PAUSE) {
            return true;
        }
        let (Some(golden), Some(live)) = (self.seat.golden(), turn.live.borrow().clone()) else { return false };
        let deadline = Deadline::after(Instant::now(), golden.time());
        let trial = Trial { session: &*live.session, watchdog: &self.watchdog, deadline, alone: false, shrink: false };
        let works = golden.check(trial).is_ok();
        *worked = works.then(Instant::now);
        works
    }

    /// A run that took far longer than was measured is the last one on a thread that carries requests.
    fn check(&self, took: Duration) {
        let Some(measured) = self.plan.get().and_then(|plan| plan.inline).map(|inline| inline.time) else { return };
        if took > (measured * SURPRISE).max(NO_SURPRISE) && self.queue.leave_to_threads() {
            tracing::warn!(
                model = self.name,
                ?took,
                ?measured,
                "the model runs on threads of its own from now on: a run took too long"
            );
        }
    }
}

impl Owner for Shared {
    fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Its place is given to another thread; on a thread that carries requests, the model has no place any more.
    fn abandon(&self, run: &Run) {
        tracing::error!(model = self.name, "a run does not end: it is left to itself, and what it holds is lost until it does");
        if let Some(live) = run.live.get().and_then(Weak::upgrade) {
            live.abandon();
        }
        run.processor.get().into_iter().for_each(Processor::take_away);
        if run.here {
            self.queue.leave_to_threads();
            self.queue.done();
        } else {
            self.queue.done_on_thread();
            if let Err(error) = self.start_thread() {
                tracing::error!(model = self.name, %error, "no thread can be started in its place");
            }
        }
        self.tell(|patron| patron.strayed(true));
    }
}

fn inference(call: &Call, outputs: Vec<Tensor>, turn: Turn<'_>, ran: Duration, batch: Option<Batch>) -> Inference {
    Inference { outputs, queued: turn.begun.saturating_duration_since(call.slot.submitted), ran, batch }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use bytes::Bytes;
    use sandmill_domain::{Axis, Deadline, Dtype, Signature, TensorSpec};

    use super::*;
    use crate::processors::Processors;
    use crate::processors::tests::part;
    use crate::test_support::{self, Fake, Idle};

    /// Contexts whose runs begin and end when the test says so, and echo their inputs.
    struct Gated {
        contexts: Contexts,
        begun: mpsc::Receiver<()>,
        end: Sender<()>,
        runs: Arc<AtomicUsize>,
        /// Held by the session too.
        session: Arc<()>,
    }

    fn gated(queue_max: usize, queue_bytes_max: usize) -> Gated {
        let (begin, begun) = mpsc::channel();
        let (end, ends) = crossbeam_channel::unbounded();
        let (runs, session) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (counted, held) = (Arc::clone(&runs), Arc::clone(&session));
        let fake = Fake(move |inputs: &[Tensor]| {
            let _held = &held;
            counted.fetch_add(1, Ordering::SeqCst);
            begin.send(()).unwrap();
            ends.recv().unwrap();
            assert!(inputs.iter().all(|tensor| tensor.name != "broken"), "this one breaks");
            Ok(inputs.to_vec())
        });
        let patron: Arc<dyn Patron> = Arc::new(Idle);
        let contexts = test_support::contexts(Queue::new(queue_max, queue_bytes_max, 1), fake, &patron);
        Gated { contexts, begun, end, runs, session }
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

    /// Contexts whose runs take as long as their input says, in µs, and answer with the name of their thread.
    fn telling(plan: Plan) -> Contexts {
        let fake = Fake(|inputs: &[Tensor]| {
            let begun = cpu_time();
            let micros = inputs.iter().map(|tensor| tensor.data.len() as u64).sum();
            while cpu_time().saturating_sub(begun) < Duration::from_micros(micros) {}
            let name = thread::current().name().unwrap_or_default().as_bytes().to_vec();
            Ok(vec![Tensor { name: "thread".into(), dtype: Dtype::Uint8, shape: vec![name.len() as i64], data: name.into() }])
        });
        let patron: Arc<dyn Patron> = Arc::new(Idle);
        let contexts = test_support::contexts(Queue::new(16, 1 << 20, 1), fake, &patron);
        contexts.adopt(plan);
        contexts
    }

    async fn ran_inline(contexts: &Contexts, micros: usize) -> bool {
        let answer = contexts.submit(tensor("x", micros), within(HOUR)).unwrap();
        let outputs = answer.wait().await.unwrap().outputs;
        outputs[0].data.as_ref() != b"engine-context"
    }

    #[tokio::test]
    async fn short_runs_are_made_where_the_request_is_until_one_takes_too_long() {
        let inline = Inline { bytes_max: 1000, rows_max: 1, time: Duration::from_micros(100) };
        let contexts = telling(Plan { policy: Policy::OFF, rows: None, padding: Padding::default(), inline: Some(inline) });
        assert!(ran_inline(&contexts, 10).await);
        assert!(!ran_inline(&contexts, 1001).await, "larger than what was measured");
        assert!(ran_inline(&contexts, 10).await);
        assert!(ran_inline(&contexts, 500).await, "five times what was measured");
        assert!(!ran_inline(&contexts, 10).await);
    }

    #[tokio::test]
    async fn without_a_measured_time_runs_are_made_on_threads() {
        let contexts = telling(Plan { policy: Policy::OFF, rows: None, padding: Padding::default(), inline: None });
        assert!(!ran_inline(&contexts, 1).await);
    }

    #[test]
    fn calls_from_without_a_runtime_are_run_by_threads() {
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            dtype: Dtype::Uint8,
            shape: vec![Axis::Dynamic { symbol: None, max: 4096 }],
        };
        let rows = Rows::of(&Signature { inputs: vec![spec("x")], outputs: vec![spec("thread")] }).unwrap();
        let inline = Inline { bytes_max: 1000, rows_max: 4096, time: Duration::from_micros(100) };
        // It would wait for a task, and for others.
        let policy = Policy { rows_max: 4096, ..Policy::OFF };
        let contexts = telling(Plan { policy, rows: Some(rows), padding: Padding::default(), inline: Some(inline) });
        assert!(!futures_util::FutureExt::now_or_never(ran_inline(&contexts, 10)).unwrap_or(false));
    }

    #[test]
    fn what_a_call_was_like_is_remembered_until_there_is_a_plan() {
        let gated = gated(16, 1 << 20);
        let data = [5_i64, -7, 300].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let ids = Tensor { name: "ids".into(), dtype: Dtype::Int64, shape: vec![1, 3], data: data.into() };
        drop(gated.contexts.submit(vec![ids], within(HOUR)).unwrap());
        assert_eq!(gated.contexts.take_called(), [Called { name: "ids".into(), shape: vec![1, 3], whole_max: 300 }]);
        gated.contexts.adopt(Plan { policy: Policy::OFF, rows: None, padding: Padding::default(), inline: None });
        drop(gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap());
        assert_eq!(gated.contexts.take_called(), []);
        (0..2).for_each(|_| gated.end.send(()).unwrap());
    }

    /// Models of two tenants, two of the first and one of the second, on one processor. Each run tells whose it is, and ends when it
    /// is told to.
    struct Rivals {
        processors: Arc<Processors>,
        parts: [Part; 2],
        models: [Contexts; 3],
        begun: mpsc::Receiver<char>,
        end: Sender<()>,
    }

    fn rivals() -> Rivals {
        let processors = Processors::new(1);
        let parts = [part(&processors), part(&processors)];
        // Both are there.
        parts.iter().for_each(|part| drop(part.take(HOUR).unwrap()));
        let (begin, begun) = mpsc::channel();
        let (end, ends) = crossbeam_channel::unbounded();
        let models = [('a', 0), ('a', 0), ('b', 1)].map(|(name, whose)| {
            let (begin, ends) = (Mutex::new(begin.clone()), ends.clone());
            let fake = Fake(move |inputs: &[Tensor]| {
                lock(&begin).send(name).unwrap();
                ends.recv().unwrap();
                Ok(inputs.to_vec())
            });
            let (queue, patron): (_, Arc<dyn Patron>) = (Queue::new(64, 1 << 20, 1), Arc::new(Idle));
            test_support::contexts_of(queue, fake, &patron, Some(parts[whose].clone()))
        });
        Rivals { processors, parts, models, begun, end }
    }

    #[test]
    fn a_flood_of_one_tenant_delays_anothers_run_by_one_run() {
        let Rivals { processors, parts, models, begun, end } = rivals();
        let [one, another, other] = &models;
        let submit = |model: &Contexts| model.submit(tensor("x", 1), within(HOUR)).unwrap();
        let flood: Vec<_> = (0..10).flat_map(|_| [submit(one), submit(another)]).collect();
        for _ in 0..4 {
            assert_eq!(begun.recv().unwrap(), 'a');
            let answer = submit(other);
            while processors.is_idle(&parts[1]) {
                thread::yield_now();
            }
            assert!(begun.try_recv().is_err(), "there is one processor");
            end.send(()).unwrap();
            assert_eq!(begun.recv().unwrap(), 'b');
            end.send(()).unwrap();
            drop(answer);
        }
        drop(flood);
        (0..20).for_each(|_| end.send(()).unwrap());
    }

    #[tokio::test]
    async fn a_run_that_does_not_end_keeps_no_turn() {
        let Rivals { models, begun, end, .. } = rivals();
        let stray = models[0].submit(tensor("x", 1), within(Duration::from_millis(5))).unwrap();
        assert_eq!(begun.recv().unwrap(), 'a');
        let expires = models[2].submit(tensor("x", 1), within(Duration::from_millis(5))).unwrap();
        let waits = models[2].submit(tensor("y", 1), within(HOUR)).unwrap();
        assert!(stray.wait().await.is_err() && expires.wait().await.is_err());
        assert_eq!(begun.recv().unwrap(), 'b');
        (0..2).for_each(|_| end.send(()).unwrap());
        assert_eq!(waits.wait().await.unwrap().outputs, tensor("y", 1));
        assert!(begun.try_recv().is_err(), "what had expired never ran");
    }

    #[test]
    fn dropping_joins_the_threads() {
        let Gated { contexts, end, session, begun, .. } = gated(16, 1 << 20);
        let answer = contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        begun.recv().unwrap();
        end.send(()).unwrap();
        drop(answer);
        drop(contexts);
        assert_eq!(Arc::strong_count(&session), 1);
    }
}
