//! From what wasmtime reports to a fault: what the client is told, and what only the log. No other file decides that.

use std::time::Duration;

use sandmill_domain::{Blame, Code, Fault};
use thiserror::Error;
use wasmtime::Trap;

use crate::limits::Refused;
use crate::state::State;

/// The guest was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Halt {
    #[error("the plugin ran longer than its plugin_time of {0:?}")]
    PluginTime(Duration),
    #[error("the request's deadline passed while the plugin ran")]
    Deadline,
    #[error("the plugin called the host more often than its plugin_host_calls_max of {0}")]
    HostCalls(usize),
    #[error("the plugin gave models more than its {name} of {max}")]
    ModelInputs {
        /// The limit, as in `function.toml`.
        name: &'static str,
        /// Its value.
        max: usize,
    },
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
    let (code, message) = describe(&error, state);
    Fault::new(code, message).blaming(Blame::Plugin).because(error)
}

/// What happened, in words that hold nothing of a stranger's.
pub(crate) fn describe(error: &wasmtime::Error, state: &State) -> (Code, String) {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        let code = match halt {
            Halt::PluginTime(_) => Code::PluginTimeout,
            Halt::Deadline => Code::DeadlineExceeded,
            Halt::HostCalls(_) | Halt::ModelInputs { .. } => Code::PluginBadOutput,
        };
        return (code, halt.to_string());
    }
    if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
        let code = match forbidden {
            Forbidden::NotGranted(_) => Code::PluginForbidden,
            Forbidden::Exit(_) => Code::PluginTrapped,
        };
        return (code, forbidden.to_string());
    }
    let limits = &state.facts.limits;
    match state.growth.refused() {
        Some(Refused::Memory) => {
            let message = format!("the plugin failed after it reached its memory limit of {} bytes", limits.memory_bytes_max);
            return (Code::PluginOutOfMemory, message);
        }
        Some(Refused::Table) => {
            let message = format!("the plugin failed after it reached its limit of {} table elements", limits.table_elements_max);
            return (Code::PluginOutOfMemory, message);
        }
        None => {}
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        return (Code::PluginTrapped, format!("the plugin trapped: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text)));
    }
    let bytes_max = limits.output_bytes_max;
    let message = format!("the plugin broke its contract with the host, or gave more than its output limit of {bytes_max} bytes");
    (Code::PluginBadOutput, message)
}
