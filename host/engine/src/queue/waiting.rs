//! What the queue's lock guards: the two lanes, the runs under way, and whether calls are run at all. Wakes and starts nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandmill_domain::{Advice, Code, Fault, Priority};

use super::Next;
use crate::batch::{self, Policy, Step};
use crate::call::{Call, full};
use crate::order::Room;
use crate::watchdog::Expire;

/// Company of which calls do not wait for any: a task finds another call one time in four.
const LONELY: usize = 64;
/// Of so many calls without company, one is left to a task all the same.
const LOOK_EVERY: u32 = 16;

pub(super) struct Waiting {
    pub(super) for_threads: Lane,
    pub(super) for_tasks: Lane,
    /// Whether calls may be put into the tasks' lane.
    pub(super) has_tasks: bool,
    /// Whether they may be again, when they may not.
    pub(super) may_return: bool,
    /// Runs under way on threads that carry requests.
    pub(super) running: usize,
    /// Runs under way on the model's own threads.
    pub(super) on_threads: usize,
    /// The model's own threads, and those of them that sleep.
    pub(super) threads: usize,
    pub(super) asleep: usize,
    /// Who waits until there are none. To tell nobody is a call of the kernel all the same, which every short run would make.
    pub(super) resting: usize,
    /// A task has yet to come: it will find whatever is queued until then.
    pub(super) coming: bool,
    pub(super) company: Company,
    pub(super) gate: Gate,
    /// When somebody last asked.
    pub(super) asked: Instant,
    pub(super) closed: bool,
}

/// Whether calls are run.
#[derive(Clone, Debug)]
pub(super) enum Gate {
    Open,
    /// They wait: a session is being made.
    Shut,
    /// There is no session; who comes first has one made, unless that has failed a moment ago.
    Unloaded {
        failed: Option<(Instant, String)>,
    },
}

pub(super) struct Lane {
    pub(super) calls: VecDeque<Arc<Call>>,
    pub(super) policy: Policy,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self { calls: VecDeque::new(), policy: Policy::OFF }
    }

    /// Drops the calls that nobody waits for any more.
    pub(super) fn forget(&mut self) {
        self.calls.retain(|call| call.is_wanted());
    }

    /// Those that a call of this priority comes after.
    pub(super) fn before(&self, priority: Priority) -> usize {
        self.calls.iter().filter(|call| call.priority <= priority && call.is_wanted()).count()
    }

    /// Ends calls that have less time left than a run takes, the latest first: begun, they would be cut off, and those behind them be
    /// late as well. As many as could begin now stay, or a model that was slow once would be taken for slow for ever.
    pub(super) fn give_up(&mut self, now: Instant, run: Duration, free: usize) {
        let left = |call: &Arc<Call>| call.deadline.remaining(now);
        let mut late: Vec<_> = self.calls.iter().filter(|call| left(call) < run).cloned().collect();
        late.sort_by_key(left);
        late.truncate(self.calls.len().saturating_sub(free.max(1)));
        if !late.is_empty() {
            late.into_iter().for_each(Expire::expire);
            self.forget();
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> Step {
        batch::next(self.calls.iter().map(|call| &call.slot), self.policy, now)
    }

    /// Places that ascend.
    pub(super) fn take(&mut self, places: &[usize]) -> Vec<Arc<Call>> {
        let taken: Vec<_> = places.iter().rev().filter_map(|place| self.calls.remove(*place)).collect();
        taken.into_iter().rev().collect()
    }
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            for_threads: Lane::new(),
            for_tasks: Lane::new(),
            has_tasks: false,
            may_return: true,
            running: 0,
            on_threads: 0,
            threads: 0,
            asleep: 0,
            resting: 0,
            coming: false,
            company: Company::default(),
            gate: Gate::Open,
            asked: Instant::now(),
            closed: false,
        }
    }

    pub(super) fn lane(&self, here: bool) -> &Lane {
        if here { &self.for_tasks } else { &self.for_threads }
    }

    /// Places where a run could begin.
    pub(super) fn free(&self, here: bool, running_max: usize) -> usize {
        running_max.saturating_sub(if here { self.running } else { self.on_threads })
    }

    pub(super) fn len(&self) -> usize {
        self.for_threads.calls.len() + self.for_tasks.calls.len()
    }

    /// Whether another call may wait.
    pub(super) fn check(&mut self, room: Room, priority: Priority) -> Result<(), Fault> {
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

    pub(super) fn runs(&self) -> usize {
        self.running + self.on_threads
    }

    /// Whether that is new.
    pub(super) fn leave_to_threads(&mut self) -> bool {
        let left = std::mem::take(&mut self.for_tasks.calls);
        self.for_threads.calls.extend(left);
        std::mem::replace(&mut self.has_tasks, false)
    }

    /// Queues a call while calls wait.
    pub(super) fn queue_shut(&mut self, call: Arc<Call>) -> Next {
        let next = match &self.gate {
            Gate::Unloaded { .. } => Next::Load,
            Gate::Open | Gate::Shut => Next::Leave,
        };
        self.gate = Gate::Shut;
        self.for_threads.calls.push_back(call);
        next
    }

    /// Whether the only call in the tasks' lane may as well run at once.
    pub(super) fn is_lonely(&mut self) -> bool {
        self.for_tasks.calls.len() == 1 && self.runs() == 0 && !self.coming && self.company.is_none()
    }

    /// Whether a task is to be started.
    pub(super) fn send_task(&mut self, running_max: usize) -> bool {
        let send = !self.coming && self.running < running_max;
        self.coming |= send;
        send
    }
}

/// Whether calls for tasks find others to run with. Where they do not, as with one caller or with many models and few calls of each,
/// a task that comes for one call is only a detour.
#[derive(Debug)]
pub(super) struct Company {
    /// How many others a task has found on average of late, in 256ths.
    others: usize,
    /// Calls that were run by themselves since a task last looked.
    unseen: u32,
}

impl Default for Company {
    fn default() -> Self {
        Self { others: 256, unseen: 0 }
    }
}

impl Company {
    /// A task has found so many calls.
    pub(super) fn found(&mut self, calls: usize) {
        self.others = (self.others * 7 + calls.saturating_sub(1).min(256) * 256) / 8;
    }

    /// Whether the next call may run by itself. Now and then it may not, so that company is noticed.
    pub(super) fn is_none(&mut self) -> bool {
        self.unseen = if self.others < LONELY { (self.unseen + 1) % LOOK_EVERY } else { 0 };
        self.unseen > 0
    }
}

pub(super) fn too_late(before: usize, needed: Duration, left: Duration) -> Fault {
    let message =
        format!("the model is busy: the answer would take {} ms, and there are {} left", needed.as_millis(), left.as_millis());
    Fault::new(Code::Overloaded, message).because(format!("{before} calls wait before it")).advising(Advice::RetryAfter(needed))
}

pub(super) fn not_loaded(until: Instant, why: &str) -> Fault {
    let left = until.saturating_duration_since(Instant::now());
    let fault = Fault::new(Code::NotReady, "the model could not be loaded again");
    fault.because(why.to_owned()).advising(Advice::RetryAfter(left))
}
