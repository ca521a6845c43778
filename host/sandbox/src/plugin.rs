//! A loaded plugin, and how an instance of it comes to be for one request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use sandmill_domain::ports::{BoxFuture, Guest, Plugin};
use sandmill_domain::{Blame, Code, Fault, InstancePolicy, Urgency};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::InstancePre;
use wasmtime::{CallHook, Engine, Store};

use crate::bindings::Asset;
use crate::contract::Shape;
use crate::fault::{self, Halt};
use crate::instance::{Live, Running};
use crate::lines::printable;
use crate::load::Loaded;
use crate::resting::Resting;
use crate::reuse::{Idle, Wear, random_share};
use crate::snapshot::call_init;
use crate::state::{Facts, State};
use crate::ticker::Ticker;

/// Handles to resources that a guest holds at once: none of the contract's own are resources.
const HANDLES_MAX: usize = 1000;
/// What a guest may give beyond its output limit: names, shapes and headers, which have bounds of their own.
const EXTRA_BYTES: usize = 1 << 20;
/// What a guest may give a function of the host's, unless it is a model's inputs: that is copied while no tick can end it, in
/// some 200 µs.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Of the message of an `init` that refuses.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// A component that keeps to the contract, compiled and linked. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct WasmPlugin(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) pre: InstancePre<State>,
    pub(crate) code: Arc<Resting>,
    pub(crate) shape: Shape,
    pub(crate) facts: Arc<Facts>,
    pub(crate) ticker: Arc<Ticker>,
    /// Whether `init` runs for each instance.
    pub(crate) inits: bool,
    pub(crate) policy: InstancePolicy,
    pub(crate) idle: Idle<Live>,
    /// Whether a task waits to drop the idle instances whose time is over.
    pub(crate) sweeping: AtomicBool,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) loaded: Loaded,
}

impl WasmPlugin {
    /// How it came to be.
    pub fn loaded(&self) -> &Loaded {
        &self.0.loaded
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

    fn handles(&self) -> bool {
        self.0.shape.handle.is_some()
    }

    fn open(&self, urgency: Urgency) -> BoxFuture<'_, Result<Box<dyn Guest>, Fault>> {
        Box::pin(async move {
            let running = open(&self.0, urgency).await?;
            Ok(Box::new(running) as Box<dyn Guest>)
        })
    }
}

async fn open(inner: &Arc<Inner>, urgency: Urgency) -> Result<Running, Fault> {
    let now = Instant::now();
    if urgency.deadline.is_past(now) {
        return Err(Fault::new(Code::DeadlineExceeded, "the deadline passed before the plugin could run"));
    }
    let place = Arc::clone(&inner.places).try_acquire_owned();
    let place = place.map_err(|_none| Fault::new(Code::Overloaded, "no plugin instance is free"))?;
    inner.code.touch();
    let mut live = match inner.again(urgency, now) {
        Some(live) => live,
        None => {
            // An `init` that waits in a host's function meets no tick.
            let made = tokio::time::timeout_at(urgency.deadline.instant().into(), inner.instantiate(urgency, now)).await;
            made.unwrap_or_else(|_elapsed| {
                Err(Fault::new(Code::DeadlineExceeded, Halt::Deadline.to_string()).blaming(Blame::Plugin))
            })?
        }
    };
    live.store.data_mut().usage.instantiation = now.elapsed();
    Ok(Running::new(live, Arc::clone(inner), place))
}

