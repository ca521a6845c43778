//! The calls of one model that wait, bounded in number and bytes, in two lanes: one for threads, which sleep until there are some, and
//! one for tasks, which are started when there are. Knows nothing of how a run is made.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sandmill_domain::{Advice, BatchReason, Code, Fault, Priority, Urgency};

use crate::batch::{self, Policy, Step};
use crate::call::{Bytes, Call, full};
use crate::lock;
use crate::order::Room;
use crate::pace::Pace;
use crate::watchdog::Expire;

/// A thread for which nothing has come for so long ends: thousands that wait would make every wake in the process a long search.
const THREAD_IDLE: Duration = Duration::from_secs(10);

/// The queue; closed when its model goes away.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Starts a thread that [waits](Queue::wait).
    start_thread: OnceLock<Box<dyn Fn() + Send + Sync>>,
    thread_idle: Duration,
    filled: Condvar,
    /// The last run under way has ended.
    rested: Condvar,
    calls_max: usize,
    bytes_max: usize,
    bytes: Arc<AtomicUsize>,
    /// Runs at once: on threads that carry requests, and on as many of the model's own.
    running_max: usize,
    /// How fast calls go through on threads that carry requests, and on the model's own.
    pace: [Pace; 2],
}

struct Waiting {
    for_threads: Lane,
    for_tasks: Lane,
    /// Whether calls may be put into the tasks' lane.
    has_tasks: bool,
    /// Whether they may be again, when they may not.
    may_return: bool,
    /// Runs under way on threads that carry requests.
    running: usize,
    /// Runs under way on the model's own threads.
    on_threads: usize,
    /// The model's own threads, and those of them that sleep.
    threads: usize,
    asleep: usize,
    /// Who waits until there are none. To tell nobody is a call of the kernel all the same, which every short run would make.
    resting: usize,
    /// A task has yet to come: it will find whatever is queued until then.
    coming: bool,
    gate: Gate,
    /// When somebody last asked.
    asked: Instant,
    closed: bool,
}

/// Whether calls are run.
#[derive(Clone, Debug)]
enum Gate {
    Open,
    /// They wait: a session is being made.
    Shut,
    /// There is no session; who comes first has one made, unless that has failed a moment ago.
    Unloaded {
        failed: Option<(Instant, String)>,
    },
}

struct Lane {
    calls: VecDeque<Arc<Call>>,
    policy: Policy,
}

/// What whoever has queued a call is to do.
pub(crate) enum Next {
    /// Nothing: somebody comes for it.
    Leave,
    /// Start a task, which will [`Queue::fetch`].
    SendTask,
    /// Run these at once, as nothing is gained by waiting, and then say so by [`Queue::done`].
    Run(Fetched),
    /// Have a session made: there is none, and this call is the first to wait for it.
    Load,
}

/// Calls that run together.
pub(crate) struct Fetched {
    pub(crate) calls: Vec<Arc<Call>>,
    pub(crate) reason: BatchReason,
    /// There is more, and nobody on the way to it: another task is to be started.
    pub(crate) more: bool,
}

impl Queue {
    /// An empty queue for threads, which fetch one call at a time.
    pub(crate) fn new(calls_max: usize, bytes_max: usize, running_max: usize) -> Self {
        let lane = || Lane { calls: VecDeque::new(), policy: Policy::OFF };
        let (for_threads, for_tasks) = (lane(), lane());
        let waiting = Waiting {
            for_threads,
            for_tasks,
            has_tasks: false,
            may_return: true,
            running: 0,
            on_threads: 0,
            threads: 0,
            asleep: 0,
            resting: 0,
            coming: false,
            gate: Gate::Open,
            asked: Instant::now(),
            closed: false,
        };
        let waiting = Mutex::new(waiting);
        Self {
            waiting,
            start_thread: OnceLock::new(),
            thread_idle: THREAD_IDLE,
            filled: Condvar::new(),
            rested: Condvar::new(),
            calls_max,
            bytes_max,
            bytes: Arc::default(),
            running_max,
            pace: Default::default(),
        }
    }

    /// Threads end when nothing has come for so long.
    #[cfg(test)]
    pub(crate) fn with_thread_idle(self, thread_idle: Duration) -> Self {
        Self { thread_idle, ..self }
    }

