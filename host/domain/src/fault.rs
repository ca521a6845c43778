//! What can go wrong with a request: a closed list, with who is to blame. The status codes for it live in `edge`.

use std::error::Error;
use std::fmt::{self, Write};
use std::time::Duration;

use thiserror::Error;

/// What went wrong, as the client and the metrics are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is malformed.
    InvalidInput,
    /// No key, or none that is known.
    Unauthorized,
    /// The key does not allow it.
    Forbidden,
    /// Nothing is served there.
    NotFound,
    /// What is there is not what the request rests on.
    Conflict,
    /// The path does not answer this method.
    MethodNotAllowed,
    /// The request took too long to arrive.
    SlowRequest,
    /// The body is larger than the function takes.
    TooLarge,
    /// The plugin does not take this media type.
    UnsupportedMedia,
    /// Well-formed, but the plugin cannot process it.
    Unprocessable,
    /// A part of the protocol that this host does not speak.
    Unsupported,
    /// The caller's own bound is reached.
    TooManyRequests,
    /// The plugin reported a failure of its own, or could not be run.
    PluginFailed,
    /// The plugin trapped.
    PluginTrapped,
    /// The plugin's running time is over.
    PluginTimeout,
    /// The plugin failed after it reached the limit of its memory or its tables.
    PluginOutOfMemory,
    /// What the plugin gave breaks the contract, its limits or the model's signature.
    PluginBadOutput,
    /// The plugin used what it is not granted.
    PluginForbidden,
    /// There is no room to store it.
    StorageFull,
    /// The model's run failed.
    ModelFailed,
    /// There was not the memory for the model's run.
    ModelOutOfMemory,
    /// The model failed so often in a row that it is not asked for a while.
    ModelUnhealthy,
    /// The host itself failed.
    Internal,
    /// The host or the model cannot take more work now.
    Overloaded,
    /// Starting, draining, or not warm yet.
    NotReady,
    /// The deadline passed before the answer was there.
    DeadlineExceeded,
    /// The client went away before the answer was there; nobody sees this code but the metrics and the log.
    Cancelled,
}

impl Code {
    /// The code as the client and the metrics see it: `invalid_input`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::SlowRequest => "slow_request",
            Self::TooLarge => "too_large",
            Self::UnsupportedMedia => "unsupported_media",
            Self::Unprocessable => "unprocessable",
            Self::Unsupported => "unsupported",
            Self::TooManyRequests => "too_many_requests",
            Self::PluginFailed => "plugin_failed",
            Self::PluginTrapped => "plugin_trapped",
            Self::PluginTimeout => "plugin_timeout",
            Self::PluginOutOfMemory => "plugin_out_of_memory",
            Self::PluginBadOutput => "plugin_bad_output",
            Self::PluginForbidden => "plugin_forbidden",
            Self::StorageFull => "storage_full",
            Self::ModelFailed => "model_failed",
            Self::ModelOutOfMemory => "model_out_of_memory",
            Self::ModelUnhealthy => "model_unhealthy",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::NotReady => "not_ready",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
        }
    }

    /// Who is to blame unless the place that found it knows better.
    const fn blame(self) -> Blame {
        match self {
            Self::PluginFailed
            | Self::PluginTrapped
            | Self::PluginTimeout
            | Self::PluginOutOfMemory
            | Self::PluginBadOutput
            | Self::PluginForbidden => Blame::Plugin,
            Self::ModelFailed | Self::ModelOutOfMemory | Self::ModelUnhealthy => Blame::Model,
            Self::StorageFull | Self::Internal | Self::Overloaded | Self::NotReady | Self::DeadlineExceeded => Blame::Host,
            _ => Blame::Caller,
        }
    }
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Whoever sent the request.
    Caller,
    /// The tenant's plugin.
    Plugin,
    /// The model.
    Model,
    /// This host.
    Host,
}

impl Blame {
    /// As the metrics and the log see it: `caller`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Plugin => "plugin",
            Self::Model => "model",
            Self::Host => "host",
        }
    }
}

/// What the client can do about it, beyond reading the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Try again after this long.
    RetryAfter(Duration),
    /// The methods that the path answers.
    Allow(Vec<String>),
}

/// What went wrong with one request: `message` is for the client, the source for the log alone.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Fault {
    /// What.
    pub code: Code,
    /// Whose fault.
    pub blame: Blame,
    /// For the client, in words it can act on: lower case, no full stop.
    pub message: String,
    /// For the client, in headers.
    pub advice: Option<Advice>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault with the blame that goes with its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, blame: code.blame(), message: message.into(), advice: None, source: None }
    }

    /// The same, blamed on another.
    #[must_use]
    pub fn blaming(mut self, blame: Blame) -> Self {
        self.blame = blame;
        self
    }

    /// The same, with what only the log is told.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, with what the client can do about it.
    #[must_use]
    pub fn advising(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }

    /// The message and all its causes in one line of printable text, for the log: much of it comes from strangers, who
    /// would write lines of their own.
    pub fn report(&self) -> impl fmt::Display + '_ {
        Report(self)
    }
}

/// The longest report, in bytes; a guest's backtrace is some 2 KiB.
const REPORT_BYTES_MAX: usize = 8 << 10;

struct Report<'a>(&'a Fault);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line { out: f, room: REPORT_BYTES_MAX };
        line.write_str(&self.0.message)?;
        let mut source = self.0.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = source {
            write!(line, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Passes printable characters on, escapes the others, and stops at a bound.
struct Line<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    room: usize,
}

impl Write for Line<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.room == 0 {
                return Ok(());
            }
            self.room = self.room.saturating_sub(letter.len_utf8());
            if letter.is_control() { write!(self.out, "{}", letter.escape_default())? } else { self.out.write_char(letter)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_sees_what_the_client_does_not() {
        let fault = Fault::new(Code::PluginFailed, "the plugin failed").because("wasm trap: unreachable");
        assert_eq!(fault.to_string(), "the plugin failed");
        assert_eq!(fault.report().to_string(), "the plugin failed: wasm trap: unreachable");
        assert_eq!(fault.blame, Blame::Plugin);
    }

    #[test]
    fn a_stranger_writes_no_lines_of_its_own() {
        let fault = Fault::new(Code::InvalidInput, "tensor `x\n2026 INFO access: \u{1b}[31m`").because("é\r\nforged");
        assert_eq!(fault.report().to_string(), "tensor `x\\n2026 INFO access: \\u{1b}[31m`: é\\r\\nforged");
        let endless = Fault::new(Code::InvalidInput, "x").because("y".repeat(1 << 20));
        assert_eq!(endless.report().to_string().len(), REPORT_BYTES_MAX);
    }
}
