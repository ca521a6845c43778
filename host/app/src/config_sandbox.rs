//! The parts of the configuration about plugins: `[sandbox]`, what it gives at most, and what one tenant may use.

use std::path::PathBuf;
use std::time::Duration;

use sandmill_catalog::{ByteSize, Count};
use sandmill_domain::{GrantsMax, Origin, PluginLimits, TenantLimits};
use sandmill_sandbox::{CacheOptions, CompileOptions, SandboxOptions};
use serde::Deserialize;

use crate::config::{GIB, Millis, Number, Size, set, small};

/// `[sandbox]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sandbox {
    /// The folder of the compiled components; an empty text for none.
    cache: Option<PathBuf>,
    cache_key: Option<PathBuf>,
    cache_bytes_max: Option<Size>,
    instances_max: Option<Count<1, 4096>>,
    stack_bytes_max: Option<ByteSize<65536, 1_048_576>>,
    tick_us: Option<Count<100, 1_000_000>>,
    code_idle_ms: Option<Millis>,
    compile: Compile,
    limits: Limits,
    grants: Grants,
}

/// `[sandbox.compile]`: what compiling one component may take.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Compile {
    component_bytes_max: Option<ByteSize<1, GIB>>,
    functions_max: Option<Number>,
    function_bytes_max: Option<ByteSize<1, GIB>>,
    processes_max: Option<Count<1, 64>>,
    threads: Option<Count<1, 256>>,
    memory_bytes_max: Option<Size>,
    cpu_ms: Option<Millis>,
    timeout_ms: Option<Millis>,
    output_bytes_max: Option<Size>,
}

/// `[sandbox.limits]`: the most that a function may ask for, by the same names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    plugin_time_ms: Option<Millis>,
    plugin_memory_bytes_max: Option<ByteSize<65536, { 4 * GIB }>>,
    plugin_table_elements_max: Option<Count<1, 1_048_576>>,
    plugin_tensors_max: Option<Number>,
    plugin_tensor_bytes_max: Option<Size>,
    plugin_output_bytes_max: Option<Size>,
    plugin_header_bytes_max: Option<ByteSize<1, 1_048_576>>,
    plugin_log_lines_max: Option<Number>,
    plugin_log_bytes_max: Option<Size>,
    plugin_host_calls_max: Option<Count<1, 1_000_000_000>>,
    plugin_init_time_ms: Option<Millis>,
    plugin_snapshot_bytes_max: Option<Size>,
}

/// `[sandbox.grants]`: the most that a function may be granted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Grants {
    wall_clock: Option<bool>,
    monotonic_clock: Option<bool>,
    randomness: Option<bool>,
    environment: Option<bool>,
    asset_files: Option<bool>,
    http: Vec<Host>,
}

/// A host that requests may go to.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Host(Origin);

impl TryFrom<String> for Host {
    type Error = sandmill_domain::OriginError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// `[tenants]`: what all functions of one tenant may use together.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tenants {
    requests_per_second_max: Option<Count<1, 10_000_000>>,
    concurrency_max: Option<Count<1, 1_000_000>>,
    instances_max: Option<Count<1, 4096>>,
    guest_memory_bytes_max: Option<Size>,
    buffered_bytes_max: Option<Size>,
}

impl Sandbox {
    pub(crate) fn options(&self) -> SandboxOptions {
        let mut options = SandboxOptions { cache: self.cache(), ..SandboxOptions::default() };
        set(&mut options.instances_max, self.instances_max.map(small));
        set(&mut options.stack_bytes_max, self.stack_bytes_max.map(ByteSize::get));
        set(&mut options.tick, self.tick_us.map(|tick| Duration::from_micros(tick.get() as u64)));
        set(&mut options.code_idle, self.code_idle_ms.map(Count::as_millis));
        self.compile.set(&mut options.compiling);
        self.limits.set(&mut options.limits);
        self.grants.set(&mut options.grants);
        options
    }

    /// Whether somebody chose where the cache lies: then it must be usable.
    pub(crate) fn names_a_cache(&self) -> bool {
        self.cache.is_some() || self.cache_key.is_some()
    }

    fn cache(&self) -> Option<CacheOptions> {
        let folder =
            self.cache.clone().or_else(|| default_cache("components")).filter(|folder| !folder.as_os_str().is_empty())?;
        let beside = || folder.with_file_name("components.key");
        let key = self.cache_key.clone().or_else(default_key).unwrap_or_else(beside);
        let bytes_max = self.cache_bytes_max.map_or(1 << 30, |size| size.get() as u64);
        Some(CacheOptions { folder, key, bytes_max })
    }
}