    /// How a thread is started; the first holds, and those that should have been before it are.
    pub(crate) fn start_threads_by(&self, start: impl Fn() + Send + Sync + 'static) {
        drop(self.start_thread.set(Box::new(start)));
        self.tell_threads(lock(&self.waiting));
    }

    /// Wakes the threads, and has others started if those that sleep are too few for what waits.
    fn tell_threads(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let Some(start) = self.start_thread.get() else { return };
        let holds = !waiting.closed && !matches!(waiting.gate, Gate::Open);
        let wanted = if holds { 0 } else { waiting.for_threads.calls.len().saturating_sub(waiting.asleep) };
        let missing = wanted.min(self.running_max.saturating_sub(waiting.threads));
        waiting.threads += missing;
        let asleep = waiting.asleep;
        drop(waiting);
        if asleep > 0 {
            self.filled.notify_all();
        }
        (0..missing).for_each(|_| start());
    }

    /// A thread is no more, or could not be started. Without any, nobody would come for what waits.
    pub(crate) fn lose_thread(&self, why: Option<&io::Error>) {
        let mut waiting = lock(&self.waiting);
        waiting.threads = waiting.threads.saturating_sub(1);
        let Some(error) = why else { return self.tell_threads(waiting) };
        // Whoever is there comes for it, or is the next that could not be started. To try once more at once would be for ever.
        if waiting.threads > 0 {
            return;
        }
        let left = std::mem::take(&mut waiting.for_threads.calls);
        drop(waiting);
        let fault = || Fault::new(Code::Overloaded, "the host has no thread left for the model").because(error.to_string());
        left.iter().for_each(|call| call.end(Err(fault())));
    }

    /// From now on calls wait.
    pub(crate) fn shut(&self) {
        self.hold(Gate::Shut);
    }

    /// From now on there is no session, and whoever comes first is told to have one made. False, and nothing is changed, if somebody
    /// waits or runs.
    pub(crate) fn unload(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.for_threads.forget();
        waiting.for_tasks.forget();
        if waiting.len() > 0 || waiting.runs() > 0 || !matches!(waiting.gate, Gate::Open) {
            return false;
        }
        waiting.gate = Gate::Unloaded { failed: None };
        true
    }

    /// No session could be made: who waits is refused, and so is who comes until then.
    pub(crate) fn refuse(&self, until: Instant, why: &str) {
        let mut waiting = lock(&self.waiting);
        let mut left = std::mem::take(&mut waiting.for_threads.calls);
        left.extend(std::mem::take(&mut waiting.for_tasks.calls));
        waiting.gate = Gate::Unloaded { failed: Some((until, why.to_owned())) };
        drop(waiting);
        left.iter().for_each(|call| call.end(Err(not_loaded(until, why))));
    }

    /// Calls are run again.
    pub(crate) fn open(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.gate = Gate::Open;
        self.tell_threads(waiting);
    }

    fn hold(&self, gate: Gate) {
        let mut waiting = lock(&self.waiting);
        waiting.gate = gate;
        // Threads are told when it opens, tasks would have to be sent.
        let left = std::mem::take(&mut waiting.for_tasks.calls);
        waiting.for_threads.calls.extend(left);
    }

