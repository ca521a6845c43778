//! The calls of one model that wait, bounded in number and bytes, in two lanes: one for threads, which sleep until there are some, and
//! one for tasks, which are started when there are. Knows nothing of how a run is made.

#[cfg(test)]
mod tests;
mod waiting;

use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sandmill_domain::{BatchReason, Code, Fault, Priority, Urgency};

use crate::batch::{Policy, Step};
use crate::call::{Bytes, Call, full};
use crate::lock;
use crate::order::Room;
use crate::pace::Pace;
use waiting::{Gate, Waiting, not_loaded, too_late};

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
        Self {
            waiting: Mutex::new(Waiting::new()),
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

    /// Whether calls may be fetched by tasks, now or again.
    pub(crate) fn may_have_tasks(&self) -> bool {
        lock(&self.waiting).may_return
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
                    if reason == BatchReason::Full {
                        waiting.company.found(places.len());
                    }
                    Next::Run(Fetched { calls: waiting.for_tasks.take(&places), reason, more: false })
                }
                Step::Run { places, .. } if waiting.is_lonely() => {
                    waiting.running += 1;
                    Next::Run(Fetched { calls: waiting.for_tasks.take(&places), reason: BatchReason::Alone, more: false })
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
        waiting.company.found(calls.len());
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

    /// Whether its model is going away.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.waiting).closed
    }

    /// Takes no more calls; threads end when those that wait have run.
    pub(crate) fn close(&self) {
        self.leave_to_threads();
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        self.tell_threads(waiting);
    }
}
