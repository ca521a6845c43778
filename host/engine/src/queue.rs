//! The calls of one model that wait, bounded in number and bytes, in two lanes: one for threads, which sleep until there are some, and
//! one for tasks, which are started when there are. Knows nothing of how a run is made.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sandmill_domain::{Advice, BatchReason, Code, Fault, Priority};

use crate::batch::{self, Policy, Step};
use crate::call::{Bytes, Call, full};
use crate::lock;
use crate::order::Room;

/// The queue; closed when its model goes away.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    /// The last run under way has ended.
    rested: Condvar,
    calls_max: usize,
    bytes_max: usize,
    bytes: Arc<AtomicUsize>,
    /// Runs on threads that carry requests at once.
    running_max: usize,
}

struct Waiting {
    for_threads: Lane,
    for_tasks: Lane,
    /// Whether calls may be put into the tasks' lane.
    has_tasks: bool,
    /// Runs under way on threads that carry requests.
    running: usize,
    /// Runs under way on the model's own threads.
    on_threads: usize,
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
            running: 0,
            on_threads: 0,
            coming: false,
            gate: Gate::Open,
            asked: Instant::now(),
            closed: false,
        };
        let waiting = Mutex::new(waiting);
        Self { waiting, filled: Condvar::new(), rested: Condvar::new(), calls_max, bytes_max, bytes: Arc::default(), running_max }
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
        lock(&self.waiting).gate = Gate::Open;
        self.filled.notify_all();
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
            waiting = self.rested.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
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
        drop(waiting);
        self.filled.notify_all();
    }

    /// All calls are fetched by threads from now on; whether that is new.
    pub(crate) fn leave_to_threads(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        let had_tasks = std::mem::replace(&mut waiting.has_tasks, false);
        let left = std::mem::take(&mut waiting.for_tasks.calls);
        waiting.for_threads.calls.extend(left);
        drop(waiting);
        self.filled.notify_all();
        had_tasks
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
    pub(crate) fn check(&self, priority: Priority) -> Result<(), Fault> {
        let mut waiting = lock(&self.waiting);
        waiting.check(Room::of(priority, self.calls_max), priority)
    }

    /// Queues a call, for a task if it is `short`.
    ///
    /// # Errors
    /// `Overloaded` if too many wait, `NotReady` if the model is going away.
    pub(crate) fn push(&self, call: Arc<Call>, short: bool) -> Result<Next, Fault> {
        let mut waiting = lock(&self.waiting);
        waiting.check(Room::of(call.priority, self.calls_max), call.priority)?;
        waiting.asked = Instant::now();
        if !matches!(waiting.gate, Gate::Open) {
            return Ok(waiting.queue_shut(call));
        }
        if short && waiting.has_tasks {
            waiting.for_tasks.calls.push_back(call);
            return Ok(match waiting.for_tasks.next(Instant::now()) {
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
        drop(waiting);
        self.filled.notify_one();
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
        let Step::Run { places, reason } = waiting.for_tasks.next(now) else { return None };
        let calls = waiting.for_tasks.take(&places);
        waiting.running += 1;
        let more = !waiting.for_tasks.calls.is_empty() && waiting.send_task(self.running_max);
        Some(Fetched { calls, reason, more })
    }

    /// A run on a thread that carries requests is over; true if a task is to be started for what waits.
    pub(crate) fn done(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.running = waiting.running.saturating_sub(1);
        if waiting.runs() == 0 {
            self.rested.notify_all();
        }
        !waiting.for_tasks.calls.is_empty() && waiting.send_task(self.running_max)
    }

    /// A task was dropped before it came.
    pub(crate) fn forget_task(&self) {
        lock(&self.waiting).coming = false;
    }

    /// For a thread: waits until there is a batch to [take](Queue::take); false when the queue is closed and empty.
    pub(crate) fn wait(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        loop {
            waiting = match waiting.next_for_thread() {
                Step::Run { .. } => return true,
                Step::Rest if waiting.closed => return false,
                Step::Rest => self.sleep(waiting, None),
                Step::Wait { until } => self.sleep(waiting, Some(until)),
            };
        }
    }

    /// The next batch for a thread, to be followed by [`Queue::done_on_thread`]; none if there is none after all: others took it, or
    /// nobody waits for it any more.
    pub(crate) fn take(&self) -> Option<Fetched> {
        let mut waiting = lock(&self.waiting);
        let Step::Run { places, reason } = waiting.next_for_thread() else { return None };
        let calls = waiting.for_threads.take(&places);
        waiting.on_threads += 1;
        Some(Fetched { calls, reason, more: false })
    }

    /// A run on one of the model's threads is over, or left to itself.
    pub(crate) fn done_on_thread(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.on_threads = waiting.on_threads.saturating_sub(1);
        if waiting.runs() == 0 {
            self.rested.notify_all();
        }
    }

    fn sleep<'a>(&self, waiting: MutexGuard<'a, Waiting>, until: Option<Instant>) -> MutexGuard<'a, Waiting> {
        match until {
            None => self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                self.filled.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Takes no more calls; threads end when those that wait have run.
    pub(crate) fn close(&self) {
        self.leave_to_threads();
        lock(&self.waiting).closed = true;
        self.filled.notify_all();
    }
}

impl Lane {
    /// Drops the calls that nobody waits for any more.
    fn forget(&mut self) {
        self.calls.retain(|call| call.is_wanted());
    }

    fn next(&mut self, now: Instant) -> Step {
        self.forget();
        batch::next(self.calls.iter().map(|call| &call.slot), self.policy, now)
    }

    /// Places that ascend.
    fn take(&mut self, places: &[usize]) -> Vec<Arc<Call>> {
        let taken: Vec<_> = places.iter().rev().filter_map(|place| self.calls.remove(*place)).collect();
        taken.into_iter().rev().collect()
    }
}

impl Waiting {
    fn next_for_thread(&mut self) -> Step {
        let holds = !self.closed && !matches!(self.gate, Gate::Open);
        if holds { Step::Rest } else { self.for_threads.next(Instant::now()) }
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

fn not_loaded(until: Instant, why: &str) -> Fault {
    let left = until.saturating_duration_since(Instant::now());
    let fault = Fault::new(Code::NotReady, "the model could not be loaded again");
    fault.because(why.to_owned()).advising(Advice::RetryAfter(left))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandmill_domain::{Deadline, Urgency};

    use super::*;
    use crate::batch::Slot;
    use crate::call::Work;
    use crate::order::Rank;

    fn call(queue: &Queue) -> Arc<Call> {
        of(queue, Priority::Normal)
    }

    fn of(queue: &Queue, priority: Priority) -> Arc<Call> {
        let now = Instant::now();
        let urgency = Urgency { deadline: Deadline::after(now, Duration::from_secs(60)), priority };
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
