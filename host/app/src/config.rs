//! The host's configuration: TOML, every key optional, unknown keys refused, all mistakes told at once.
//!
//! `deploy/sandmill.toml` shows every key with its default; a test below holds it to that.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sandmill_catalog::{ByteSize, Count, FileLimits, ReadError, read_document};
use sandmill_domain::TenantLimits;
use sandmill_edge::{EdgeLimits, EdgeOptions};
use sandmill_engine::{Budget, EngineOptions, ModelOptions, QuarantineOptions};
use sandmill_sandbox::SandboxOptions;
use sandmill_telemetry::LogFormat;
use serde::Deserialize;

use crate::cli::ServeOptions;
use crate::config_providers::{self, DeviceMemory, Libraries};
use crate::config_sandbox::{Sandbox, Tenants, default_cache};
use crate::config_store::Store;
use crate::config_tls::Tls;

const HOUR_MS: usize = 3_600_000;
const DAY_MS: usize = 24 * HOUR_MS;
const COUNT_MAX: usize = 1 << 20;
pub(crate) const GIB: usize = 1 << 30;

pub(crate) type Millis = Count<1, HOUR_MS>;
pub(crate) type Number = Count<1, COUNT_MAX>;
pub(crate) type Size = ByteSize<1, { 64 * GIB }>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    listen: SocketAddr,
    control: SocketAddr,
    expose_without_keys: bool,
    pub(crate) functions: Vec<PathBuf>,
    functions_max: Option<Number>,
    assets_bytes_max: Option<Size>,
    pub(crate) threads: Option<Count<1, 1024>>,
    tls: Tls,
    pub(crate) log: Log,
    pub(crate) engine: Engine,
    sandbox: Sandbox,
    tenants: Tenants,
    pub(crate) store: Store,
    edge: Edge,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            control: SocketAddr::from(([127, 0, 0, 1], 8081)),
            expose_without_keys: false,
            functions: Vec::new(),
            functions_max: None,
            assets_bytes_max: None,
            threads: None,
            tls: Tls::default(),
            log: Log::default(),
            engine: Engine::default(),
            sandbox: Sandbox::default(),
            tenants: Tenants::default(),
            store: Store::default(),
            edge: Edge::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) filter: String,
    pub(crate) format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Text }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engine {
    pub(crate) library: Option<PathBuf>,
    buffer_bytes_max: Option<Size>,
    buffer_idle_bytes_max: Option<Size>,
    model_bytes_max: Option<Size>,
    queue_bytes_max: Option<Size>,
    output_bytes_max: Option<Size>,
    load_timeout_ms: Option<Millis>,
    warm_up_timeout_ms: Option<Millis>,
    warm_up_runs: Option<Count<1, 1000>>,
    inline_max_us: Option<Count<0, 1_000_000>>,
    profile_ms: Option<Millis>,
    batch_rows_max: Option<Count<1, 1024>>,
    provider_libraries: Libraries,
    provider_memory_bytes_max: Option<DeviceMemory>,
    engine_cache: Option<PathBuf>,
    memory_bytes_max: Option<Size>,
    abandoned_max: Option<Count<0, 1024>>,
    idle_ms: Option<Count<0, DAY_MS>>,
    health_ms: Option<Millis>,
    recycle: Recycle,
    notes: Option<PathBuf>,
    quarantine: Quarantine,
}

/// What a process that tries a model may take.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Quarantine {
    memory_bytes_max: Option<ByteSize<{ 256 << 20 }, { 1024 * GIB }>>,
    cpu_ms: Option<Millis>,
    timeout_ms: Option<Millis>,
    processes_max: Option<Count<1, 64>>,
}

