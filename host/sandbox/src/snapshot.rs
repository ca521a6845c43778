//! Runs a component's `init` once and rewrites the component so that every instance starts from the memory which that left. In
//! quarantine alone: the rewriting can panic, and a guest may be anything.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sandmill_domain::{Deadline, PluginLimits, Setting};
use wasmtime::component::{Component, Instance, Lift, WasmList};
use wasmtime::{Config, Engine, Store};
use wasmtime_wizer::{ComponentContext, ComponentInstanceState, Wizer};

use crate::bindings::Asset;
use crate::contract;
use crate::fault;
use crate::job::{Job, LogLine, Refusal, Snapshot};
use crate::lines::Lines;
use crate::machine;
use crate::plugin::new_store;
use crate::state::{Facts, State};
use crate::ticker::Ticker;
use crate::wasi;

const TICK: Duration = Duration::from_millis(1);

/// What is told of a guest's message.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The component as it is after its `init`, or as it was, with the reason.
///
/// # Errors
/// An `init` that refuses or fails.
pub(crate) fn take<'a>(job: &Job<'a>, lines: &mut Vec<LogLine>) -> Result<(Cow<'a, [u8]>, Snapshot), Refusal> {
    let start = Instant::now();
    match attempt(job, lines)? {
        Ok(snapshot) => Ok((Cow::Owned(snapshot), Snapshot::Taken { time: start.elapsed() })),
        Err(reason) => Ok((Cow::Borrowed(job.component), Snapshot::impossible(&reason))),
    }
}

/// A snapshot, or why there can be none.
type Attempt = Result<Vec<u8>, String>;

fn attempt(job: &Job<'_>, lines: &mut Vec<LogLine>) -> Result<Attempt, Refusal> {
    let wizer = Wizer::new();
    let instrumented = match catch_unwind(AssertUnwindSafe(|| wizer.instrument_component(job.component))) {
        Ok(Ok(instrumented)) => instrumented,
        Ok(Err(error)) => return Ok(Err(format!("{error:#}"))),
        Err(panic) => return Ok(Err(words(&*panic))),
    };
    let (context, instrumented) = instrumented;
    let prepared = match Prepared::new(job, &instrumented) {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(Err("it has no init after all".into())),
        // What is wrong with it is found again, and told better, when it is loaded.
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refusal::Invalid(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let ran = prepared.run(job).await;
        lines.extend(prepared.lines.take().into_iter().map(|(level, text)| (number(level), text)));
        let (store, instance) = ran?;
        let snapshot = AssertUnwindSafe(rewrite(&wizer, &context, store, instance)).catch_unwind().await;
        Ok(match snapshot {
            Ok(Ok(snapshot)) if snapshot.len() > job.limits.snapshot_bytes_max => {
                let max = job.limits.snapshot_bytes_max;
                Err(format!("it would have {} bytes; at most {max} are taken (plugin_snapshot_bytes_max)", snapshot.len()))
            }
            Ok(snapshot) => snapshot.map_err(|error| format!("{error:#}")),
            Err(panic) => Err(words(&*panic)),
        })
    })
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it cannot be rewritten").to_owned()
}

fn number(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::TRACE => 0,
        tracing::Level::DEBUG => 1,
        tracing::Level::INFO => 2,
        tracing::Level::WARN => 3,
        tracing::Level::ERROR => 4,
    }
}

/// An instrumented component, ready to be started.
struct Prepared {
    engine: Engine,
    component: Component,
    linker: wasmtime::component::Linker<State>,
    init: contract::Init,
    lines: Arc<Lines>,
}

impl Prepared {
    fn new(job: &Job<'_>, instrumented: &[u8]) -> wasmtime::Result<Option<Self>> {
        let engine = Engine::new(&config(job))?;
        let component = Component::from_binary(&engine, instrumented)?;
        let Some(init) = contract::find_init(&engine, &component).map_err(wasmtime::Error::new)? else { return Ok(None) };
        let mut linker = machine::linker(&engine)?;
        wasi::link_for_init(&mut linker)?;
        // Whether it can be linked at all is known before anything runs.
        linker.instantiate_pre(&component)?;
        let lines = Arc::new(Lines::keeping(&job.limits));
        Ok(Some(Self { engine, component, linker, init, lines }))
    }

