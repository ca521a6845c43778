//! One plugin call under limits: wasmtime around every line of a stranger's code.
//!
//! [`Sandbox`] is the process's one engine: its pool of instances, the thread that ticks its epochs, its cache of compiled
//! code. [`Sandbox::load`] makes a [`WasmPlugin`] of a component's bytes, after checking what it imports and exports; each
//! request then gets an instance of its own, which ends with the request. Knows nothing of models, of the catalog or of
//! sockets: it meets them in the ports of `sandmill-domain`.

mod bindings;
mod cache;
mod contract;
mod convert;
mod fault;
mod host;
mod instance;
mod limits;
mod lines;
mod load;
mod machine;
mod options;
mod plugin;
mod precompiled;
mod state;
mod stopwatch;
mod ticker;
mod wasi;

pub use cache::CacheError;
pub use load::LoadError;
pub use machine::{Sandbox, SandboxError};
pub use options::{PluginOptions, SandboxOptions};
pub use plugin::WasmPlugin;