    /// Waits until no run is under way; false if that takes too long. It is for whoever has shut the queue.
    pub(crate) fn rest(&self, until: Instant) -> bool {
        let mut waiting = lock(&self.waiting);
        while waiting.runs() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            waiting.resting += 1;
            waiting = self.rested.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            waiting.resting -= 1;
        }
        true
    }

    /// Whether calls wait for a session to be made.
    pub(crate) fn is_shut(&self) -> bool {
        matches!(lock(&self.waiting).gate, Gate::Shut)
    }

    /// Calls that wait, by their priorities, and runs that are under way.
    pub(crate) fn load(&self) -> ([usize; 3], usize) {
        let waiting = lock(&self.waiting);
        let calls = || waiting.for_threads.calls.iter().chain(&waiting.for_tasks.calls);
        (Priority::ALL.map(|priority| calls().filter(|call| call.priority == priority).count()), waiting.runs())
    }

    /// As if somebody had just asked.
    pub(crate) fn touch(&self) {
        lock(&self.waiting).asked = Instant::now();
    }

    /// Since when nobody has asked.
    pub(crate) fn asked(&self) -> Instant {
        lock(&self.waiting).asked
    }

    /// How calls are fetched from now on; by tasks only if there is a policy for them.
    pub(crate) fn set(&self, threads: Policy, tasks: Option<Policy>) {
        let mut waiting = lock(&self.waiting);
        waiting.for_threads.policy = threads;
        waiting.for_tasks.policy = tasks.unwrap_or(Policy::OFF);
        waiting.has_tasks = tasks.is_some();
        self.tell_threads(waiting);
    }

    /// All calls are fetched by threads from now on, for ever.
    pub(crate) fn keep_from_tasks(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.may_return = false;
        waiting.leave_to_threads();
        self.tell_threads(waiting);
    }

    /// All calls are fetched by threads from now on; whether that is new.
    pub(crate) fn leave_to_threads(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        let had_tasks = waiting.leave_to_threads();
        self.tell_threads(waiting);
        had_tasks
    }

    /// Short calls are fetched by tasks again, if they ever may be; whether they are.
    pub(crate) fn return_to_tasks(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.has_tasks = waiting.may_return;
        waiting.has_tasks
    }

    /// Counts a call's bytes against the part of the bound that is there for its priority.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(crate) fn count(&self, bytes: usize, priority: Priority) -> Result<Bytes, Fault> {
        Bytes::count(&self.bytes, bytes, Room::of(priority, self.bytes_max)).ok_or_else(|| full(priority))
    }

    /// Whether a call would be queued now.
    ///
    /// # Errors
    /// As [`Queue::push`].
    pub(crate) fn check(&self, urgency: Urgency) -> Result<(), Fault> {
        let mut waiting = lock(&self.waiting);
        waiting.check(Room::of(urgency.priority, self.calls_max), urgency.priority)?;
        // It may be for either lane: nobody knows yet.
        if waiting.has_tasks {
            self.in_time(&waiting, true, urgency).or_else(|_| self.in_time(&waiting, false, urgency))
        } else {
            self.in_time(&waiting, false, urgency)
        }
    }

    /// What could not be answered in time is refused while that costs nothing. Who finds a place free, or would have the next one, is
    /// never refused: its run tells how long runs take by now.
    fn in_time(&self, waiting: &Waiting, here: bool, urgency: Urgency) -> Result<(), Fault> {
        let (lane, free) = (waiting.lane(here), waiting.free(here, self.running_max));
        let before = lane.before(urgency.priority).saturating_sub(free);
        let (left, needed) = (urgency.deadline.remaining(Instant::now()), self.pace(here).answers_in(before, self.running_max));
        let is_late = before > 0 && matches!(waiting.gate, Gate::Open) && needed > left;
        if is_late { Err(too_late(before, needed, left)) } else { Ok(()) }
    }

    /// How fast calls go through, on threads that carry requests or (not `here`) on the model's own.
    pub(crate) fn pace(&self, here: bool) -> &Pace {
        &self.pace[usize::from(here)]
    }

    /// Queues a call, for a task if it is `short`.
    ///
    /// # Errors
    /// `Overloaded` if too many wait, or so many that its deadline would come first; `NotReady` if the model is going away.
    pub(crate) fn push(&self, call: Arc<Call>, short: bool) -> Result<Next, Fault> {
        let mut waiting = lock(&self.waiting);
        waiting.check(Room::of(call.priority, self.calls_max), call.priority)?;
        let here = short && waiting.has_tasks;
        self.in_time(&waiting, here, Urgency { deadline: call.deadline, priority: call.priority })?;
        waiting.asked = Instant::now();
        if !matches!(waiting.gate, Gate::Open) {
            return Ok(waiting.queue_shut(call));
        }
        if here {
            waiting.for_tasks.calls.push_back(call);
            return Ok(match self.next(&mut waiting, true, Instant::now()) {
                Step::Run { places, reason: reason @ (BatchReason::Full | BatchReason::Alone) }
                    if waiting.running < self.running_max =>
                {
                    waiting.running += 1;
                    Next::Run(Fetched { calls: waiting.for_tasks.take(&places), reason, more: false })
                }
                _ if waiting.send_task(self.running_max) => Next::SendTask,
                _ => Next::Leave,
            });
        }
        waiting.for_threads.calls.push_back(call);
        self.tell_threads(waiting);
        Ok(Next::Leave)
    }

    /// For a task that has come: the next batch, to be followed by [`Queue::done`], or none.
    pub(crate) fn fetch(&self, now: Instant) -> Option<Fetched> {
        let mut waiting = lock(&self.waiting);
        waiting.coming = false;
        if waiting.running >= self.running_max {
            // Whoever is done first sends for these.
            return None;
        }
        if !matches!(waiting.gate, Gate::Open) {
            return None;
        }
        let Step::Run { places, reason } = self.next(&mut waiting, true, now) else { return None };
        let calls = waiting.for_tasks.take(&places);
        waiting.running += 1;
        let more = !waiting.for_tasks.calls.is_empty() && waiting.send_task(self.running_max);
        Some(Fetched { calls, reason, more })
    }

    /// A run on a thread that carries requests is over; true if a task is to be started for what waits.
    pub(crate) fn done(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.running = waiting.running.saturating_sub(1);
        self.tell_rested(&waiting);
        !waiting.for_tasks.calls.is_empty() && waiting.send_task(self.running_max)
    }

    /// A task was dropped before it came.
    pub(crate) fn forget_task(&self) {
        lock(&self.waiting).coming = false;
    }

    /// For a thread: waits until there is a batch to [take](Queue::take); false if it is to end, as the queue is closed and empty, or
    /// nothing has come for long.
    pub(crate) fn wait(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        let since = Instant::now();
        loop {
            waiting = match self.next_for_thread(&mut waiting) {
                Step::Run { .. } => return true,
                Step::Rest if waiting.closed || since.elapsed() >= self.thread_idle => {
                    waiting.threads = waiting.threads.saturating_sub(1);
                    return false;
                }
                Step::Rest => self.sleep(waiting, since + self.thread_idle),
                Step::Wait { until } => self.sleep(waiting, until),
            };
        }
    }

    /// Whether there is one without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.next_for_thread(&mut lock(&self.waiting)), Step::Run { .. })
    }

    /// The next batch for a thread, to be followed by [`Queue::done_on_thread`]; none if there is none after all: others took it, or
    /// nobody waits for it any more.
    pub(crate) fn take(&self) -> Option<Fetched> {
        let mut waiting = lock(&self.waiting);
        let Step::Run { places, reason } = self.next_for_thread(&mut waiting) else { return None };
        let calls = waiting.for_threads.take(&places);
        waiting.on_threads += 1;
        Some(Fetched { calls, reason, more: false })
    }

    /// A run on one of the model's threads is over, or left to itself.
    pub(crate) fn done_on_thread(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.on_threads = waiting.on_threads.saturating_sub(1);
        self.tell_rested(&waiting);
    }

    fn tell_rested(&self, waiting: &Waiting) {
        if waiting.resting > 0 && waiting.runs() == 0 {
            self.rested.notify_all();
        }
    }

    fn next_for_thread(&self, waiting: &mut Waiting) -> Step {
        let holds = !waiting.closed && !matches!(waiting.gate, Gate::Open);
        if holds { Step::Rest } else { self.next(waiting, false, Instant::now()) }
    }

    /// What is to be run next of what is still wanted and can still be answered.
    fn next(&self, waiting: &mut Waiting, here: bool, now: Instant) -> Step {
        let free = waiting.free(here, self.running_max);
        let lane = if here { &mut waiting.for_tasks } else { &mut waiting.for_threads };
        lane.forget();
        lane.give_up(now, self.pace(here).run(), free);
        lane.next(now)
    }

    fn sleep<'a>(&self, mut waiting: MutexGuard<'a, Waiting>, until: Instant) -> MutexGuard<'a, Waiting> {
        waiting.asleep += 1;
        let time = until.saturating_duration_since(Instant::now());
        waiting = self.filled.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0;
        waiting.asleep -= 1;
        waiting
    }

    /// Takes no more calls; threads end when those that wait have run.
    pub(crate) fn close(&self) {
        self.leave_to_threads();
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        self.tell_threads(waiting);
    }
}

