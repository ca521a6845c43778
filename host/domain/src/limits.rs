//! What one function, and one tenant, may use. Each limit has a default; whoever enforces it names the field in the refusal.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::BreakerLimits;

/// The bounds of one function's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLimits {
    /// From the request's head to its answer.
    pub timeout: Duration,
    /// The request's body, in bytes.
    pub body_bytes_max: usize,
    /// Requests under way at once.
    pub concurrency_max: usize,
    /// What its plugins may use.
    pub plugin: PluginLimits,
    /// When its model is not asked for a while.
    pub breaker: BreakerLimits,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            body_bytes_max: 16 << 20,
            concurrency_max: 256,
            plugin: PluginLimits::default(),
            breaker: BreakerLimits::default(),
        }
    }
}

/// What a plugin may use in one request; of a host, the most that any function may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLimits {
    /// The running time of its code, start, pre- and postprocessing together; time in the host's functions does not count.
    pub time: Duration,
    /// Its linear memories together, in bytes.
    pub memory_bytes_max: usize,
    /// The elements of its tables together.
    pub table_elements_max: usize,
    /// The tensors that it gives in one call.
    pub tensors_max: usize,
    /// One tensor that it gives, in bytes.
    pub tensor_bytes_max: usize,
    /// A response's body, or the tensors of one call in all, in bytes.
    pub output_bytes_max: usize,
    /// The names and values of a response's headers, in bytes.
    pub header_bytes_max: usize,
    /// Lines of its log.
    pub log_lines_max: usize,
    /// Bytes of its log.
    pub log_bytes_max: usize,
    /// Calls of the host's functions, among them those by which a memory or a table grows.
    pub host_calls_max: usize,
    /// The running time of its `init`, which runs once, when the function is loaded.
    pub init_time: Duration,
    /// The component with the memory that `init` left, in bytes.
    pub snapshot_bytes_max: usize,
}

impl PluginLimits {
    /// The most that a host gives unless it is configured otherwise.
    pub fn host_default() -> Self {
        Self {
            time: Duration::from_secs(60),
            memory_bytes_max: 256 << 20,
            table_elements_max: 65_536,
            tensors_max: 1024,
            tensor_bytes_max: 128 << 20,
            output_bytes_max: 128 << 20,
            header_bytes_max: 256 << 10,
            log_lines_max: 10_000,
            log_bytes_max: 8 << 20,
            host_calls_max: 10_000_000,
            init_time: Duration::from_secs(60),
            snapshot_bytes_max: 256 << 20,
        }
    }

    /// The smaller of each: what a plugin has by default on a host that gives less than the default.
    #[must_use]
    pub fn within(&self, max: &Self) -> Self {
        Self {
            time: self.time.min(max.time),
            memory_bytes_max: self.memory_bytes_max.min(max.memory_bytes_max),
            table_elements_max: self.table_elements_max.min(max.table_elements_max),
            tensors_max: self.tensors_max.min(max.tensors_max),
            tensor_bytes_max: self.tensor_bytes_max.min(max.tensor_bytes_max),
            output_bytes_max: self.output_bytes_max.min(max.output_bytes_max),
            header_bytes_max: self.header_bytes_max.min(max.header_bytes_max),
            log_lines_max: self.log_lines_max.min(max.log_lines_max),
            log_bytes_max: self.log_bytes_max.min(max.log_bytes_max),
            host_calls_max: self.host_calls_max.min(max.host_calls_max),
            init_time: self.init_time.min(max.init_time),
            snapshot_bytes_max: self.snapshot_bytes_max.min(max.snapshot_bytes_max),
        }
    }

