//! The process's one engine: its settings, its pool of instances, its linker. Knows no plugin in particular.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use sandmill_worker::Quarantine;
use thiserror::Error;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::{Cache, CacheError};
use crate::options::SandboxOptions;
use crate::reuse::Room;
use crate::state::State;
use crate::ticker::Ticker;
use crate::{host, models, wasi};

/// Linear memories of one component: one of its own, and one more for composed ones.
pub(crate) const MEMORIES_MAX: u32 = 2;
/// Tables of one component.
pub(crate) const TABLES_MAX: u32 = 8;
/// Core instances of one component: Python's runtime, made of shared libraries and stand-ins for what it lacks, has 38.
const CORE_INSTANCES_MAX: u32 = 64;

/// What stays resident when an instance ends and only its dirty pages are reset: with the kernel's page scan that makes a
/// fresh instance of a small guest twice as quick; without it, it would make it slower.
const MEMORY_RESIDENT_BYTES: usize = 1 << 20;
const TABLE_RESIDENT_BYTES: usize = 64 << 10;

/// The memory of all instances that wait for reuse: what they have grown to, and nobody is charged for.
const IDLE_BYTES_MAX: usize = 1 << 30;

/// An image of memory up to this size is mapped rather than copied for each instance, however sparse it is.
const IMAGE_BYTES: u64 = 256 << 20;

/// What the library that cranelift shares its work out with reads how many threads it may make from.
const COMPILE_THREADS: &str = "RAYON_NUM_THREADS";

/// Room on a guest's stack for the host's own functions beneath it.
pub(crate) const HOST_STACK_BYTES: usize = 1 << 20;

const INSTANCES: RangeInclusive<u32> = 1..=4096;
const STACK_BYTES: RangeInclusive<usize> = 64 << 10..=1 << 20;
const TICK: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(1);
const MEMORY_BYTES: RangeInclusive<usize> = 1..=4 << 30;
const TABLE_ELEMENTS: RangeInclusive<usize> = 1..=1 << 20;

/// Runs plugins. One per process: each reserves address space for all its instances.
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Option<Cache>,
    pub(crate) options: SandboxOptions,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) quarantine: Quarantine,
    /// One permit for each instance at work.
    pub(crate) places: Arc<Semaphore>,
    /// What may be kept for reuse.
    pub(crate) idle_room: Arc<Room>,
}

/// Why there is no sandbox.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// An option beyond its bounds.
    #[error("{name} must be {bounds}")]
    Option {
        /// The field of [`SandboxOptions`].
        name: &'static str,
        /// Its bounds, in words.
        bounds: String,
    },
    /// The engine does not start; most often for want of address space, which `ulimit -v` bounds.
    #[error("the WebAssembly engine does not start with {instances_max} instances; is the address space limited?")]
    Engine {
        /// Asked for.
        instances_max: u32,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cache's folder cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// No thread could be made.
    #[error("no thread for the sandbox's clock")]
    Thread(#[source] io::Error),
}

impl Sandbox {
    /// Reserves the pool and starts the thread that ticks; both end with the last of the sandbox and its plugins.
    ///
    /// # Errors
    /// An option beyond its bounds, a cache folder that others can enter, or no address space.
    pub fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        check(&options)?;
        let cache = options.cache.as_ref().map(Cache::open).transpose()?;
        let failed = |error: wasmtime::Error| SandboxError::Engine { instances_max: options.instances_max, source: error.into() };
        let mut config = code_config();
        config
            .max_wasm_stack(options.stack_bytes_max)
            .async_stack_size(options.stack_bytes_max + HOST_STACK_BYTES)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&options)));
        let engine = Engine::new(&config).map_err(failed)?;
        let linker = linker(&engine).map_err(failed)?;
        let ticking = engine.clone();
        let ticker = Ticker::start(options.tick, move || ticking.increment_epoch()).map_err(SandboxError::Thread)?;
        let compiling = &options.compiling;
        let mut program = compiling.program.clone();
        program.env.push((COMPILE_THREADS.into(), compiling.threads.to_string().into()));
        Ok(Self {
            engine,
            linker,
            cache,
            ticker: Arc::new(ticker),
            quarantine: Quarantine::new(program, compiling.quarantine, compiling.children_max),
            places: Arc::new(Semaphore::new(options.instances_max as usize)),
            idle_room: Room::new(idle_max(options.instances_max) as usize, IDLE_BYTES_MAX),
            options,
        })
    }
}

impl Sandbox {
    /// Instances that wait to be used again, of all plugins.
    pub fn idle_instances(&self) -> usize {
        (idle_max(self.options.instances_max) as usize).saturating_sub(self.idle_room.places())
    }
}

/// How many instances may be kept for reuse: they never take the place of one at work.
fn idle_max(instances_max: u32) -> u32 {
    instances_max.div_ceil(4)
}

fn check(options: &SandboxOptions) -> Result<(), SandboxError> {
    within("instances_max", &options.instances_max, &INSTANCES)?;
    within("memory_bytes_max", &options.limits.memory_bytes_max, &MEMORY_BYTES)?;
    within("table_elements_max", &options.limits.table_elements_max, &TABLE_ELEMENTS)?;
    within("stack_bytes_max", &options.stack_bytes_max, &STACK_BYTES)?;
    within("tick", &options.tick, &TICK)
}

fn within<T: PartialOrd + std::fmt::Debug>(
    name: &'static str,
    value: &T,
    bounds: &RangeInclusive<T>,
) -> Result<(), SandboxError> {
    if bounds.contains(value) {
        Ok(())
    } else {
        Err(SandboxError::Option { name, bounds: format!("from {:?} to {:?}", bounds.start(), bounds.end()) })
    }
}

/// What compiled code depends on: the same here and in quarantine.
pub(crate) fn code_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // One guest, one call: no tasks within a guest, and a store that costs less.
        .concurrency_support(false)
        .memory_guaranteed_dense_image_size(IMAGE_BYTES)
        // The contract's pointers have 32 bits.
        .wasm_memory64(false);
    config
}

fn pool(options: &SandboxOptions) -> PoolingAllocationConfig {
    let instances = options.instances_max + idle_max(options.instances_max);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances * CORE_INSTANCES_MAX)
        .total_memories(instances * MEMORIES_MAX)
        .total_tables(instances * TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(options.limits.table_elements_max)
        .max_memory_size(options.limits.memory_bytes_max)
        // A place that last had the same plugin is good for its next call as it is; another one's is mapped anew, for some 40 us and page
        // faults after it. By default only 100 are kept, and a host of more functions than that would pay for it with every call.
        .max_unused_warm_slots(instances * MEMORIES_MAX);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(MEMORY_RESIDENT_BYTES)
            .table_keep_resident(TABLE_RESIDENT_BYTES);
    } else {
        tracing::info!("this kernel cannot scan page maps (Linux 6.7 can): fresh plugin instances cost about twice as much");
    }
    pool
}

/// What every plugin may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    host::link(&mut linker)?;
    models::link(&mut linker)?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    fn settings(config: &Config) -> u64 {
        let engine = Engine::new(config).unwrap();
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn code_does_not_depend_on_the_pool() {
        let mut pooled = code_config();
        let options = SandboxOptions { instances_max: 1, ..SandboxOptions::default() };
        pooled
            .max_wasm_stack(options.stack_bytes_max)
            .async_stack_size(options.stack_bytes_max + HOST_STACK_BYTES)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&options)));
        assert_eq!(settings(&pooled), settings(&code_config()));
    }
}