impl Lane {
    /// Drops the calls that nobody waits for any more.
    fn forget(&mut self) {
        self.calls.retain(|call| call.is_wanted());
    }

    /// Those that a call of this priority comes after.
    fn before(&self, priority: Priority) -> usize {
        self.calls.iter().filter(|call| call.priority <= priority && call.is_wanted()).count()
    }

    /// Ends calls that have less time left than a run takes, the latest first: begun, they would be cut off, and those behind them be
    /// late as well. As many as could begin now stay, or a model that was slow once would be taken for slow for ever.
    fn give_up(&mut self, now: Instant, run: Duration, free: usize) {
        let left = |call: &Arc<Call>| call.deadline.remaining(now);
        let mut late: Vec<_> = self.calls.iter().filter(|call| left(call) < run).cloned().collect();
        late.sort_by_key(left);
        late.truncate(self.calls.len().saturating_sub(free.max(1)));
        if !late.is_empty() {
            late.into_iter().for_each(Expire::expire);
            self.forget();
        }
    }

    fn next(&mut self, now: Instant) -> Step {
        batch::next(self.calls.iter().map(|call| &call.slot), self.policy, now)
    }

    /// Places that ascend.
    fn take(&mut self, places: &[usize]) -> Vec<Arc<Call>> {
        let taken: Vec<_> = places.iter().rev().filter_map(|place| self.calls.remove(*place)).collect();
        taken.into_iter().rev().collect()
    }
}

