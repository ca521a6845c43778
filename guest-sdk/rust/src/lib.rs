//! What the author of a Sandmill plugin writes against: plain functions, plain types and one macro that exports them.
//! It knows the plugin contract and nothing of the host behind it; everything here also runs natively, in tests.
//!
//! A whole plugin, for a model that takes `x` and gives `score`:
//!
//! ```
//! use sandmill_plugin::{Error, Request, RequestHead, Response, Tensor};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     values: Vec<f32>,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     score: f32,
//! }
//!
//! fn preprocess(request: Request) -> Result<Tensor, Error> {
//!     let input: Input = request.json()?;
//!     Tensor::f32("x", [1, 64], input.values)
//! }
//!
//! fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
//!     Response::json(&Output { score: Tensor::find(&outputs, "score")?.as_f32()?[0] })
//! }
//!
//! sandmill_plugin::export!(preprocess = preprocess, postprocess = postprocess);
//! ```
//!
//! The crate is a `cdylib`; `sandmill build DIR` turns it into a component.

#[cfg(all(feature = "allocator", target_arch = "wasm32"))]
mod allocator;
mod bindings;
pub mod config;
mod dtype;
mod error;
mod export;
pub mod log;
pub mod model;
mod prepared;
mod request;
mod response;
mod tensor;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::preprocessor::exports::sandmill::plugin::preprocess::Prepared;
pub use bindings::types::{Dtype, Error, ErrorKind, Header, Request, RequestHead, Response, Tensor};
pub use tensor::Element;

#[doc(hidden)]
pub use export::glue;

// Tensors travel as little-endian bytes and are viewed in place.
const _: () = assert!(cfg!(target_endian = "little"), "plugins and their tests need a little-endian machine");
