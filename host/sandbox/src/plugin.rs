//! A loaded plugin, and how an instance of it comes to be for one request.

use std::sync::Arc;
use std::time::Instant;

use sandmill_domain::ports::{BoxFuture, Guest, Plugin};
use sandmill_domain::{Code, Deadline, Fault};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::contract::Shape;
use crate::fault;
use crate::instance::Running;
use crate::state::{Facts, State};
use crate::ticker::Ticker;

/// Handles to resources that a guest holds at once: none of the contract's own are resources.
const HANDLES_MAX: usize = 1000;
/// What a guest may give beyond its output limit: names, shapes and headers, which have bounds of their own.
const EXTRA_BYTES: usize = 1 << 20;

/// A component that keeps to the contract, compiled and linked. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct WasmPlugin(Arc<Inner>);

struct Inner {
    pre: InstancePre<State>,
    shape: Shape,
    facts: Arc<Facts>,
    ticker: Arc<Ticker>,
}

impl WasmPlugin {
    pub(crate) fn new(pre: InstancePre<State>, shape: Shape, facts: Arc<Facts>, ticker: Arc<Ticker>) -> Self {
        Self(Arc::new(Inner { pre, shape, facts, ticker }))
    }
}

impl std::fmt::Debug for WasmPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmPlugin").field("name", &self.0.facts.name).finish_non_exhaustive()
    }
}

impl Plugin for WasmPlugin {
    fn preprocesses(&self) -> bool {
        self.0.shape.preprocess.is_some()
    }

    fn postprocesses(&self) -> bool {
        self.0.shape.postprocess.is_some()
    }

    fn open(&self, deadline: Deadline) -> BoxFuture<'_, Result<Box<dyn Guest>, Fault>> {
        Box::pin(async move {
            let running = self.0.instantiate(deadline).await?;
            Ok(Box::new(running) as Box<dyn Guest>)
        })
    }
}

impl Inner {
    async fn instantiate(&self, deadline: Deadline) -> Result<Running, Fault> {
        let now = Instant::now();
        if deadline.is_past(now) {
            return Err(Fault::new(Code::DeadlineExceeded, "the deadline passed before the plugin could run"));
        }
        let mut store = self.store(deadline, now);
        let stopwatch = Arc::clone(&store.data().stopwatch);
        let instance = stopwatch.measure(self.pre.instantiate_async(&mut store)).await;
        let instance = instance.map_err(|error| fault::from_error(error, store.data()))?;
        let preprocess = self.shape.preprocess.as_ref().map(|export| export.of(&mut store, &instance));
        let postprocess = self.shape.postprocess.as_ref().map(|export| export.of(&mut store, &instance));
        Ok(Running { store, stopwatch, preprocess, postprocess })
    }

    fn store(&self, deadline: Deadline, now: Instant) -> Store<State> {
        let state = State::new(Arc::clone(&self.facts), deadline, now, self.ticker.hold());
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.facts.output_bytes_max.saturating_add(EXTRA_BYTES));
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(|store| store.data().on_tick());
        store.set_epoch_deadline(1);
        store
    }
}
