//! From what wasmtime reports to a fault: what the client is told, and what only the log. No other file decides that.

use std::time::Duration;

use sandmill_domain::{Blame, Code, Fault};
use thiserror::Error;
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::state::State;

/// The guest was stopped at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Halt {
    #[error("the plugin ran longer than its plugin_time of {0:?}")]
    PluginTime(Duration),
    #[error("the request's deadline passed while the plugin ran")]
    Deadline,
}

/// The guest called what it may import but not call; each holds the full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Forbidden {
    #[error("the plugin used {0}, which it is not granted")]
    NotGranted(&'static str),
    #[error("the plugin called {0}")]
    Exit(&'static str),
}

/// The fault for a guest that could not be instantiated or called.
pub(crate) fn from_error(error: wasmtime::Error, state: &State) -> Fault {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        return Fault::new(Code::DeadlineExceeded, halt.to_string()).blaming(Blame::Plugin).because(error);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Fault::new(Code::Overloaded, "no plugin instance is free").because(error);
    }
    Fault::new(Code::PluginFailed, describe(&error, state)).because(error)
}

fn describe(error: &wasmtime::Error, state: &State) -> String {
    if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
        return forbidden.to_string();
    }
    if state.memory.refused {
        return format!("the plugin failed after it reached its memory limit of {} bytes", state.facts.memory_bytes_max);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        return format!("the plugin trapped: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text));
    }
    let bytes_max = state.facts.output_bytes_max;
    format!("the plugin broke its contract with the host, or gave more than its output limit of {bytes_max} bytes")
}
