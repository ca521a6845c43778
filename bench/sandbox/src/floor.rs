//! Plain wasmtime: the same compiled code, the same pool, and nothing else of ours. No limits, no clock, no account, no checks.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::calls::on_threads;

mod bindings {
    #![allow(missing_docs, unreachable_pub, dead_code, unsafe_code, reason = "generated")]

    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "sandmill:plugin/preprocessor",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::exports::sandmill::plugin::preprocess::Request;
use bindings::sandmill::plugin::types::{HeaderParam, RequestHead};
use bindings::{Preprocessor, PreprocessorPre};

pub(crate) struct Floor {
    engine: Engine,
    file: PathBuf,
    pre: PreprocessorPre<()>,
}

impl Floor {
    /// Over the newest file of the sandbox's cache.
    pub(crate) fn start(cache: &Path) -> Result<Self> {
        let files = std::fs::read_dir(cache)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        let written = |file: &PathBuf| file.metadata().and_then(|metadata| metadata.modified()).ok();
        let file = files.into_iter().max_by_key(written).context("the cache is empty")?;
        let engine = Engine::new(&config())?;
        let pre = load(&engine, &file)?;
        Ok(Self { engine, file, pre })
    }

    /// Microseconds that each thread takes for a call, while all of them make calls.
    pub(crate) fn per_call(&self, body: &Bytes, calls: usize, threads: usize) -> f64 {
        on_threads(threads, || async {
            for _ in 0..calls {
                one(&self.engine, &self.pre, body).await;
            }
        }) * 1e6
            / calls as f64
    }

    /// Milliseconds to load the code and to answer a first request.
    pub(crate) fn first_answer(&self, body: &Bytes, loads: usize) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let start = Instant::now();
        for _ in 0..loads {
            let pre = load(&self.engine, &self.file)?;
            runtime.block_on(one(&self.engine, &pre, body));
        }
        Ok(start.elapsed().as_secs_f64() * 1e3 / loads as f64)
    }
}

/// Loads a file of the cache as it is.
pub(crate) fn load(engine: &Engine, file: &Path) -> Result<PreprocessorPre<()>> {
    #[allow(unsafe_code, reason = "code of the sandbox's own cache")]
    // SAFETY: the sandbox of this very process, or of one of this binary, has written the file.
    let component = unsafe { Component::deserialize_file(engine, file) }?;
    let mut linker = Linker::new(engine);
    linker.define_unknown_imports_as_traps(&component)?;
    Ok(PreprocessorPre::new(linker.instantiate_pre(&component)?)?)
}

pub(crate) async fn one(engine: &Engine, pre: &PreprocessorPre<()>, body: &Bytes) {
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(1 << 40);
    store.set_hostcall_fuel(64 << 20);
    let instance: Preprocessor = pre.instantiate_async(&mut store).await.expect("an instance");
    let headers = [("host", "127.0.0.1:8080"), ("content-type", "application/octet-stream"), ("accept", "*/*")]
        .map(|(name, value)| HeaderParam { name, value: value.as_bytes() });
    let head = RequestHead { method: "POST", path: "", query: None, headers: &headers };
    let preprocess = instance.sandmill_plugin_preprocess();
    drop(preprocess.call_preprocess(&mut store, Request { head, body }).await.expect("no trap").expect("tensors"));
}

/// As the sandbox's own, where the code depends on it; for the rest what is quickest.
pub(crate) fn config() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1280)
        .total_stacks(1280)
        .total_memories(2560)
        .total_tables(2560)
        .table_elements(65_536)
        .max_memory_size(256 << 20);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(1 << 20).table_keep_resident(64 << 10);
    }
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .memory_guaranteed_dense_image_size(256 << 20)
        .wasm_memory64(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
