//! The places where one model runs, alone or in batches: on threads of its own, or on those that carry the requests, behind one
//! bounded queue. Knows nothing of what a batch needs to be run, and of where sessions come from.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use sandmill_domain::{Fault, Lender, Tensor, Urgency};
use sandmill_worker::lower_haste;
use tokio::runtime::Handle;

use crate::batch::Slot;
use crate::call::{Answer, Call, Owner, Run, Work, late};
use crate::lock;
use crate::order::Rank;
use crate::plan::{Called, Plan};
use crate::processors::{Part, Processor};
use crate::queue::{Fetched, Next, Queue};
use crate::session::Seat;
use crate::trust::Trust;
use crate::watchdog::{Expire, Watchdog};

/// How long a dropped model waits for its threads: a run ends between two kernels, and one kernel can take seconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A thread that waits for its turn on the processors looks so often whether its calls are still wanted.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

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

/// What the threads and tasks that run a model share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) queue: Arc<Queue>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) lender: Arc<dyn Lender>,
    pub(crate) watchdog: Arc<Watchdog>,
    /// Runs that do not end, of all models: they may outlive their own.
    pub(crate) strays: Arc<AtomicIsize>,
    patron: Weak<dyn Patron>,
    /// What it has of the processors; none if it takes turns with nobody.
    part: Option<Part>,
    /// Itself, for its runs.
    pub(crate) this: Weak<Self>,
    pub(crate) plan: OnceLock<Plan>,
    /// Whether its runs are as short as they were measured.
    pub(crate) trust: Mutex<Trust>,
    /// When it last worked on its golden inputs.
    pub(crate) worked: Mutex<Option<Instant>>,
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
    pub(crate) queue: Arc<Queue>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) lender: Arc<dyn Lender>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) strays: Arc<AtomicIsize>,
    pub(crate) patron: Weak<dyn Patron>,
    pub(crate) part: Option<Part>,
}

