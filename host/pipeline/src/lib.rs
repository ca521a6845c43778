//! The life of one request, in order.
//!
//! [`Pipeline`] is what the edge sees ([`sandmill_domain::ports::Service`]): it resolves tenant → function → [`Release`] (`table`)
//! and admits (`admission`), also against what the tenant may use in all (`account`) and what its model's last runs have shown
//! (`guard`, around the machine of `breaker`), on the function's terms and the caller's (`terms`). A ticket's call then goes one way (`call`),
//! in slices that take turns with other tenants' (`turns`): prepare → check → infer → finish, or it is handled whole by a plugin. What
//! comes back is one outcome. It knows models and plugins by their ports alone: no sockets, no wasmtime, no ONNX Runtime.

mod account;
mod admission;
mod bill;
mod breaker;
mod call;
mod clock;
mod guard;
mod pipeline;
mod release;
mod repository;
mod table;
mod terms;
mod turns;

pub use account::Account;
pub use pipeline::Pipeline;
pub use release::{Plugins, Release, ReleaseParts};
pub use table::Served;
pub use turns::Turns;