/// What one session of a model may go through; 0 stands for no bound.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Recycle {
    requests_max: Option<Count<0, { u32::MAX as usize }>>,
    age_ms: Option<Count<0, { 30 * DAY_MS }>>,
    growth_bytes_max: Option<ByteSize<0, { 64 * GIB }>>,
    failures_max: Option<Count<0, COUNT_MAX>>,
    jitter_percent: Option<Count<0, 50>>,
    hard_factor: Option<Count<2, 100>>,
    pause_ms: Option<Count<0, HOUR_MS>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Edge {
    connections_max: Option<Number>,
    control_connections_max: Option<Number>,
    backlog: Option<Count<1, 65535>>,
    streams_max: Option<Count<1, 10_000>>,
    head_bytes_max: Option<ByteSize<8192, 1_048_576>>,
    uri_bytes_max: Option<ByteSize<1, 65_534>>,
    buffered_bytes_max: Option<Size>,
    head_timeout_ms: Option<Millis>,
    body_timeout_ms: Option<Millis>,
    write_timeout_ms: Option<Millis>,
    idle_timeout_ms: Option<Millis>,
    ping_interval_ms: Option<Millis>,
    ping_timeout_ms: Option<Millis>,
    discard_bytes_max: Option<Size>,
    discard_timeout_ms: Option<Millis>,
    upload_bytes_max: Option<ByteSize<1, { 1024 * GIB }>>,
    upload_timeout_ms: Option<Count<1, DAY_MS>>,
    upload_pause_timeout_ms: Option<Millis>,
    upload_bytes_per_second_min: Option<ByteSize<1, GIB>>,
    drain_timeout_ms: Option<Millis>,
    drain_idle_timeout_ms: Option<Millis>,
}

impl Config {
    /// Reads a configuration file, or gives the defaults without one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let invalid = |problems| ReadError::Invalid { path: path.to_owned(), problems };
        let mut config: Self = read_document(&text).map_err(invalid)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.functions.iter_mut().for_each(|function| *function = folder.join(&function));
        config.tls.within(folder);
        config.store.within(folder);
        Ok(config)
    }

    /// The same with what the command line says instead.
    pub(crate) fn overridden(mut self, options: &ServeOptions) -> Result<Self> {
        set(&mut self.listen, options.listen);
        set(&mut self.control, options.control);
        self.functions.extend(options.functions.iter().cloned());
        if options.store.is_some() {
            self.store.location.clone_from(&options.store);
        }
        if self.store.location.is_some() && !self.functions.is_empty() {
            bail!(
                "a host serves either function folders or a store: leave out `--function` and `functions`, and `sandmill deploy` them"
            );
        }
        // Whether a store has keys is seen when it is read.
        if self.store.location.is_none() {
            self.refuse_exposed("function folders have no keys: serve a store, which has them")?;
        }
        Ok(self)
    }

    /// Without keys, only this machine may reach the host, unless somebody says otherwise.
    pub(crate) fn refuse_exposed(&self, why: &str) -> Result<()> {
        let exposed: Vec<String> = [("listen", self.listen), ("control", self.control)]
            .into_iter()
            .filter(|(_, address)| !address.ip().is_loopback() && !self.expose_without_keys)
            .map(|(key, address)| format!("`{key}` is {address}"))
            .collect();
        if !exposed.is_empty() {
            bail!(
                "{}, which others can reach, and {why}; or use a loopback address such as 127.0.0.1, \
                 or set `expose_without_keys = true` in the configuration",
                exposed.join(" and ")
            );
        }
        Ok(())
    }

    /// What a function folder may hold.
    pub(crate) fn file_limits(&self) -> FileLimits {
        let mut limits = FileLimits::default();
        set(&mut limits.functions_max, self.functions_max.map(Count::get));
        set(&mut limits.assets_bytes_max, self.assets_bytes_max.map(|size| size.get() as u64));
        set(&mut limits.model_bytes_max, self.engine.model_bytes_max.map(|size| size.get() as u64));
        let sandbox = self.sandbox_options();
        limits.plugin = limits.plugin.within(&sandbox.limits);
        limits.component_bytes_max = sandbox.compiling.component_bytes_max as u64;
        limits
    }

    /// How models are run, where their function does not say.
    pub(crate) fn model_options(&self) -> ModelOptions {
        let table = &self.engine;
        let mut options = ModelOptions::default();
        set(&mut options.queue_bytes_max, table.queue_bytes_max.map(ByteSize::get));
        set(&mut options.output_bytes_max, table.output_bytes_max.map(ByteSize::get));
        set(&mut options.load_timeout, table.load_timeout_ms.map(Count::as_millis));
        set(&mut options.warm_up_timeout, table.warm_up_timeout_ms.map(Count::as_millis));
        set(&mut options.warm_up_runs, table.warm_up_runs.map(Count::get));
        set(&mut options.inline_max, table.inline_max_us.map(|time| Duration::from_micros(time.get() as u64)));
        set(&mut options.profile_time, table.profile_ms.map(Count::as_millis));
        set(&mut options.batch_rows_max, table.batch_rows_max.map(Count::get));
        set(&mut options.idle_max, table.idle_ms.map(|time| bound(time.as_millis())));
        set(&mut options.health_interval, table.health_ms.map(Count::as_millis));
        options.budget = table.recycle.budget();
        options
    }

    pub(crate) fn edge_options(&self) -> EdgeOptions {
        EdgeOptions {
            listen: self.listen,
            control: self.control,
            listen_tls: self.tls.listen(),
            control_tls: self.tls.control(),
            tls_interval: self.tls.interval(),
            limits: self.edge.limits(),
        }
    }

    pub(crate) fn engine_options(&self) -> EngineOptions {
        let mut options = EngineOptions::default();
        set(&mut options.buffer_bytes_max, self.engine.buffer_bytes_max.map(ByteSize::get));
        set(&mut options.buffer_idle_bytes_max, self.engine.buffer_idle_bytes_max.map(ByteSize::get));
        options.memory_bytes_max = self.engine.memory_bytes_max.map(ByteSize::get);
        options.quarantine = Some(self.engine.quarantine.options());
        let notes = self.engine.notes.clone().or_else(|| default_cache("models"));
        options.notes = notes.filter(|folder| !folder.as_os_str().is_empty());
        set(&mut options.abandoned_max, self.engine.abandoned_max.map(Count::get));
        let Engine { provider_libraries, engine_cache, provider_memory_bytes_max, .. } = &self.engine;
        options.providers = config_providers::options(provider_libraries, engine_cache.as_ref(), *provider_memory_bytes_max);
        options
    }

    pub(crate) fn sandbox_options(&self) -> SandboxOptions {
        self.sandbox.options()
    }

    /// Whether the sandbox's cache is where it is by default: then it can be done without.
    pub(crate) fn cache_is_optional(&self) -> bool {
        !self.sandbox.names_a_cache()
    }

    /// How long a release that may be gone back to stays warm.
    pub(crate) fn spare_idle(&self) -> Duration {
        self.store.warm_ms.map_or(Duration::from_secs(600), Count::as_millis)
    }

    /// What one tenant may use.
    pub(crate) fn tenant_limits(&self) -> TenantLimits {
        self.tenants.limits(self.sandbox_options().instances_max, self.edge_options().limits.buffered_bytes_max)
    }
}

