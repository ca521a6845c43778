//! Where log lines go: standard error, as text for people or JSON for machines. Everything else just uses `tracing`.
//!
//! A thread of its own writes them: a pipe that nobody reads must not hold up requests. Lines beyond its queue are dropped.

use thiserror::Error;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Lines that wait to be written.
const LINES_MAX: usize = 16_384;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The log cannot be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is none.
    #[error("`{filter}` is no log filter: {source}; try `info` or `info,access=warn`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// A log was started before.
    #[error("the log is started already")]
    Started,
}

/// Dropping it writes what still waits.
#[must_use = "lines that wait are lost without it"]
#[derive(Debug)]
pub struct Logs(#[expect(dead_code, reason = "kept for its drop")] WorkerGuard);

/// Sends everything at or above `filter` (`info`, or `info,access=warn` for no access lines) to standard error.
///
/// # Errors
/// If the filter does not parse or a log was started before.
pub fn start_logs(filter: &str, format: LogFormat) -> Result<Logs, LogError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("log").finish(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(writer).with_ansi(false);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map(|()| Logs(guard)).map_err(|_already| LogError::Started)
}
