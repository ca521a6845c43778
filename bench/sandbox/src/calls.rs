//! A fresh instance for each call, at one thread and at two; what is copied; from the cache to the first answer.

use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use sandmill_domain::ports::Plugin;
use sandmill_sandbox::WasmPlugin;

use crate::guests::{asset, component, load, request, sandbox, soon};
use crate::{Options, floor, tell};

const CALLS: usize = 20_000;
const LARGE_CALLS: usize = 2_000;
const LARGE_BYTES: usize = 600_000;
const LOADS: usize = 50;

/// What one call does with its instance.
#[derive(Clone, Copy)]
enum Call {
    Open,
    Preprocess,
    Handle,
}

pub(crate) fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sandbox = sandbox(folder.path())?;
    let read = |name: &str| component(&options.root, &format!("bench/guests/{name}/plugin.wasm"));
    let (small, large) = (Bytes::from(vec![7; 1000]), Bytes::from(vec![7; LARGE_BYTES]));

    let pass = load(&sandbox, &read("pass")?, |_| {})?;
    let floor = floor::Floor::start(&folder.path().join("cache"))?;
    compare(options, "fresh", |threads| per_call(&pass, Call::Preprocess, &small, CALLS, threads));
    compare(options, "floor.fresh", |threads| floor.per_call(&small, CALLS, threads));

    let table = load(&sandbox, &read("table")?, |_| {})?;
    compare(options, "table", |threads| per_call(&table, Call::Preprocess, &small, CALLS, threads));
    let table_floor = floor::Floor::start(&folder.path().join("cache"))?;
    compare(options, "floor.table", |threads| table_floor.per_call(&small, CALLS, threads));
    let embed = load(&sandbox, &component(&options.root, "examples/embed/plugin.wasm")?, |plugin| {
        plugin.assets = asset(&options.root, "examples/embed/tokenizer.json").into_iter().collect();
    })?;
    compare(options, "embed.instance", |threads| per_call(&embed, Call::Open, &small, CALLS / 4, threads));
    let text = Bytes::from_static(br#"{"input": "How do I reset my password?"}"#);
    compare(options, "embed.preprocess", |threads| per_call(&embed, Call::Preprocess, &text, CALLS / 4, threads));
    let init = init_time(&embed)?;
    tell("embed.snapshot_ms", "ms", vec![init]);

    let runs = load(&sandbox, &read("runs")?, |_| {})?;
    compare(options, "large.import", |threads| per_call(&runs, Call::Handle, &large, LARGE_CALLS, threads));
    compare(options, "large.returned", |threads| per_call(&pass, Call::Preprocess, &large, LARGE_CALLS, threads));
    compare(options, "floor.large.returned", |threads| floor.per_call(&large, LARGE_CALLS, threads));

    let loads = (0..options.runs).map(|_| first_answer(&sandbox, &read("pass")?, &small)).collect::<Result<_>>()?;
    tell("load_ms", "ms", loads);
    tell("floor.load_ms", "ms", (0..options.runs).map(|_| floor.first_answer(&small, LOADS)).collect::<Result<_>>()?);
    Ok(())
}

/// At one thread and at two; how many times as many calls two threads make.
fn compare(options: &Options, name: &str, per_call: impl Fn(usize) -> f64) {
    per_call(1);
    let times = |threads| (0..options.runs).map(|_| per_call(threads)).collect::<Vec<f64>>();
    let (one, two) = (times(1), times(2));
    let scaling = one.iter().zip(&two).map(|(one, two)| 2.0 * one / two).collect();
    tell(&format!("{name}.t1_us"), "us", one);
    tell(&format!("{name}.t2_us"), "us", two);
    tell(&format!("{name}.scaling"), "x", scaling);
}

/// Microseconds that each thread takes for a call, while all of them make calls.
fn per_call(plugin: &WasmPlugin, call: Call, body: &Bytes, calls: usize, threads: usize) -> f64 {
    on_threads(threads, || async {
        for _ in 0..calls {
            one(plugin, call, body).await;
        }
    }) * 1e6
        / calls as f64
}

async fn one(plugin: &WasmPlugin, call: Call, body: &Bytes) {
    let mut guest = plugin.open(soon()).await.expect("an instance");
    match call {
        Call::Open => {}
        Call::Preprocess => drop(guest.preprocess(request(body)).await.expect("tensors")),
        Call::Handle => drop(guest.handle(request(body)).await.expect("a reply")),
    }
}

/// Seconds from when all threads are there until the last has done its work.
pub(crate) fn on_threads<F: Future<Output = ()>>(threads: usize, work: impl Fn() -> F + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let took = |()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        barrier.wait();
        let start = Instant::now();
        runtime.block_on(work());
        start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| took(()))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).fold(0.0, f64::max)
    })
}

/// Milliseconds to load a plugin whose code is in the cache, and to answer a first request.
fn first_answer(sandbox: &sandmill_sandbox::Sandbox, component: &[u8], body: &Bytes) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let start = Instant::now();
    for _ in 0..LOADS {
        let plugin = load(sandbox, component, |_| {})?;
        anyhow::ensure!(plugin.loaded().cached, "it was compiled");
        runtime.block_on(one(&plugin, Call::Preprocess, body));
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / LOADS as f64)
}

fn init_time(plugin: &WasmPlugin) -> Result<f64> {
    match &plugin.loaded().made.snapshot {
        sandmill_sandbox::Snapshot::Taken { time } => Ok(time.as_secs_f64() * 1e3),
        other => None.with_context(|| format!("there is no snapshot: {other:?}")),
    }
}
