//! From what wasmtime reports to a fault: what the client is told, and what only the log. No other file decides that.

use std::fmt::Write;
use std::time::Duration;

use sandmill_domain::{Blame, Code, Fault};
use thiserror::Error;
use wasmtime::{Trap, WasmBacktrace};

use crate::limits::Refused;
use crate::lines::printable;
use crate::state::State;

/// What is told of the name of a guest's function.
const NAME_BYTES_MAX: usize = 200;

/// The guest was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Halt {
    #[error("the plugin ran longer than its {0} of {1:?}")]
    PluginTime(&'static str, Duration),
    #[error("the request's deadline passed while the plugin ran")]
    Deadline,
    #[error("the plugin called the host more often than its plugin_host_calls_max of {0}")]
    HostCalls(usize),
    #[error("the plugin's models gave it more than its plugin_output_bytes_max of {0} in one call")]
    ModelOutputs(usize),
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
    #[error("the plugin used {0} in its init, where it does not answer")]
    InInit(&'static str),
    #[error("the plugin called {0}")]
    Exit(&'static str),
}

/// The fault for a guest that could not be instantiated: what is none of its own doing is the host's.
pub(crate) fn from_start(error: wasmtime::Error, state: &State) -> Fault {
    let guests = error.is::<Trap>() || error.is::<Halt>() || error.is::<Forbidden>() || state.growth.refused().is_some();
    if guests { from_error(&error, state) } else { Fault::new(Code::Internal, "no plugin instance could be made").because(error) }
}

/// The fault for a guest that could not be called.
pub(crate) fn from_error(error: &wasmtime::Error, state: &State) -> Fault {
    let (code, message) = describe(error, state);
    Fault::new(code, message).blaming(Blame::Plugin).because(trace(error))
}

/// What only the log is told. Not in wasmtime's own words: they would demangle the names of the guest's functions, and one of
/// 300 bytes can stand for more text than there is memory.
pub(crate) fn trace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return format!("{error:#}") };
    let mut text = format!("{}, wasm backtrace:", error.root_cause());
    for frame in backtrace.frames() {
        let offset = frame.module_offset().unwrap_or(0);
        let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), readable);
        let _infallible = write!(text, " {offset:#x} {name};");
    }
    text
}

/// A function's name as its author wrote it, if it is Rust's; cut, however much it stands for.
fn readable(name: &str) -> String {
    let Ok(demangled) = rustc_demangle::try_demangle(name) else { return printable(name, NAME_BYTES_MAX) };
    let mut cut = Cut(String::new());
    // An error says that there was more.
    let _cut = write!(cut, "{demangled:#}");
    printable(&cut.0, NAME_BYTES_MAX)
}

/// Takes text up to a length, and then no more: so nobody goes on to make it.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.push_str(&text[..text.floor_char_boundary(NAME_BYTES_MAX)]);
        if self.0.len() > NAME_BYTES_MAX { Err(std::fmt::Error) } else { Ok(()) }
    }
}

/// What happened, in words that hold nothing of a stranger's.
pub(crate) fn describe(error: &wasmtime::Error, state: &State) -> (Code, String) {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        let code = match halt {
            Halt::PluginTime(..) => Code::PluginTimeout,
            Halt::Deadline => Code::DeadlineExceeded,
            Halt::HostCalls(_) | Halt::ModelInputs { .. } | Halt::ModelOutputs(_) => Code::PluginBadOutput,
        };
        return (code, halt.to_string());
    }
    if let Some(forbidden) = error.downcast_ref::<Forbidden>() {
        let code = match forbidden {
            Forbidden::NotGranted(_) | Forbidden::InInit(_) => Code::PluginForbidden,
            Forbidden::Exit(_) => Code::PluginTrapped,
        };
        return (code, forbidden.to_string());
    }
    let limits = &state.facts.limits;
    match state.growth.refused() {
        Some(Refused::Memory) => {
            let message =
                format!("the plugin failed after it reached its plugin_memory_bytes_max of {}", limits.memory_bytes_max);
            return (Code::PluginOutOfMemory, message);
        }
        Some(Refused::Table) => {
            let message =
                format!("the plugin failed after it reached its plugin_table_elements_max of {}", limits.table_elements_max);
            return (Code::PluginOutOfMemory, message);
        }
        None => {}
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        return (Code::PluginTrapped, format!("the plugin trapped: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text)));
    }
    let bytes_max = limits.output_bytes_max;
    let message =
        format!("the plugin broke its contract with the host, or gave more than its plugin_output_bytes_max of {bytes_max}");
    (Code::PluginBadOutput, message)
}