impl Recycle {
    fn budget(&self) -> Budget {
        let mut budget = Budget::default();
        set(&mut budget.requests_max, self.requests_max.map(|max| bound(max.get() as u64)));
        set(&mut budget.age_max, self.age_ms.map(|time| bound(time.as_millis())));
        set(&mut budget.growth_bytes_max, self.growth_bytes_max.map(|max| bound(max.get())));
        set(&mut budget.failures_max, self.failures_max.map(|max| bound(small(max))));
        set(&mut budget.jitter_percent, self.jitter_percent.map(small));
        set(&mut budget.hard_factor, self.hard_factor.map(small));
        set(&mut budget.pause, self.pause_ms.map(Count::as_millis));
        budget
    }
}

impl Quarantine {
    fn options(&self) -> QuarantineOptions {
        let mut options = QuarantineOptions::default();
        set(&mut options.limits.memory_bytes_max, self.memory_bytes_max.map(|size| size.get() as u64));
        set(&mut options.limits.cpu_time, self.cpu_ms.map(Count::as_millis));
        set(&mut options.limits.wall_time, self.timeout_ms.map(Count::as_millis));
        set(&mut options.children_max, self.processes_max.map(Count::get));
        options
    }
}

/// Nothing is no bound.
fn bound<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

impl Edge {
    fn limits(&self) -> EdgeLimits {
        let mut limits = EdgeLimits::default();
        set(&mut limits.connections_max, self.connections_max.map(small));
        set(&mut limits.control_connections_max, self.control_connections_max.map(small));
        set(&mut limits.backlog, self.backlog.map(small));
        set(&mut limits.streams_max, self.streams_max.map(small));
        set(&mut limits.head_bytes_max, self.head_bytes_max.map(|size| u32::try_from(size.get()).unwrap_or(u32::MAX)));
        set(&mut limits.uri_bytes_max, self.uri_bytes_max.map(ByteSize::get));
        set(&mut limits.buffered_bytes_max, self.buffered_bytes_max.map(ByteSize::get));
        set(&mut limits.head_time, self.head_timeout_ms.map(Count::as_millis));
        set(&mut limits.body_time, self.body_timeout_ms.map(Count::as_millis));
        set(&mut limits.write_time, self.write_timeout_ms.map(Count::as_millis));
        set(&mut limits.idle_time, self.idle_timeout_ms.map(Count::as_millis));
        set(&mut limits.ping_interval, self.ping_interval_ms.map(Count::as_millis));
        set(&mut limits.ping_time, self.ping_timeout_ms.map(Count::as_millis));
        set(&mut limits.discard_bytes_max, self.discard_bytes_max.map(ByteSize::get));
        set(&mut limits.discard_time, self.discard_timeout_ms.map(Count::as_millis));
        set(&mut limits.upload_bytes_max, self.upload_bytes_max.map(|size| size.get() as u64));
        set(&mut limits.upload_time, self.upload_timeout_ms.map(Count::as_millis));
        set(&mut limits.upload_pause_time, self.upload_pause_timeout_ms.map(Count::as_millis));
        let rate = self.upload_bytes_per_second_min.and_then(|rate| u32::try_from(rate.get()).ok());
        set(&mut limits.upload_bytes_per_second_min, rate.and_then(NonZeroU32::new));
        set(&mut limits.drain_time, self.drain_timeout_ms.map(Count::as_millis));
        set(&mut limits.drain_idle_time, self.drain_idle_timeout_ms.map(Count::as_millis));
        limits
    }
}

