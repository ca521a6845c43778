//! What one request's store holds, and what happens at each tick of its epochs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandmill_domain::{Deadline, ModelInfo};
use wasmtime::UpdateDeadline;

use crate::fault::Halt;
use crate::limits::MemoryLimit;
use crate::lines::Lines;
use crate::options::PluginOptions;
use crate::stopwatch::Stopwatch;
use crate::ticker::Ticking;
use crate::wasi::Wasi;

/// What is the same for all requests of one plugin.
pub(crate) struct Facts {
    pub(crate) name: Arc<str>,
    pub(crate) config: Vec<(String, String)>,
    pub(crate) model: Option<Arc<ModelInfo>>,
    pub(crate) plugin_time: Duration,
    pub(crate) memory_bytes_max: usize,
    pub(crate) output_bytes_max: usize,
}

impl From<PluginOptions> for Facts {
    fn from(options: PluginOptions) -> Self {
        let PluginOptions { name, config, model, plugin_time, memory_bytes_max, output_bytes_max } = options;
        Self { name: name.into(), config, model, plugin_time, memory_bytes_max, output_bytes_max }
    }
}

/// What belongs to one request.
pub(crate) struct State {
    pub(crate) facts: Arc<Facts>,
    pub(crate) deadline: Deadline,
    pub(crate) stopwatch: Arc<Stopwatch>,
    pub(crate) memory: MemoryLimit,
    pub(crate) lines: Arc<Lines>,
    /// Made when the guest first calls one of its interfaces: most guests import them and never do.
    pub(crate) wasi: Option<Box<Wasi>>,
    _ticking: Ticking,
}

impl State {
    pub(crate) fn new(facts: Arc<Facts>, deadline: Deadline, now: Instant, ticking: Ticking) -> Self {
        let memory = MemoryLimit::new(facts.memory_bytes_max);
        let lines = Arc::new(Lines::new(Arc::clone(&facts.name)));
        Self { facts, deadline, stopwatch: Arc::new(Stopwatch::new(now)), memory, lines, wasi: None, _ticking: ticking }
    }

    /// Ends a guest that is out of time; any other lets the rest of its thread's tasks run before it goes on.
    pub(crate) fn on_tick(&self) -> wasmtime::Result<UpdateDeadline> {
        self.check_time(Instant::now())?;
        // To the kernel a spinning guest's thread is as good as any: without this, others on its core wait for the end of
        // its slice, some 3 ms. It counts as running time, like every moment in which the kernel runs another.
        std::thread::yield_now();
        // Tokio's own yield, and not wasmtime's, which only wakes itself: a worker with nothing but spinning guests would
        // look at its sockets every 61st time.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    fn check_time(&self, now: Instant) -> Result<(), Halt> {
        if self.stopwatch.spent(now) > self.facts.plugin_time {
            Err(Halt::PluginTime(self.facts.plugin_time))
        } else if self.deadline.is_past(now) {
            Err(Halt::Deadline)
        } else {
            Ok(())
        }
    }
}
