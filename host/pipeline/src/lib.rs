//! The life of one request, in order.
//!
//! [`Pipeline`] is what the edge sees ([`sandmill_domain::ports::Service`]): it resolves tenant → function → [`Release`]
//! and admits (`admission`). A ticket's call then goes one way (`call`): prepare → check → infer → finish. What comes back
//! is one outcome. It knows models and plugins by their ports alone: no sockets, no wasmtime, no ONNX Runtime.

mod admission;
mod call;
mod pipeline;
mod release;

pub use pipeline::Pipeline;
pub use release::{Plugins, Release, ReleaseParts};
