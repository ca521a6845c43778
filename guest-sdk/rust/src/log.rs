//! Lines for the plugin's log. Each takes whatever can be displayed: a text, or `format_args!("{n} pixels")`.

use std::fmt::Display;

pub use crate::bindings::imports::sandmill::plugin::log::Level;

#[cfg(target_family = "wasm")]
use crate::bindings::imports::sandmill::plugin::log as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing as host;

/// Writes a line at `level`.
pub fn log(level: Level, message: impl Display) {
    host::log(level, &message.to_string());
}

/// Writes a line at level trace.
pub fn trace(message: impl Display) {
    log(Level::Trace, message);
}

/// Writes a line at level debug.
pub fn debug(message: impl Display) {
    log(Level::Debug, message);
}

/// Writes a line at level info.
pub fn info(message: impl Display) {
    log(Level::Info, message);
}

/// Writes a line at level warn.
pub fn warn(message: impl Display) {
    log(Level::Warn, message);
}

/// Writes a line at level error.
pub fn error(message: impl Display) {
    log(Level::Error, message);
}