impl Waiting {
    fn lane(&self, here: bool) -> &Lane {
        if here { &self.for_tasks } else { &self.for_threads }
    }

    /// Places where a run could begin.
    fn free(&self, here: bool, running_max: usize) -> usize {
        running_max.saturating_sub(if here { self.running } else { self.on_threads })
    }

    fn len(&self) -> usize {
        self.for_threads.calls.len() + self.for_tasks.calls.len()
    }

    /// Whether another call may wait.
    fn check(&mut self, room: Room, priority: Priority) -> Result<(), Fault> {
        if self.closed {
            return Err(Fault::new(Code::NotReady, "the model is going away"));
        }
        if let Gate::Unloaded { failed: Some((until, why)) } = &self.gate
            && Instant::now() < *until
        {
            return Err(not_loaded(*until, why));
        }
        if room.add(self.len(), 1).is_none() {
            self.for_threads.forget();
            self.for_tasks.forget();
        }
        if room.add(self.len(), 1).is_none() { Err(full(priority)) } else { Ok(()) }
    }

    fn runs(&self) -> usize {
        self.running + self.on_threads
    }

    /// Whether that is new.
    fn leave_to_threads(&mut self) -> bool {
        let left = std::mem::take(&mut self.for_tasks.calls);
        self.for_threads.calls.extend(left);
        std::mem::replace(&mut self.has_tasks, false)
    }

    /// Queues a call while calls wait.
    fn queue_shut(&mut self, call: Arc<Call>) -> Next {
        let next = match &self.gate {
            Gate::Unloaded { .. } => Next::Load,
            Gate::Open | Gate::Shut => Next::Leave,
        };
        self.gate = Gate::Shut;
        self.for_threads.calls.push_back(call);
        next
    }

    /// Whether a task is to be started.
    fn send_task(&mut self, running_max: usize) -> bool {
        let send = !self.coming && self.running < running_max;
        self.coming |= send;
        send
    }
}

fn too_late(before: usize, needed: Duration, left: Duration) -> Fault {
    let message =
        format!("the model is busy: the answer would take {} ms, and there are {} left", needed.as_millis(), left.as_millis());
    Fault::new(Code::Overloaded, message).because(format!("{before} calls wait before it")).advising(Advice::RetryAfter(needed))
}