impl Compile {
    fn set(&self, options: &mut CompileOptions) {
        set(&mut options.component_bytes_max, self.component_bytes_max.map(ByteSize::get));
        set(&mut options.functions_max, self.functions_max.map(Count::get));
        set(&mut options.function_bytes_max, self.function_bytes_max.map(ByteSize::get));
        set(&mut options.children_max, self.processes_max.map(Count::get));
        set(&mut options.threads, self.threads.map(Count::get));
        let quarantine = &mut options.quarantine;
        set(&mut quarantine.memory_bytes_max, self.memory_bytes_max.map(|size| size.get() as u64));
        set(&mut quarantine.cpu_time, self.cpu_ms.map(Count::as_millis));
        set(&mut quarantine.wall_time, self.timeout_ms.map(Count::as_millis));
        set(&mut quarantine.answer_bytes_max, self.output_bytes_max.map(|size| size.get() as u64));
    }
}

impl Limits {
    fn set(&self, limits: &mut PluginLimits) {
        set(&mut limits.time, self.plugin_time_ms.map(Count::as_millis));
        set(&mut limits.memory_bytes_max, self.plugin_memory_bytes_max.map(ByteSize::get));
        set(&mut limits.table_elements_max, self.plugin_table_elements_max.map(Count::get));
        set(&mut limits.tensors_max, self.plugin_tensors_max.map(Count::get));
        set(&mut limits.tensor_bytes_max, self.plugin_tensor_bytes_max.map(ByteSize::get));
        set(&mut limits.output_bytes_max, self.plugin_output_bytes_max.map(ByteSize::get));
        set(&mut limits.header_bytes_max, self.plugin_header_bytes_max.map(ByteSize::get));
        set(&mut limits.log_lines_max, self.plugin_log_lines_max.map(Count::get));
        set(&mut limits.log_bytes_max, self.plugin_log_bytes_max.map(ByteSize::get));
        set(&mut limits.host_calls_max, self.plugin_host_calls_max.map(Count::get));
        set(&mut limits.init_time, self.plugin_init_time_ms.map(Count::as_millis));
        set(&mut limits.snapshot_bytes_max, self.plugin_snapshot_bytes_max.map(ByteSize::get));
    }
}

impl Grants {
    fn set(&self, grants: &mut GrantsMax) {
        set(&mut grants.wall_clock, self.wall_clock);
        set(&mut grants.monotonic_clock, self.monotonic_clock);
        set(&mut grants.randomness, self.randomness);
        set(&mut grants.environment, self.environment);
        set(&mut grants.asset_files, self.asset_files);
        grants.http = self.http.iter().map(|host| host.0.clone()).collect();
    }
}

impl Tenants {
    /// By default a quarter of the host's instances, each with the memory that a plugin has by default, and half of the bodies.
    pub(crate) fn limits(&self, instances: u32, buffered_bytes_max: usize) -> TenantLimits {
        let instances_max = self.instances_max.map_or(instances.div_ceil(4) as usize, Count::get);
        let memory = instances_max.saturating_mul(PluginLimits::default().memory_bytes_max);
        let guest_memory_bytes_max = self.guest_memory_bytes_max.map_or(memory, ByteSize::get);
        TenantLimits {
            requests_per_second_max: self
                .requests_per_second_max
                .and_then(|count| u32::try_from(count.get()).ok()?.try_into().ok()),
            concurrency_max: self.concurrency_max.map_or(1024, Count::get),
            instances_max,
            guest_memory_bytes_max,
            buffered_bytes_max: self.buffered_bytes_max.map_or(buffered_bytes_max.div_ceil(2), ByteSize::get),
        }
    }
}

/// The user's cache folder, as the XDG Base Directory Specification says; none without a home.
pub(crate) fn default_cache(of: &str) -> Option<PathBuf> {
    Some(base("XDG_CACHE_HOME", ".cache")?.join("sandmill").join(of))
}

/// The key lies with what the user's programs keep for themselves, and not with what may be thrown away.
fn default_key() -> Option<PathBuf> {
    Some(base("XDG_STATE_HOME", ".local/state")?.join("sandmill/components.key"))
}

fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))
}