    /// Starts an instance and calls its `init`.
    async fn run(&self, job: &Job<'_>) -> Result<(Store<State>, Instance), Refusal> {
        let ticking = self.engine.clone();
        let ticker = Ticker::start(TICK, move || ticking.increment_epoch());
        let ticker = ticker.map_err(|error| Refusal::Invalid(format!("no clock: {error}")))?;
        // What bounds it is its running time; the parent bounds the rest.
        let deadline = Deadline::after(Instant::now(), job.limits.init_time.saturating_mul(4) + Duration::from_secs(60));
        let state = State::with_lines(facts(job), deadline.into(), Arc::new(ticker).hold(), Arc::clone(&self.lines));
        let mut store = new_store(&self.engine, state);
        let failed = |error: wasmtime::Error, state: &State| {
            state.lines.write(tracing::Level::ERROR, &fault::trace(&error));
            let (_, message) = fault::describe(&error, state);
            Refusal::InitFailed(message)
        };
        let instance = match self.linker.instantiate_async(&mut store, &self.component).await {
            Ok(instance) => instance,
            Err(error) => return Err(failed(error, store.data())),
        };
        let assets: Vec<Asset<'_>> = job.assets.iter().map(|asset| Asset { name: asset.name, data: asset.data }).collect();
        let init = self.init.of(&mut store, &instance);
        store.set_epoch_deadline(1);
        match call_init(&mut store, init, &job.config, &assets).await {
            Ok(Ok(())) => Ok((store, instance)),
            Ok(Err(message)) => Err(Refusal::Init(crate::lines::printable(&message, MESSAGE_BYTES_MAX))),
            Err(error) => Err(failed(error, store.data())),
        }
    }
}

/// Calls `init`: the outer error is the runtime's, the inner one the plugin's.
pub(crate) async fn call_init(
    store: &mut Store<State>,
    init: wasmtime::component::TypedFunc<crate::bindings::InitArgs<'static>, crate::bindings::InitResults>,
    config: &[(&str, &str)],
    assets: &[Asset<'_>],
) -> wasmtime::Result<Result<(), String>> {
    let init: wasmtime::component::TypedFunc<crate::bindings::InitArgs<'_>, _> = init;
    let (result,) = init.call_async(store, (config, assets)).await?;
    Ok(result)
}

/// Code of this one run: memory is taken as it grows, since the address space is bounded here.
fn config(job: &Job<'_>) -> Config {
    let mut config = machine::code_config();
    config
        .max_wasm_stack(job.stack_bytes_max)
        .async_stack_size(job.stack_bytes_max + machine::HOST_STACK_BYTES)
        .memory_reservation(0)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(0)
        .memory_init_cow(false);
    config
}

fn facts(job: &Job<'_>) -> Arc<Facts> {
    let setting = |(key, value): &(&str, &str)| Setting { key: (*key).into(), value: (*value).into(), secret: false };
    let limits = PluginLimits { time: job.limits.init_time, ..job.limits };
    Arc::new(Facts {
        limits,
        time_limit: "plugin_init_time_ms",
        config: job.config.iter().map(setting).collect(),
        infos: job.models.iter().cloned().map(Arc::new).collect(),
        ..Facts::bare(&"".into())
    })
}

async fn rewrite(
    wizer: &Wizer,
    context: &ComponentContext<'_>,
    mut store: Store<State>,
    instance: Instance,
) -> wasmtime::Result<Vec<u8>> {
    // Reading the memories out takes a page more of each, and fuel for all of their bytes.
    store.data_mut().growth.lift();
    store.set_hostcall_fuel(usize::MAX);
    // That growth passes through the hook of `new_store`, which would give the fuel of a request again.
    store.call_hook(|mut store, transition| store.data_mut().on_transition(transition));
    wizer.snapshot_component(context, &mut Accessors { store, instance }).await
}

/// The functions that wizer has put into the component to read its state.
struct Accessors {
    store: Store<State>,
    instance: Instance,
}

impl Accessors {
    async fn call<R: Lift + 'static>(&mut self, interface: &str, name: &str) -> R {
        self.store.set_epoch_deadline(1);
        let found = self.instance.get_export_index(&mut self.store, None, interface);
        let found = found.and_then(|interface| self.instance.get_export_index(&mut self.store, Some(&interface), name));
        let index = found.expect("invariant: wizer knows what it has put there");
        let function = self.instance.get_typed_func::<(), (R,)>(&mut self.store, index);
        let function = function.expect("invariant: wizer knows what it has put there");
        let (value,) = function.call_async(&mut self.store, ()).await.expect("invariant: wizer's own function runs");
        value
    }
}

impl ComponentInstanceState for Accessors {
    async fn call_func_ret_list_u8(&mut self, interface: &str, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.call(interface, name).await;
        contents(list.as_le_slice(&self.store));
    }

    async fn call_func_ret_s32(&mut self, interface: &str, name: &str) -> i32 {
        self.call(interface, name).await
    }

    async fn call_func_ret_s64(&mut self, interface: &str, name: &str) -> i64 {
        self.call(interface, name).await
    }

    async fn call_func_ret_f32(&mut self, interface: &str, name: &str) -> u32 {
        self.call::<f32>(interface, name).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, name: &str) -> u64 {
        self.call::<f64>(interface, name).await.to_bits()
    }
}
