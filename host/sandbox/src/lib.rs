//! One plugin call under limits: wasmtime around every line of a stranger's code.
//!
//! [`Sandbox`] is the process's one engine: its pool of instances, the thread that ticks its epochs, its cache of compiled
//! code. [`Sandbox::load`] makes a [`WasmPlugin`] of a component's bytes: in quarantine (`compile`) its `init` runs once, the
//! memory that it leaves becomes part of the component (`snapshot`), and that is compiled. Each request then gets an instance
//! of its own (`instance`), which starts from that memory and ends with the request. Knows nothing of ONNX Runtime, of the
//! catalog or of servers: it meets them in the ports of `sandmill-domain`.

mod asset_files;
mod bindings;
mod cache;
mod compile;
mod contract;
mod convert;
mod fault;
mod granted;
mod host;
mod inspect;
mod instance;
mod job;
mod limits;
mod lines;
mod load;
mod machine;
mod models;
mod options;
mod outgoing;
mod plugin;
mod precompiled;
mod resting;
mod reuse;
mod scan;
mod seal_key;
mod sealed_file;
mod snapshot;
mod state;
mod stopwatch;
mod ticker;
mod wasi;

pub use cache::CacheError;
pub use compile::serve_quarantine;
pub use inspect::{Inspection, Started};
pub use job::{Made, Names, Refusal, Snapshot};
pub use load::{LoadError, Loaded};
pub use machine::{Sandbox, SandboxError};
pub use options::{CacheOptions, CompileOptions, PluginOptions, SandboxOptions};
pub use plugin::WasmPlugin;
pub use seal_key::SealKeyError;
