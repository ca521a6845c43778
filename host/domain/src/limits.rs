//! What one function may use. Each limit has a default; whoever enforces it names the field in the refusal.

use std::time::Duration;

/// The bounds of one function's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLimits {
    /// From the request's head to its answer.
    pub timeout: Duration,
    /// The request's body, in bytes.
    pub body_bytes_max: usize,
    /// Requests under way at once.
    pub concurrency_max: usize,
    /// The running time of the plugin's code in one request, pre- and postprocessing together.
    pub plugin_time: Duration,
    /// The linear memory of one plugin instance, in bytes.
    pub plugin_memory_bytes_max: usize,
    /// The body of a plugin's response, or its tensors in all, in bytes.
    pub plugin_output_bytes_max: usize,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            body_bytes_max: 16 << 20,
            concurrency_max: 256,
            plugin_time: Duration::from_secs(1),
            plugin_memory_bytes_max: 64 << 20,
            plugin_output_bytes_max: 64 << 20,
        }
    }
}
