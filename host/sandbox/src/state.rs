//! What one instance's store holds, and what happens when the guest leaves the host, comes back, or runs for a tick.

use std::sync::Arc;
use std::time::Instant;

use sandmill_domain::ports::{Model, PluginUsage, Share};
use sandmill_domain::{Asset, Deadline, Grants, Journal, ModelInfo, PluginLimits, Priority, Setting, Urgency};
use wasmtime::{CallHook, UpdateDeadline};

use crate::asset_files::AssetFolder;
use crate::fault::Halt;
use crate::limits::GrowthLimit;
use crate::lines::Lines;
use crate::outgoing::{Outgoing, Session};
use crate::stopwatch::Stopwatch;
use crate::ticker::Ticking;
use crate::wasi::Wasi;

/// What is the same for all requests of one plugin.
pub(crate) struct Facts {
    pub(crate) name: Arc<str>,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) limits: PluginLimits,
    /// What the limit on time is called.
    pub(crate) time_limit: &'static str,
    pub(crate) config: Vec<Setting>,
    /// Kept only if `init` runs again for each instance.
    pub(crate) assets: Vec<Asset>,
    pub(crate) infos: Vec<Arc<ModelInfo>>,
    /// In the order of `infos`; none while a snapshot is made.
    pub(crate) models: Vec<Arc<dyn Model>>,
    /// What runs of these have of the threads that carry requests.
    pub(crate) share: Option<Arc<dyn Share>>,
    /// Whether it runs models by itself, and so gives their inputs to a function of the host's.
    pub(crate) handles: bool,
    pub(crate) grants: Grants,
    pub(crate) asset_folder: Option<AssetFolder>,
    pub(crate) outgoing: Option<Outgoing>,
}

impl Facts {
    /// A plugin that has nothing and is granted nothing.
    pub(crate) fn bare(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            journal: None,
            limits: PluginLimits::default(),
            time_limit: "plugin_time_ms",
            config: Vec::new(),
            assets: Vec::new(),
            infos: Vec::new(),
            models: Vec::new(),
            share: None,
            handles: false,
            grants: Grants::default(),
            asset_folder: None,
            outgoing: None,
        }
    }
}

/// What belongs to one instance, and of that, to its request.
pub(crate) struct State {
    pub(crate) facts: Arc<Facts>,
    pub(crate) deadline: Deadline,
    /// Of the models' runs that it asks for.
    pub(crate) priority: Priority,
    pub(crate) growth: GrowthLimit,
    pub(crate) lines: Arc<Lines>,
    /// Made when the guest first calls one of its interfaces: most guests import them and never do.
    pub(crate) wasi: Option<Box<Wasi>>,
    /// Likewise.
    pub(crate) http: Option<Box<Session>>,
    pub(crate) usage: PluginUsage,
    /// Whether `init` runs, in this instance: what may not be in a snapshot is not there then either.
    pub(crate) starting: bool,
    stopwatch: Stopwatch,
    host_calls: usize,
    /// None while the instance waits for its next request.
    ticking: Option<Ticking>,
}

impl State {
    pub(crate) fn new(facts: Arc<Facts>, urgency: Urgency, ticking: Ticking) -> Self {
        let lines = Arc::new(Lines::new(Arc::clone(&facts.name), facts.journal.clone(), &facts.limits));
        Self::with_lines(facts, urgency, ticking, lines)
    }

    pub(crate) fn with_lines(facts: Arc<Facts>, urgency: Urgency, ticking: Ticking, lines: Arc<Lines>) -> Self {
        Self {
            growth: GrowthLimit::new(&facts.limits),
            facts,
            deadline: urgency.deadline,
            priority: urgency.priority,
            lines,
            wasi: None,
            http: None,
            usage: PluginUsage::default(),
            starting: false,
            stopwatch: Stopwatch::default(),
            host_calls: 0,
            ticking: Some(ticking),
        }
    }

    /// The request is over, the instance stays. Its connections end: what it still holds of them gives errors.
    pub(crate) fn park(&mut self) {
        self.http = None;
        self.ticking = None;
    }

    /// Another request begins with all of its own: time, lines, calls.
    pub(crate) fn begin(&mut self, urgency: Urgency, ticking: Ticking) {
        self.deadline = urgency.deadline;
        self.priority = urgency.priority;
        self.ticking = Some(ticking);
        self.growth.forget_refusals();
        self.lines.begin();
        self.usage = PluginUsage::default();
        self.stopwatch = Stopwatch::default();
        self.host_calls = 0;
    }

    /// What the request has used so far.
    pub(crate) fn usage(&self) -> PluginUsage {
        PluginUsage { running: self.stopwatch.spent(), memory_bytes: self.growth.bytes(), ..self.usage }
    }

    /// The guest leaves for the host or comes back: only what it runs itself counts as its time.
    pub(crate) fn on_transition(&mut self, transition: CallHook) -> wasmtime::Result<()> {
        let now = Instant::now();
        match transition {
            CallHook::CallingWasm => self.stopwatch.start(now),
            CallHook::ReturningFromHost => {
                self.stopwatch.start(now);
                // A wait that the deadline ends is nothing to go on from, if only until the next tick.
                if self.deadline.is_past(now) {
                    return Err(Halt::Deadline.into());
                }
            }
            CallHook::ReturningFromWasm => self.stopwatch.stop(now),
            CallHook::CallingHost => {
                self.stopwatch.stop(now);
                self.host_calls += 1;
                if self.host_calls > self.facts.limits.host_calls_max {
                    return Err(Halt::HostCalls(self.facts.limits.host_calls_max).into());
                }
            }
        }
        Ok(())
    }

    /// Ends a guest that is out of time; any other lets the rest of its thread's tasks run before it goes on.
    pub(crate) fn on_tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        // A tick is no call of the guest's; growing a memory or a table is one.
        self.host_calls = self.host_calls.saturating_sub(1);
        self.check_time(Instant::now())?;
        // To the kernel a spinning guest's thread is as good as any: without this, others on its core wait for the end of
        // its slice, some 3 ms.
        std::thread::yield_now();
        // Tokio's own yield, and not wasmtime's, which only wakes itself: a worker with nothing but spinning guests would
        // look at its sockets every 61st time.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    fn check_time(&self, now: Instant) -> Result<(), Halt> {
        if self.stopwatch.spent() > self.facts.limits.time {
            Err(Halt::PluginTime(self.facts.time_limit, self.facts.limits.time))
        } else if self.deadline.is_past(now) {
            Err(Halt::Deadline)
        } else {
            Ok(())
        }
    }
}
