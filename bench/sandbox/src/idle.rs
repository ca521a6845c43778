//! What a function holds that nobody calls: many distinct ones, loaded from the cache in a process of their own, each called once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sandmill_domain::ports::Plugin;
use sandmill_sandbox::WasmPlugin;
use wasmtime::Engine;

use crate::guests::{component, load, request, sandbox, soon};
use crate::{Options, floor, tell};

/// Longer than it takes to load and call all of them.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let component = component(&options.root, "bench/guests/pass/plugin.wasm")?;
    compile(folder.path(), &component, options.functions)?;
    for (name, kind) in [("idle", "ours"), ("floor.idle", "plain")] {
        let mut runs = Vec::new();
        for _ in 0..options.runs.min(3) {
            runs.push(measure_in_a_child(folder.path(), &options.root, options.functions, kind)?);
        }
        for (at, (figure, unit)) in FIGURES.into_iter().enumerate() {
            let values: Vec<f64> = runs.iter().filter_map(|run| run.get(at).copied()).collect();
            if !values.is_empty() {
                tell(&format!("{name}.{figure}"), unit, values);
            }
        }
    }
    Ok(())
}

/// The same plugin, but other bytes: another custom section at its end.
pub(crate) fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    let mark = u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    [component, &[0, 6, 1, b'n'], &mark].concat()
}

fn compile(folder: &Path, component: &[u8], functions: usize) -> Result<()> {
    let sandbox = sandbox(folder, |_| {})?;
    std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    for number in (half..functions).step_by(2) {
                        load(sandbox, &distinct(component, number), |_| {})?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        halves.into_iter().try_for_each(|half| half.join().expect("no panic"))
    })
}

/// What a child prints; plain wasmtime has no more than the first two.
const FIGURES: [(&str, &str); 5] =
    [("called_rss_kb", "KB"), ("called_anonymous_kb", "KB"), ("rss_kb", "KB"), ("anonymous_kb", "KB"), ("again_us", "us")];

/// For each function: kilobytes resident, and of that anonymous, which no file backs, when all have just been called; the same
/// when nobody has called them for a while; microseconds of the next call.
fn measure_in_a_child(folder: &Path, root: &Path, functions: usize, kind: &str) -> Result<Vec<f64>> {
    let output =
        Command::new("/proc/self/exe").arg("idle").args([folder, root]).args([functions.to_string().as_str(), kind]).output()?;
    if !output.status.success() {
        bail!("the child failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    text.split_whitespace().map(|value| Ok(value.parse()?)).collect()
}

/// The child's side: loads all of them, calls each once, and prints what they hold, then and later.
pub(crate) fn measure_here() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [folder, root, functions, kind] = arguments.as_slice() else { bail!("four arguments") };
    let (folder, root, functions) = (PathBuf::from(folder), PathBuf::from(root), functions.parse::<usize>()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let body = Bytes::from(vec![7; 1000]);
    let each = |before: f64, after: f64| (after - before) / (functions - 1) as f64;
    let tell = |before: (f64, f64), after: (f64, f64)| print!("{} {} ", each(before.0, after.0), each(before.1, after.1));
    // The first one brings along what all of them share.
    let mut before = (0.0, 0.0);
    if kind == "ours" {
        let component = component(&root, "bench/guests/pass/plugin.wasm")?;
        let sandbox = sandbox(&folder, |options| options.code_idle = IDLE)?;
        let mut plugins = Vec::with_capacity(functions);
        for number in 0..functions {
            let plugin = load(&sandbox, &distinct(&component, number), |_| {})?;
            anyhow::ensure!(plugin.loaded().cached, "it was compiled");
            runtime.block_on(call(&plugin, &body));
            plugins.push(plugin);
            if number == 0 {
                before = memory()?;
            }
        }
        tell(before, memory()?);
        runtime.block_on(async { tokio::time::sleep(3 * IDLE).await });
        tell(before, memory()?);
        let start = Instant::now();
        runtime.block_on(async {
            for plugin in &plugins {
                call(plugin, &body).await;
            }
        });
        println!("{}", start.elapsed().as_secs_f64() * 1e6 / functions as f64);
    } else {
        let files: Vec<PathBuf> =
            std::fs::read_dir(folder.join("cache"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let engine = Engine::new(&floor::config())?;
        let mut plugins = Vec::with_capacity(functions);
        for (number, file) in files.iter().enumerate() {
            let pre = floor::load(&engine, file)?;
            runtime.block_on(floor::one(&engine, &pre, &body));
            plugins.push(pre);
            if number == 0 {
                before = memory()?;
            }
        }
        tell(before, memory()?);
    }
    Ok(())
}

async fn call(plugin: &WasmPlugin, body: &Bytes) {
    let mut guest = plugin.open(soon()).await.expect("an instance");
    drop(guest.preprocess(request(body)).await.expect("tensors"));
}

/// Kilobytes of this process: resident, and anonymous.
fn memory() -> Result<(f64, f64)> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let field = |name: &str| -> Result<f64> {
        let line = rollup.lines().find(|line| line.starts_with(name)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
    };
    Ok((field("Rss:")?, field("Anonymous:")?))
}