/// Puts a value that is configured in the place of a default.
pub(crate) fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// A count that its type bounds well below this.
pub(crate) fn small<const MIN: usize, const MAX: usize>(count: Count<MIN, MAX>) -> u32 {
    u32::try_from(count.get()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page that people copy from states every key, and its defaults are the real ones.
    #[test]
    fn the_documented_configuration_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/sandmill.toml");
        let shown = Config::read(Some(&path)).expect("the page is valid");
        let real = Config::default();
        assert_eq!(shown.edge_options(), real.edge_options());
        assert_eq!(shown.sandbox_options(), real.sandbox_options());
        assert_eq!(shown.tenant_limits(), real.tenant_limits());
        let store = |config: &Config| {
            let store = &config.store;
            let deploys = (store.deploys_max(), store.deploys_waiting_max(), config.spare_idle());
            format!("{deploys:?} {:?} {:?} {:?}", store.poll(), store.books(), store.archive_limits())
        };
        assert_eq!(store(&shown), store(&real));
        assert_eq!(format!("{:?}", shown.engine_options()), format!("{:?}", real.engine_options()));
        assert_eq!(format!("{:?}", shown.model_options()), format!("{:?}", real.model_options()));
        assert_eq!(format!("{:?}", shown.file_limits()), format!("{:?}", real.file_limits()));
        assert_eq!(format!("{:?}", shown.log), format!("{:?}", real.log));
        let debug = format!("{shown:?}");
        let mut left_out: Vec<&str> = debug.split(": None").filter_map(|text| text.rsplit([' ', '{']).next()).collect();
        // What stands behind the last of them is no key.
        left_out.pop();
        // Defaults that depend on the machine are shown as comments.
        assert_eq!(
            left_out,
            [
                "threads",
                "listen",
                "control",
                "library",
                "engine_cache",
                "memory_bytes_max",
                "notes",
                "processes_max",
                "cache",
                "cache_key",
                "threads",
                "requests_per_second_max",
                "location",
                "work"
            ],
            "keys that the page does not show"
        );
    }
}
