//! The Open Inference Protocol v2 over REST: bytes to domain types and back, and all validation of what comes in.
//!
//! [`decode`] reads a request in any of its three forms (JSON, JSON with binary tensors behind it, one raw tensor) into
//! tensors that fit the model's signature; [`encode`] writes the reply in the form that the caller wants; the rest are
//! the small fixed bodies. Names, datatypes, shapes and sizes are checked before memory is borrowed, and never is more
//! borrowed than a small multiple of the body's length.
//!
//! Nothing here knows sockets, routes, status codes of faults, plugins or how a model runs.

mod binary;
mod decode;
mod document;
mod encode;
mod json;
mod metadata;
mod object;
mod operator;
mod plane;
mod refusal;
mod repository;
mod wish;

pub use decode::{HEADER_LENGTH, InferRequest, Wanted, WantedOutput, decode};
pub use encode::encode;
pub use metadata::{fault_body, live, model_metadata, model_ready, ready, ready_with, server_metadata, unready};
pub use operator::{models, recycling};
pub use plane::{answer_body, new_key, problem_body, roll_back, tenant_terms};
pub use repository::{repository_index, repository_index_wish, repository_load_wish, repository_unload_wish};
pub use wish::{PRIORITY, TIMEOUT_MS, wish};
