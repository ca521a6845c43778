//! Carries the runtime's log into `tracing`. Knows nothing of who listens.

use ort::logging::LogLevel;
use tracing::Level;

/// Where the runtime's messages are found in the log.
const TARGET: &str = "onnxruntime";
/// A message can quote a tenant's model at any length.
const MESSAGE_BYTES_MAX: usize = 2048;

/// The least severe messages that anybody listens to. Asked once: the runtime formats what nobody reads otherwise.
pub(crate) fn level() -> LogLevel {
    if tracing::enabled!(target: TARGET, Level::TRACE) {
        LogLevel::Verbose
    } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
        LogLevel::Info
    } else {
        LogLevel::Warning
    }
}

/// One step milder than the runtime says: a run that fails is an error to the runtime and to its caller, who is told, but not to
/// the host.
pub(crate) fn forward(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    let message = &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    match level {
        LogLevel::Verbose => tracing::trace!(target: TARGET, location, "{message}"),
        LogLevel::Info => tracing::debug!(target: TARGET, location, "{message}"),
        LogLevel::Warning => tracing::info!(target: TARGET, location, "{message}"),
        LogLevel::Error => tracing::warn!(target: TARGET, location, "{message}"),
        LogLevel::Fatal => tracing::error!(target: TARGET, location, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = format!("a{}", "ä".repeat(MESSAGE_BYTES_MAX));
        forward(LogLevel::Fatal, "", "", "", &message);
    }
}
