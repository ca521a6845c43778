//! `[limits]`, `[breaker]` and `[instances]`. What the host gives at most is not known here.

use sandmill_domain::{BreakerLimits, FunctionLimits, InstanceBudget, InstancePolicy, PluginLimits};
use serde::Deserialize;

use crate::document::{Document, Problem};
use crate::quantity::{ByteSize, Count};

/// Up to an hour.
type Millis = Count<1, 3_600_000>;
type BodySize = ByteSize<1, { 1 << 30 }>;
/// From one page of WebAssembly to all that 32 bits address.
type MemorySize = ByteSize<{ 64 << 10 }, { 4 << 30 }>;
/// What can lie in such a memory.
type DataSize = ByteSize<1, { 4 << 30 }>;

/// `[limits]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsTable {
    timeout_ms: Option<Millis>,
    body_bytes_max: Option<BodySize>,
    concurrency_max: Option<Count<1, 65_536>>,
    plugin_time_ms: Option<Millis>,
    plugin_memory_bytes_max: Option<MemorySize>,
    plugin_table_elements_max: Option<Count<1, 10_000_000>>,
    plugin_tensors_max: Option<Count<1, 65_536>>,
    plugin_tensor_bytes_max: Option<DataSize>,
    plugin_output_bytes_max: Option<DataSize>,
    plugin_header_bytes_max: Option<ByteSize<1, { 1 << 20 }>>,
    plugin_log_lines_max: Option<Count<0, 1_000_000>>,
    plugin_log_bytes_max: Option<ByteSize<0, { 1 << 30 }>>,
    plugin_host_calls_max: Option<Count<1, 1_000_000_000>>,
    plugin_init_time_ms: Option<Millis>,
    plugin_snapshot_bytes_max: Option<DataSize>,
}

impl LimitsTable {
    /// The function's bounds; what a plugin has where the table does not say is the host's to choose.
    pub(crate) fn limits(&self, plugin: &PluginLimits, breaker: &BreakerTable) -> FunctionLimits {
        let default = FunctionLimits::default();
        FunctionLimits {
            timeout: self.timeout_ms.map_or(default.timeout, Count::as_millis),
            body_bytes_max: self.body_bytes_max.map_or(default.body_bytes_max, ByteSize::get),
            concurrency_max: self.concurrency_max.map_or(default.concurrency_max, Count::get),
            plugin: self.plugin_limits(plugin),
            breaker: breaker.limits(),
        }
    }

    fn plugin_limits(&self, default: &PluginLimits) -> PluginLimits {
        let table = self;
        PluginLimits {
            time: table.plugin_time_ms.map_or(default.time, Count::as_millis),
            memory_bytes_max: table.plugin_memory_bytes_max.map_or(default.memory_bytes_max, ByteSize::get),
            table_elements_max: table.plugin_table_elements_max.map_or(default.table_elements_max, Count::get),
            tensors_max: table.plugin_tensors_max.map_or(default.tensors_max, Count::get),
            tensor_bytes_max: table.plugin_tensor_bytes_max.map_or(default.tensor_bytes_max, ByteSize::get),
            output_bytes_max: table.plugin_output_bytes_max.map_or(default.output_bytes_max, ByteSize::get),
            header_bytes_max: table.plugin_header_bytes_max.map_or(default.header_bytes_max, ByteSize::get),
            log_lines_max: table.plugin_log_lines_max.map_or(default.log_lines_max, Count::get),
            log_bytes_max: table.plugin_log_bytes_max.map_or(default.log_bytes_max, ByteSize::get),
            host_calls_max: table.plugin_host_calls_max.map_or(default.host_calls_max, Count::get),
            init_time: table.plugin_init_time_ms.map_or(default.init_time, Count::as_millis),
            snapshot_bytes_max: table.plugin_snapshot_bytes_max.map_or(default.snapshot_bytes_max, ByteSize::get),
        }
    }
}

/// `[breaker]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BreakerTable {
    failures_max: Option<Count<1, 1_000_000>>,
    open_ms: Option<Millis>,
}

impl BreakerTable {
    fn limits(&self) -> BreakerLimits {
        let default = BreakerLimits::default();
        BreakerLimits {
            failures_max: self.failures_max.map_or(default.failures_max, Count::get),
            open_time: self.open_ms.map_or(default.open_time, Count::as_millis),
        }
    }
}

/// `[instances]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstancesTable {
    policy: Option<PolicyName>,
    requests_max: Option<Count<1, 1_000_000_000>>,
    /// Up to a year.
    seconds_max: Option<Count<1, 31_536_000>>,
    jitter_percent: Option<Count<0, 50>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PolicyName {
    #[default]
    Fresh,
    Reuse,
}

impl InstancesTable {
    /// What it says, read with [`InstancesTable::check`].
    pub(crate) fn policy(&self) -> InstancePolicy {
        let default = InstanceBudget::default();
        match self.policy.unwrap_or_default() {
            PolicyName::Fresh => InstancePolicy::Fresh,
            PolicyName::Reuse => InstancePolicy::Reuse(InstanceBudget {
                requests_max: self.requests_max.map_or(default.requests_max, Count::get),
                age_max: self.seconds_max.map_or(default.age_max, Count::as_secs),
                jitter_percent: self.jitter_percent.map_or(default.jitter_percent, Count::get),
            }),
        }
    }

    /// An instance that ends with its request has no budget.
    pub(crate) fn check(&self, document: &Document<'_>) -> Vec<Problem> {
        let refused = self.policy.is_none() && document.contains(&["instances", "policy"]);
        if refused || self.policy == Some(PolicyName::Reuse) {
            return Vec::new();
        }
        let keys = ["requests_max", "seconds_max", "jitter_percent"].map(|key| ["instances", key]);
        let written = keys.iter().filter(|key| document.contains(&key[..]));
        written.map(|key| document.problem(key, "only instances of `policy = \"reuse\"` have a budget")).collect()
    }
}