impl Contexts {
    /// Threads are started when there is something for them; they run every call by itself until there is a plan.
    pub(crate) fn start(parts: Parts) -> Self {
        let Parts { name, queue, seat, lender, watchdog, strays, patron, part } = parts;
        let (life, alive) = crossbeam_channel::bounded(0);
        let threads = Mutex::new(Threads { handles: Vec::new(), life: Some(life) });
        let (plan, trust, worked, called) = (OnceLock::new(), Mutex::default(), Mutex::default(), Mutex::default());
        let shared = Arc::new_cyclic(|this| {
            let this = Weak::clone(this);
            Shared { name, queue, seat, lender, watchdog, strays, patron, part, this, plan, trust, worked, called, threads }
        });
        let starter = Arc::downgrade(&shared);
        shared.queue.start_threads_by(move || {
            let Some(shared) = starter.upgrade() else { return };
            if let Err(error) = shared.start_thread() {
                tracing::error!(model = shared.name, %error, "no thread can be started for it");
                shared.queue.lose_thread(Some(&error));
            }
        });
        Self { shared, alive }
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
            shared.queue.keep_from_tasks();
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
            let mut held = None;
            loop {
                // A turn is kept for as long as it takes to ask for the next one.
                held = held.filter(|_| shared.queue.is_ready());
                if !shared.queue.wait() {
                    break;
                }
                // Before anything is fetched: what comes until then may share the run, and what expires is none.
                let turn = shared.part.as_ref().map_or(Ok(None), |part| part.take(held.as_ref(), TURN_PATIENCE));
                held = None;
                let Ok(processor) = turn else { continue };
                let Some(fetched) = shared.queue.take() else { continue };
                // What is done around a run is ours, and no reason to lose a thread.
                let served = catch_unwind(AssertUnwindSafe(|| shared.serve(fetched, processor.as_ref(), false)));
                if served.is_ok_and(|keeps_its_place| !keeps_its_place) {
                    break;
                }
                shared.queue.done_on_thread();
                held = processor;
            }
            drop(shared);
            drop(life);
        })?;
        threads.handles.push(thread);
        Ok(())
    }

    pub(crate) fn tell(&self, what: impl FnOnce(&dyn Patron)) {
        if let Some(patron) = self.patron.upgrade() {
            what(&*patron);
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
            // Before its place is free: nobody starts a task for what waits then.
            self.queue.keep_from_tasks();
            self.queue.done();
        } else {
            self.queue.done_on_thread();
            self.queue.lose_thread(None);
        }
        self.strays.fetch_add(1, Ordering::Relaxed);
        self.tell(|patron| patron.strayed(true));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use bytes::Bytes;
    use sandmill_domain::{Axis, Blame, Code, Deadline, Dtype, Signature, TensorSpec};

    use super::*;
    use crate::batch::Policy;
    use crate::pad::Padding;
    use crate::plan::Inline;
    use crate::processors::Processors;
    use crate::processors::tests::part;
    use crate::rows::Rows;
    use crate::test_support::{self, Fake, Idle};
    use crate::trial::cpu_time;

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
        gated_by(Queue::new(queue_max, queue_bytes_max, 1))
    }

    fn gated_by(queue: Queue) -> Gated {
        let (begin, begun) = mpsc::channel();
        let begin = Mutex::new(begin);
        let (end, ends) = crossbeam_channel::unbounded();
        let (runs, session) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (counted, held) = (Arc::clone(&runs), Arc::clone(&session));
        let fake = Fake(move |inputs: &[Tensor]| {
            let _held = &held;
            counted.fetch_add(1, Ordering::SeqCst);
            lock(&begin).send(()).unwrap();
            ends.recv().unwrap();
            assert!(inputs.iter().all(|tensor| tensor.name != "broken"), "this one breaks");
            Ok(inputs.to_vec())
        });
        let patron: Arc<dyn Patron> = Arc::new(Idle);
        let contexts = test_support::contexts(queue, fake, &patron);
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
        assert!(ran_inline(&contexts, 450).await && ran_inline(&contexts, 10).await, "more than four times, and nothing yet");
        assert!(ran_inline(&contexts, 700).await, "seven times what was measured");
        assert!(!ran_inline(&contexts, 10).await);
    }

    #[tokio::test]
    async fn a_model_whose_runs_are_short_again_comes_back() {
        const PAUSE: Duration = Duration::from_millis(50);
        let inline = Inline { bytes_max: 1000, rows_max: 1, time: Duration::from_micros(100) };
        let contexts = telling(Plan { policy: Policy::OFF, rows: None, padding: Padding::default(), inline: Some(inline) });
        *lock(&contexts.shared.trust) = Trust::with_pause(PAUSE);
        assert!(ran_inline(&contexts, 1000).await && !ran_inline(&contexts, 10).await);
        let since = Instant::now();
        while !ran_inline(&contexts, 10).await {
            // Larger than those that are made there, and longer: nobody's surprise.
            assert!(!ran_inline(&contexts, 1001).await);
        }
        assert!(since.elapsed() >= PAUSE);
        contexts.shared.queue.keep_from_tasks();
        *lock(&contexts.shared.trust) = Trust::with_pause(Duration::ZERO);
        assert!(!ran_inline(&contexts, 1000).await && !ran_inline(&contexts, 10).await && !ran_inline(&contexts, 10).await);
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

    /// Models of two tenants, two of the first and one of the second, on one processor. Each run tells whose it is, and ends when its
    /// tenant's are told to.
    struct Rivals {
        models: [Contexts; 3],
        begun: mpsc::Receiver<char>,
        ends: [Sender<()>; 2],
    }

    fn rivals() -> Rivals {
        let processors = Processors::new(1);
        let parts = [part(&processors), part(&processors)];
        // Both are there.
        parts.iter().for_each(|part| drop(part.take(None, HOUR).unwrap()));
        let (begin, begun) = mpsc::channel();
        let (ends, ended): (Vec<_>, Vec<_>) = parts.iter().map(|_| crossbeam_channel::unbounded()).unzip();
        let models = [('a', 0), ('a', 0), ('b', 1)].map(|(name, whose)| {
            let (begin, ended) = (Mutex::new(begin.clone()), ended[whose].clone());
            let fake = Fake(move |inputs: &[Tensor]| {
                lock(&begin).send(name).unwrap();
                ended.recv().unwrap();
                Ok(inputs.to_vec())
            });
            let (queue, patron): (_, Arc<dyn Patron>) = (Queue::new(64, 1 << 20, 1), Arc::new(Idle));
            test_support::contexts_of(queue, fake, &patron, Some(parts[whose].clone()))
        });
        Rivals { models, begun, ends: ends.try_into().unwrap() }
    }

    #[tokio::test]
    async fn a_flood_of_one_tenant_has_one_turn_and_does_not_delay_anothers_run() {
        let Rivals { models, begun, ends } = rivals();
        let [one, another, other] = &models;
        let submit = |model: &Contexts| model.submit(tensor("x", 1), within(HOUR)).unwrap();
        let flood: Vec<_> = (0..10).flat_map(|_| [submit(one), submit(another)]).collect();
        for _ in 0..4 {
            assert_eq!(begun.recv().unwrap(), 'a');
            let answer = submit(other);
            assert_eq!(begun.recv().unwrap(), 'b');
            ends[1].send(()).unwrap();
            answer.wait().await.unwrap();
            ends[0].send(()).unwrap();
        }
        drop(flood);
        (0..20).for_each(|_| ends[0].send(()).unwrap());
    }

    #[tokio::test]
    async fn a_run_that_does_not_end_keeps_no_turn() {
        let Rivals { models, begun, ends } = rivals();
        let [one, another, _] = &models;
        let stray = one.submit(tensor("x", 1), within(Duration::from_millis(5))).unwrap();
        assert_eq!(begun.recv().unwrap(), 'a');
        let expires = another.submit(tensor("x", 1), within(Duration::from_millis(5))).unwrap();
        let waits = another.submit(tensor("y", 1), within(HOUR)).unwrap();
        assert!(stray.wait().await.is_err() && expires.wait().await.is_err());
        assert_eq!(begun.recv().unwrap(), 'a');
        (0..2).for_each(|_| ends[0].send(()).unwrap());
        assert_eq!(waits.wait().await.unwrap().outputs, tensor("y", 1));
        assert!(begun.try_recv().is_err(), "what had expired never ran");
    }

    #[tokio::test]
    async fn threads_are_there_while_there_is_something_for_them() {
        let fake = Fake(|inputs: &[Tensor]| Ok(inputs.to_vec()));
        let patron: Arc<dyn Patron> = Arc::new(Idle);
        let queue = Queue::new(16, 1 << 20, 2).with_thread_idle(Duration::from_millis(20));
        let contexts = test_support::contexts(queue, fake, &patron);
        let alive = || lock(&contexts.shared.threads).handles.iter().filter(|thread| !thread.is_finished()).count();
        assert_eq!(alive(), 0, "nobody has called");
        for _ in 0..3 {
            contexts.submit(tensor("x", 1), within(HOUR)).unwrap().wait().await.unwrap();
            assert!(alive() <= 2);
            while alive() > 0 {
                thread::yield_now();
            }
        }
        // What waits while nothing is run is run by threads that were not there.
        contexts.shared.queue.shut();
        let answer = contexts.submit(tensor("x", 1), within(HOUR)).unwrap();
        assert_eq!(alive(), 0);
        contexts.shared.queue.open();
        answer.wait().await.unwrap();
    }

    #[tokio::test]
    async fn as_many_threads_come_as_there_are_runs_and_no_more() {
        let gated = gated_by(Queue::new(16, 1 << 20, 2));
        let answers: Vec<_> = (0..3).map(|_| gated.contexts.submit(tensor("x", 1), within(HOUR)).unwrap()).collect();
        (0..2).for_each(|_| gated.begun.recv().unwrap());
        assert!(gated.begun.recv_timeout(Duration::from_millis(50)).is_err(), "two at once");
        (0..3).for_each(|_| gated.end.send(()).unwrap());
        for answer in answers {
            answer.wait().await.unwrap();
        }
        assert_eq!(lock(&gated.contexts.shared.threads).handles.len(), 2);
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