    /// Every count that is larger here than in `max`: its key in `function.toml`, what is asked for, what there is at most;
    /// times in milliseconds.
    pub fn beyond(&self, max: &Self) -> Vec<(&'static str, usize, usize)> {
        let millis = |time: Duration| usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
        [
            ("plugin_time_ms", millis(self.time), millis(max.time)),
            ("plugin_memory_bytes_max", self.memory_bytes_max, max.memory_bytes_max),
            ("plugin_table_elements_max", self.table_elements_max, max.table_elements_max),
            ("plugin_tensors_max", self.tensors_max, max.tensors_max),
            ("plugin_tensor_bytes_max", self.tensor_bytes_max, max.tensor_bytes_max),
            ("plugin_output_bytes_max", self.output_bytes_max, max.output_bytes_max),
            ("plugin_header_bytes_max", self.header_bytes_max, max.header_bytes_max),
            ("plugin_log_lines_max", self.log_lines_max, max.log_lines_max),
            ("plugin_log_bytes_max", self.log_bytes_max, max.log_bytes_max),
            ("plugin_host_calls_max", self.host_calls_max, max.host_calls_max),
            ("plugin_init_time_ms", millis(self.init_time), millis(max.init_time)),
            ("plugin_snapshot_bytes_max", self.snapshot_bytes_max, max.snapshot_bytes_max),
        ]
        .into_iter()
        .filter(|(_, asked, most)| asked > most)
        .collect()
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(1),
            memory_bytes_max: 64 << 20,
            table_elements_max: 20_000,
            tensors_max: 64,
            tensor_bytes_max: 64 << 20,
            output_bytes_max: 64 << 20,
            header_bytes_max: 32 << 10,
            log_lines_max: 100,
            log_bytes_max: 256 << 10,
            host_calls_max: 100_000,
            init_time: Duration::from_secs(10),
            snapshot_bytes_max: 64 << 20,
        }
    }
}

/// Whether a plugin's instance ends with its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstancePolicy {
    /// It does: nothing that a request leaves behind reaches another.
    #[default]
    Fresh,
    /// It serves further requests of its function until its budget is used up, or it fails.
    Reuse(InstanceBudget),
}

/// How long one instance is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceBudget {
    /// Requests that it serves.
    pub requests_max: usize,
    /// Its age.
    pub age_max: Duration,
    /// By how much both are cut at random for each instance, in percent, so that they do not all end at once.
    pub jitter_percent: usize,
}

impl Default for InstanceBudget {
    fn default() -> Self {
        Self { requests_max: 1000, age_max: Duration::from_secs(3600), jitter_percent: 10 }
    }
}

/// What all functions of one tenant may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Requests begun per second; a second's worth may begin at once.
    pub requests_per_second_max: Option<NonZeroU32>,
    /// Requests under way at once.
    pub concurrency_max: usize,
    /// Plugin instances alive at once, those that wait for a model included.
    pub instances_max: usize,
    /// The memory limits of those instances together, in bytes.
    pub guest_memory_bytes_max: usize,
    /// All bodies that are held, of requests and of answers, in bytes.
    pub buffered_bytes_max: usize,
}

impl TenantLimits {
    /// No bounds.
    pub const UNLIMITED: Self = Self {
        requests_per_second_max: None,
        concurrency_max: usize::MAX,
        instances_max: usize::MAX,
        guest_memory_bytes_max: usize::MAX,
        buffered_bytes_max: usize::MAX,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_the_hosts() {
        assert_eq!(PluginLimits::default().beyond(&PluginLimits::host_default()), []);
    }

    #[test]
    fn every_limit_that_is_too_large_is_named() {
        let least = PluginLimits {
            time: Duration::ZERO,
            memory_bytes_max: 0,
            table_elements_max: 0,
            tensors_max: 0,
            tensor_bytes_max: 0,
            output_bytes_max: 0,
            header_bytes_max: 0,
            log_lines_max: 0,
            log_bytes_max: 0,
            host_calls_max: 0,
            init_time: Duration::ZERO,
            snapshot_bytes_max: 0,
        };
        assert_eq!(PluginLimits::default().within(&least), least);
        assert_eq!(least.within(&PluginLimits::default()), least);
        let named = PluginLimits::default().beyond(&least);
        assert_eq!(named.len(), 12);
        assert!(named.contains(&("plugin_time_ms", 1000, 0)), "{named:?}");
    }
}
