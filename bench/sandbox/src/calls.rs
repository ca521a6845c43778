//! A fresh instance for each call, at one thread and at two; what is copied; from the cache to the first answer.

use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use sandmill_domain::ports::Plugin;
use sandmill_sandbox::WasmPlugin;

use crate::guests::{asset, component, load, request, sandbox, soon};
use crate::idle::distinct;
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
    let sandbox = sandbox(folder.path(), |_| {})?;
    let read = |name: &str| component(&options.root, &format!("bench/guests/{name}/plugin.wasm"));
    let (small, large) = (Bytes::from(vec![7; 1000]), Bytes::from(vec![7; LARGE_BYTES]));

    let pass = load(&sandbox, &read("pass")?, |_| {})?;
    let floor = floor::Floor::start(&folder.path().join("cache"))?;
    let table = load(&sandbox, &read("table")?, |_| {})?;
    let table_floor = floor::Floor::start(&folder.path().join("cache"))?;
    let embed = load(&sandbox, &component(&options.root, "examples/embed/plugin.wasm")?, |plugin| {
        plugin.assets = asset(&options.root, "examples/embed/tokenizer.json").into_iter().collect();
    })?;
    let runs = load(&sandbox, &read("runs")?, |_| {})?;
    // Another plugin than the one for small calls: memory that a large call has used is cleared after each call from then on.
    let wide = load(&sandbox, &distinct(&read("pass")?, 0), |_| {})?;
    let wide_floor = floor::Floor::start(&folder.path().join("cache"))?;
    let text = Bytes::from_static(br#"{"input": "How do I reset my password?"}"#);

    let calls = |plugin, call, body, calls| move |threads| per_call(plugin, call, body, calls, threads);
    let figures: [(&str, &PerCall<'_>); 11] = [
        ("fresh", &calls(&pass, Call::Preprocess, &small, CALLS)),
        ("floor.fresh", &|threads| floor.per_call(&small, CALLS, threads)),
        ("table", &calls(&table, Call::Preprocess, &small, CALLS)),
        ("floor.table", &|threads| table_floor.per_call(&small, CALLS, threads)),
        ("embed.instance", &calls(&embed, Call::Open, &small, CALLS / 4)),
        ("embed.preprocess", &calls(&embed, Call::Preprocess, &text, CALLS / 4)),
        ("large.import", &calls(&runs, Call::Handle, &large, LARGE_CALLS)),
        ("large.returned", &calls(&wide, Call::Preprocess, &large, LARGE_CALLS)),
        ("floor.large.returned", &|threads| wide_floor.per_call(&large, LARGE_CALLS, threads)),
        ("small_after_large", &calls(&wide, Call::Preprocess, &small, CALLS)),
        ("floor.small_after_large", &|threads| wide_floor.per_call(&small, CALLS, threads)),
    ];
    compare(options, &figures);
    tell("embed.snapshot_ms", "ms", vec![init_time(&embed)?]);

    let loads = (0..options.runs).map(|_| first_answer(&sandbox, &read("pass")?, &small)).collect::<Result<_>>()?;
    tell("load_ms", "ms", loads);
    tell("floor.load_ms", "ms", (0..options.runs).map(|_| floor.first_answer(&small, LOADS)).collect::<Result<_>>()?);
    Ok(())
}

/// Microseconds of a call on so many threads.
type PerCall<'a> = dyn Fn(usize) -> f64 + 'a;

/// At one thread and at two; how many times as many calls two threads make. One run of each figure after the other, again and
/// again: what the machine does for some seconds is then in a few runs of all of them, and not in all runs of one.
fn compare(options: &Options, figures: &[(&str, &PerCall<'_>)]) {
    let mut runs = vec![Vec::new(); figures.len()];
    for _ in 0..options.runs {
        for ((_, per_call), runs) in figures.iter().zip(&mut runs) {
            per_call(1);
            runs.push((per_call(1), per_call(2)));
        }
    }
    for ((name, _), runs) in figures.iter().zip(runs) {
        tell(&format!("{name}.t1_us"), "us", runs.iter().map(|(one, _)| *one).collect());
        tell(&format!("{name}.t2_us"), "us", runs.iter().map(|(_, two)| *two).collect());
        tell(&format!("{name}.scaling"), "x", runs.iter().map(|(one, two)| 2.0 * one / two).collect());
    }
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
