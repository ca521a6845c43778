//! What the sandbox is told: the host's bounds once, and each plugin's own. Every bound has a default or is asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandmill_domain::{FunctionLimits, ModelInfo};

/// The host's bounds, the same for all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxOptions {
    /// Plugin instances alive at once, those that wait for a model included; 1 to 4096. Each reserves 8 GiB of address
    /// space, which costs no memory until it is used.
    pub instances_max: u32,
    /// The most linear memory that any plugin may be given, in bytes; at most 4 GiB.
    pub memory_bytes_max: usize,
    /// The largest component that is compiled, in bytes.
    pub component_bytes_max: usize,
    /// The stack of one call into a plugin, in bytes; from 64 KiB to 1 MiB.
    pub stack_bytes_max: usize,
    /// How often a running plugin is interrupted to let others run and to look at the time; from 100 µs to 1 s.
    ///
    /// A thread wakes up so often while any instance is alive, for a few µs: at 1 ms, half a percent of a core. It sleeps
    /// when there has been none for a thousand ticks.
    pub tick: Duration,
    /// Where compiled components are kept, or none for not at all. The folder is made, private to this user; one that
    /// others can enter is refused, since what lies in it is run as native code.
    pub cache: Option<PathBuf>,
    /// What the cache may hold, in bytes; the oldest files are deleted beyond it.
    pub cache_bytes_max: u64,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            instances_max: 1024,
            memory_bytes_max: 256 << 20,
            component_bytes_max: 64 << 20,
            stack_bytes_max: 512 << 10,
            tick: Duration::from_millis(1),
            cache: None,
            cache_bytes_max: 1 << 30,
        }
    }
}

/// One plugin's name, settings and bounds.
#[derive(Clone, Debug)]
pub struct PluginOptions {
    /// What its log lines carry: the function's name.
    pub name: String,
    /// What the plugin's `config` import gives.
    pub config: Vec<(String, String)>,
    /// What the plugin's `model-info` import gives; none for a function without a model.
    pub model: Option<Arc<ModelInfo>>,
    /// The running time of its code in one request, start, pre- and postprocessing together.
    pub plugin_time: Duration,
    /// The linear memory of one instance, in bytes.
    pub memory_bytes_max: usize,
    /// A response's body, or the tensors of one call in all, in bytes.
    pub output_bytes_max: usize,
}

impl PluginOptions {
    /// A plugin without settings or model, within a function's limits.
    pub fn new(name: impl Into<String>, limits: &FunctionLimits) -> Self {
        Self {
            name: name.into(),
            config: Vec::new(),
            model: None,
            plugin_time: limits.plugin_time,
            memory_bytes_max: limits.plugin_memory_bytes_max,
            output_bytes_max: limits.plugin_output_bytes_max,
        }
    }
}