fn not_loaded(until: Instant, why: &str) -> Fault {
    let left = until.saturating_duration_since(Instant::now());
    let fault = Fault::new(Code::NotReady, "the model could not be loaded again");
    fault.because(why.to_owned()).advising(Advice::RetryAfter(left))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use sandmill_domain::Deadline;

    use super::*;
    use crate::batch::Slot;
    use crate::call::Work;
    use crate::order::Rank;

    fn call(queue: &Queue) -> Arc<Call> {
        of(queue, Priority::Normal)
    }

    fn of(queue: &Queue, priority: Priority) -> Arc<Call> {
        within(queue, priority, Duration::from_secs(60))
    }

    fn within(queue: &Queue, priority: Priority, time: Duration) -> Arc<Call> {
        let now = Instant::now();
        let urgency = Urgency { deadline: Deadline::after(now, time), priority };
        let slot = Slot { rows: Some(1), tail: vec![], bytes: 0, submitted: now, rank: Rank::new(urgency, now) };
        let work = Work { inputs: vec![], _bytes: queue.count(0, priority).unwrap() };
        // Held by the queue alone: the reply is still there.
        let (call, outcome) = Call::new(work, slot, urgency);
        std::mem::forget(outcome);
        call
    }

    fn wait(queue: &Queue) -> Option<Fetched> {
        queue.wait().then(|| queue.take()).flatten()
    }

    fn sends(queue: &Queue) -> bool {
        matches!(queue.push(call(queue), true).unwrap(), Next::SendTask)
    }

    fn leaves(queue: &Queue, short: bool) -> bool {
        matches!(queue.push(call(queue), short).unwrap(), Next::Leave)
    }

    fn by_tasks(tasks_max: usize) -> Queue {
        let queue = Queue::new(16, 0, tasks_max);
        queue.set(Policy::OFF, Some(Policy { rows_max: 4, ..Policy::OFF }));
        queue
    }

    #[test]
    fn one_task_comes_for_all_calls_that_are_queued_before_it_does() {
        let queue = by_tasks(2);
        assert!(sends(&queue) && leaves(&queue, true), "one is coming");
        let fetched = queue.fetch(Instant::now()).unwrap();
        assert_eq!((fetched.calls.len(), fetched.reason, fetched.more), (2, BatchReason::Idle, false));
        // While that runs, another one is sent, and no third.
        assert!(sends(&queue));
        assert!(queue.fetch(Instant::now()).is_some());
        assert!(leaves(&queue, true), "both places are taken");
        assert!(queue.done() && !queue.done(), "the first to be done sends for it");
        assert!(queue.fetch(Instant::now()).is_some() && queue.fetch(Instant::now()).is_none());
        assert!(!queue.done());
        assert!(sends(&queue), "nobody is there");
    }

    #[test]
    fn who_fills_a_batch_runs_it() {
        let queue = by_tasks(2);
        assert!(sends(&queue) && leaves(&queue, true) && leaves(&queue, true));
        let Next::Run(fetched) = queue.push(call(&queue), true).unwrap() else { panic!("it is full") };
        assert_eq!((fetched.calls.len(), fetched.reason), (4, BatchReason::Full));
        assert!(queue.fetch(Instant::now()).is_none(), "the task comes too late");

        queue.set(Policy::OFF, Some(Policy::OFF));
        let Next::Run(fetched) = queue.push(call(&queue), true).unwrap() else { panic!("it is for itself") };
        assert_eq!((fetched.calls.len(), fetched.reason), (1, BatchReason::Alone));
        // Both places are taken, the first by the batch: what comes now waits until one is done.
        assert!(leaves(&queue, true));
        assert!(queue.done() && !queue.done());
        assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
    }

    #[test]
    fn however_many_are_ready_at_once_the_queue_is_never_longer_than_a_batch() {
        let queue = by_tasks(1);
        let mut ran = 0;
        for _ in 0..100 {
            if let Next::Run(fetched) = queue.push(call(&queue), true).unwrap() {
                ran += fetched.calls.len();
                queue.done();
            }
            assert!(lock(&queue.waiting).len() < 4);
        }
        assert_eq!(ran, 100);
    }

    #[test]
    fn a_task_that_is_dropped_leaves_its_place() {
        let queue = by_tasks(1);
        assert!(sends(&queue));
        queue.forget_task();
        assert!(sends(&queue));
        assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 2);
    }

    #[test]
    fn a_long_call_is_for_threads_while_short_ones_are_for_tasks() {
        let queue = by_tasks(1);
        assert!(leaves(&queue, false));
        assert!(sends(&queue));
        let fetched = wait(&queue).unwrap();
        assert_eq!((fetched.calls.len(), fetched.reason), (1, BatchReason::Alone));
        assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
    }

    #[test]
    fn both_lanes_count_against_one_bound() {
        let queue = Queue::new(2, 0, 1);
        queue.set(Policy::OFF, Some(Policy { rows_max: 4, ..Policy::OFF }));
        assert!(leaves(&queue, false) && sends(&queue));
        assert!(queue.push(call(&queue), true).is_err_and(|fault| fault.code == Code::Overloaded));
    }

    #[test]
    fn lower_priorities_leave_room_for_higher_ones() {
        use Priority::{High, Low, Normal};
        let queue = Queue::new(8, 80, 1);
        let push = |priority| queue.push(of(&queue, priority), false).err().map(|fault| fault.message);
        let fits = |priority, count| (0..count).all(|_| push(priority).is_none());
        assert!(fits(Low, 4));
        assert_eq!(push(Low).unwrap(), "the model's queue is full for calls of priority low, which may fill half of it");
        assert!(fits(Normal, 2));
        assert_eq!(push(Normal).unwrap(), "the model's queue is full for calls of priority normal, which may fill 3/4 of it");
        assert!(fits(High, 2));
        assert_eq!(push(High).unwrap(), "the model's queue is full");

        let mut held = vec![queue.count(40, Low).unwrap()];
        assert!(queue.count(1, Low).is_err());
        held.push(queue.count(20, Normal).unwrap());
        assert!(queue.count(1, Normal).is_err());
        held.push(queue.count(20, High).unwrap());
        assert!(queue.count(1, High).is_err_and(|fault| fault.code == Code::Overloaded));
        drop(held);
        assert!(queue.count(81, High).is_err() && queue.count(80, Low).is_ok(), "whoever is alone may take all");
    }

    #[test]
    fn calls_of_a_higher_priority_are_fetched_first() {
        let queue = Queue::new(16, 0, 1);
        for priority in [Priority::Low, Priority::Normal, Priority::Normal, Priority::High] {
            assert!(matches!(queue.push(of(&queue, priority), false), Ok(Next::Leave)));
        }
        let fetched: Vec<_> = (0..4).map(|_| wait(&queue).unwrap().calls[0].priority).collect();
        assert_eq!(fetched, [Priority::High, Priority::Normal, Priority::Normal, Priority::Low]);
    }

    #[test]
    fn calls_that_would_be_late_are_refused_and_those_that_became_late_never_run() {
        use Priority::{High, Low, Normal};
        let queue = Queue::new(16, 0, 1);
        let push = |priority, ms| queue.push(within(&queue, priority, Duration::from_millis(ms)), false);
        // Nothing is known.
        assert!((0..4).all(|_| push(Normal, 50).is_ok()));
        queue.pace(false).ran(Duration::from_secs(1), 1, true);
        // One of the four has the free place, and three wait before this one's own run.
        let fault = push(Normal, 3_900).err().expect("too late");
        assert_eq!(fault.code, Code::Overloaded);
        assert!(
            fault.message.starts_with("the model is busy: the answer would take 4000 ms, and there are 3"),
            "{}",
            fault.message
        );
        assert!(push(High, 900).is_ok() && push(Normal, 5_900).is_ok());
        let low =
            |ms| queue.check(Urgency { deadline: Deadline::after(Instant::now(), Duration::from_millis(ms)), priority: Low });
        assert!(low(5_900).is_err() && low(6_500).is_ok());
        // All but the last have less left than a run takes.
        let ran = wait(&queue).expect("the only one with time").calls;
        assert_eq!(ran[0].deadline.remaining(Instant::now()).as_secs(), 5);
        assert_eq!(queue.load().0, [0, 0, 0]);
    }

    #[test]
    fn of_calls_that_are_all_late_as_many_run_as_could_begin_and_those_with_the_most_time() {
        let queue = Queue::new(16, 0, 2);
        let push = |ms| queue.push(within(&queue, Priority::Normal, Duration::from_millis(ms)), false);
        assert!([300, 900, 100, 600].into_iter().all(|ms| push(ms).is_ok()));
        queue.pace(false).ran(Duration::from_secs(100), 1, true);
        let ms = |fetched: Fetched| fetched.calls[0].deadline.remaining(Instant::now()).as_millis() / 300;
        assert_eq!([wait(&queue).map(ms), wait(&queue).map(ms)], [Some(2), Some(1)]);
        assert_eq!(queue.load().0, [0, 0, 0]);
        // Both places are taken, and this would have the next one.
        assert!(push(50).is_ok() && push(50).is_err());
    }

    #[test]
    fn who_has_gone_is_nobody_to_wait_for() {
        let queue = Queue::new(16, 0, 1);
        queue.pace(false).ran(Duration::from_secs(40), 1, true);
        let gone: Vec<_> = (0..3).map(|_| call(&queue)).collect();
        assert!(queue.push(Arc::clone(&gone[0]), false).is_ok() && queue.push(Arc::clone(&gone[1]), false).is_ok());
        assert!(queue.push(Arc::clone(&gone[2]), false).is_err(), "80 s, and 60 left");
        gone.into_iter().for_each(Expire::expire);
        assert!(queue.push(call(&queue), false).is_ok());
    }

    #[test]
    fn long_runs_of_one_lane_make_nobody_late_in_the_other() {
        let queue = by_tasks(1);
        queue.pace(false).ran(Duration::from_secs(1000), 1, true);
        assert!(leaves(&queue, false));
        assert!(
            queue
                .check(Urgency { deadline: Deadline::after(Instant::now(), Duration::from_secs(1)), priority: Priority::Normal })
                .is_ok()
        );
        assert!(sends(&queue) && leaves(&queue, true));
        assert_eq!(queue.fetch(Instant::now()).expect("both").calls.len(), 2);
    }

    #[test]
    fn threads_that_cannot_be_started_are_tried_once_for_each_call() {
        let queue = Arc::new(Queue::new(16, 0, 2));
        let (tried, starter) = (Arc::new(AtomicUsize::new(0)), Arc::downgrade(&queue));
        let counted = Arc::clone(&tried);
        queue.start_threads_by(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            starter.upgrade().unwrap().lose_thread(Some(&io::ErrorKind::WouldBlock.into()));
        });
        queue.shut();
        let calls: Vec<_> = (0..2).map(|_| call(&queue)).collect();
        calls.iter().for_each(|call| assert!(queue.push(Arc::clone(call), false).is_ok()));
        queue.open();
        assert_eq!(tried.load(Ordering::Relaxed), 2);
        assert!(calls.iter().all(|call| !call.is_wanted()), "nobody would come for them");
        // One is there and at work: it comes for what waits.
        lock(&queue.waiting).threads = 1;
        assert!(queue.push(call(&queue), false).is_ok());
        assert_eq!((tried.load(Ordering::Relaxed), queue.load().0), (3, [0, 1, 0]));
    }

    #[test]
    fn what_tasks_leave_threads_take() {
        let queue = by_tasks(1);
        assert!(sends(&queue));
        assert!(queue.leave_to_threads() && !queue.leave_to_threads());
        assert!(queue.fetch(Instant::now()).is_none());
        assert_eq!(wait(&queue).unwrap().calls.len(), 1);
        assert!(leaves(&queue, true));
        assert_eq!(wait(&queue).unwrap().calls.len(), 1);
        queue.close();
        assert!(wait(&queue).is_none());
        assert!(queue.push(call(&queue), true).is_err_and(|fault| fault.code == Code::NotReady));
    }

    #[test]
    fn tasks_come_back_unless_they_never_may() {
        let queue = by_tasks(1);
        assert!(queue.leave_to_threads() && leaves(&queue, true));
        assert!(queue.return_to_tasks());
        assert!(sends(&queue), "the one before it is for a thread");
        assert_eq!(queue.fetch(Instant::now()).unwrap().calls.len(), 1);
        assert_eq!(wait(&queue).unwrap().calls.len(), 1);
        queue.keep_from_tasks();
        assert!(!queue.return_to_tasks() && leaves(&queue, true));
    }

    #[test]
    fn a_thread_waits_for_a_batch_only_as_long_as_its_delay() {
        let queue = Queue::new(16, 0, 1);
        queue.set(Policy { rows_max: 4, delay: Duration::from_millis(20), ..Policy::OFF }, None);
        let begun = Instant::now();
        queue.push(call(&queue), true).unwrap();
        let fetched = wait(&queue).unwrap();
        assert_eq!(fetched.reason, BatchReason::Delay);
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
