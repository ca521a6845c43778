//! What an idle function holds: many distinct ones, loaded from the cache in a process of their own, each called once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sandmill_domain::ports::Plugin;
use wasmtime::Engine;

use crate::guests::{component, load, request, sandbox, soon};
use crate::{Options, floor, tell};

pub(crate) fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let component = component(&options.root, "bench/guests/pass/plugin.wasm")?;
    compile(folder.path(), &component, options.functions)?;
    for (name, kind) in [("idle", "ours"), ("floor.idle", "plain")] {
        let mut runs = Vec::new();
        for _ in 0..options.runs.min(3) {
            runs.push(measure_in_a_child(folder.path(), &options.root, options.functions, kind)?);
        }
        tell(&format!("{name}.rss_kb"), "KB", runs.iter().map(|run| run.0).collect());
        tell(&format!("{name}.anonymous_kb"), "KB", runs.iter().map(|run| run.1).collect());
    }
    Ok(())
}

/// The same plugin, but other bytes: another custom section at its end.
fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    let mark = u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    [component, &[0, 6, 1, b'n'], &mark].concat()
}

fn compile(folder: &Path, component: &[u8], functions: usize) -> Result<()> {
    let sandbox = sandbox(folder)?;
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

/// Kilobytes for each function: resident, and of that anonymous, which no file backs.
fn measure_in_a_child(folder: &Path, root: &Path, functions: usize, kind: &str) -> Result<(f64, f64)> {
    let output =
        Command::new("/proc/self/exe").arg("idle").args([folder, root]).args([functions.to_string().as_str(), kind]).output()?;
    if !output.status.success() {
        bail!("the child failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let (resident, anonymous) = text.trim().split_once(' ').context("two numbers")?;
    Ok((resident.parse()?, anonymous.parse()?))
}

/// The child's side: loads all of them, calls each once, and prints what they hold.
pub(crate) fn measure_here() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [folder, root, functions, kind] = arguments.as_slice() else { bail!("four arguments") };
    let (folder, root, functions) = (PathBuf::from(folder), PathBuf::from(root), functions.parse::<usize>()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let body = Bytes::from(vec![7; 1000]);
    let (before, after) = if kind == "ours" {
        let component = component(&root, "bench/guests/pass/plugin.wasm")?;
        let sandbox = sandbox(&folder)?;
        let mut plugins = Vec::with_capacity(functions);
        // The first one brings along what all of them share.
        let mut before = (0, 0);
        for number in 0..functions {
            let plugin = load(&sandbox, &distinct(&component, number), |_| {})?;
            anyhow::ensure!(plugin.loaded().cached, "it was compiled");
            runtime.block_on(async {
                let mut guest = plugin.open(soon()).await.expect("an instance");
                drop(guest.preprocess(request(&body)).await.expect("tensors"));
            });
            plugins.push(plugin);
            if number == 0 {
                before = memory()?;
            }
        }
        (before, memory()?)
    } else {
        let files: Vec<PathBuf> =
            std::fs::read_dir(folder.join("cache"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let engine = Engine::new(&floor::config())?;
        let mut plugins = Vec::with_capacity(functions);
        let mut before = (0, 0);
        for (number, file) in files.iter().enumerate() {
            let pre = floor::load(&engine, file)?;
            runtime.block_on(floor::one(&engine, &pre, &body));
            plugins.push(pre);
            if number == 0 {
                before = memory()?;
            }
        }
        (before, memory()?)
    };
    let each = |before: usize, after: usize| (after.saturating_sub(before)) as f64 / (functions - 1) as f64;
    println!("{} {}", each(before.0, after.0), each(before.1, after.1));
    Ok(())
}

/// Kilobytes of this process: resident, and anonymous.
fn memory() -> Result<(usize, usize)> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let field = |name: &str| -> Result<usize> {
        let line = rollup.lines().find(|line| line.starts_with(name)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
    };
    Ok((field("Rss:")?, field("Anonymous:")?))
}