impl Inner {
    /// Keeps an instance for a further request, and sees to it that it does not outlive its budget if none comes.
    pub(crate) fn keep(self: &Arc<Self>, wear: Wear, mut live: Live) {
        live.store.data_mut().park();
        let bytes = live.store.data().growth.bytes();
        self.idle.keep(wear, live, bytes, Instant::now());
        let runtime = tokio::runtime::Handle::try_current();
        if let Some(runtime) = runtime.ok().filter(|_| !self.sweeping.swap(true, Ordering::AcqRel)) {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// One that has served requests before.
    fn again(&self, urgency: Urgency, now: Instant) -> Option<Live> {
        if self.policy == InstancePolicy::Fresh {
            return None;
        }
        let (wear, mut live) = self.idle.take(now)?;
        live.wear = Some(wear);
        live.store.data_mut().begin(urgency, self.ticker.hold());
        Some(live)
    }

    async fn instantiate(&self, urgency: Urgency, now: Instant) -> Result<Live, Fault> {
        let state = State::new(Arc::clone(&self.facts), urgency, self.ticker.hold());
        let mut store = new_store(self.pre.engine(), state);
        let instance = self.pre.instantiate_async(&mut store).await;
        let instance = instance.map_err(|error| fault::from_start(error, store.data()))?;
        let shape = &self.shape;
        let preprocess = shape.preprocess.as_ref().map(|export| export.of(&mut store, &instance));
        let postprocess = shape.postprocess.as_ref().map(|export| export.of(&mut store, &instance));
        let handle = shape.handle.as_ref().map(|export| export.of(&mut store, &instance));
        if let Some(init) = shape.init.as_ref().filter(|_| self.inits) {
            let init = init.of(&mut store, &instance);
            self.init(&mut store, init).await?;
        }
        let wear = match &self.policy {
            InstancePolicy::Fresh => None,
            InstancePolicy::Reuse(budget) => Some(Wear::new(budget, now, random_share())),
        };
        Ok(Live { store, preprocess, postprocess, handle, wear })
    }

    /// What a snapshot would have saved.
    async fn init(
        &self,
        store: &mut Store<State>,
        init: wasmtime::component::TypedFunc<crate::bindings::InitArgs<'static>, crate::bindings::InitResults>,
    ) -> Result<(), Fault> {
        let open = self.facts.config.iter().filter(|setting| !setting.secret);
        let config: Vec<(&str, &str)> = open.map(|setting| (setting.key.as_str(), setting.value.as_str())).collect();
        let assets: Vec<_> = self.facts.assets.iter().map(|asset| Asset { name: &asset.name, data: &asset.data }).collect();
        store.set_epoch_deadline(1);
        store.data_mut().starting = true;
        let started = call_init(store, init, &config, &assets).await;
        store.data_mut().starting = false;
        match started {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => {
                let cause = printable(&message, MESSAGE_BYTES_MAX);
                Err(Fault::new(Code::PluginFailed, "the plugin's init refuses").because(cause))
            }
            Err(error) => Err(fault::from_error(&error, store.data())),
        }
    }
}

/// Drops idle instances when their time is over, as long as there are any; holds nobody's plugin.
async fn sweep(plugin: Weak<Inner>) {
    while let Some(next) = plugin.upgrade().and_then(|plugin| {
        // First given up and then taken up again: an instance that comes between finds either this task or none.
        plugin.sweeping.store(false, Ordering::Release);
        let next = plugin.idle.sweep(Instant::now())?;
        (!plugin.sweeping.swap(true, Ordering::AcqRel)).then_some(next)
    }) {
        tokio::time::sleep_until(next.into()).await;
    }
}

/// A store with all bounds in force.
pub(crate) fn new_store(engine: &Engine, state: State) -> Store<State> {
    let fuel = state.facts.limits.output_bytes_max.saturating_add(EXTRA_BYTES);
    let call_fuel = if state.facts.handles { fuel } else { CALL_BYTES_MAX };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.growth);
    store.set_hostcall_fuel(fuel);
    store.set_max_component_handles(HANDLES_MAX);
    store.call_hook(move |mut store, transition| {
        match transition {
            CallHook::CallingHost => store.set_hostcall_fuel(call_fuel),
            CallHook::ReturningFromHost => store.set_hostcall_fuel(fuel),
            CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
        }
        store.data_mut().on_transition(transition)
    });
    store.epoch_deadline_callback(|mut store| store.data_mut().on_tick());
    store.set_epoch_deadline(1);
    store
}

/// The right to one instance at work.
pub(crate) type Place = OwnedSemaphorePermit;
