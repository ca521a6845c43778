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
//!
//! # Several models
//!
//! A `handler` takes the whole of a request and runs the function's models itself, one after the other or side by side:
//!
//! ```
//! use sandmill_plugin::models::{self, Call};
//! use sandmill_plugin::{Error, Request, Response, Tensor};
//!
//! /// The similarity of two texts, which a blank line parts.
//! fn handle(request: Request) -> Result<Response, Error> {
//!     let body = str::from_utf8(&request.body).map_err(Error::invalid_input)?;
//!     let (left, right) = body.split_once("\n\n").ok_or_else(|| Error::invalid_input("there is no blank line"))?;
//!     let [left, right] = [[Tensor::bytes("text", [1], [left])?], [Tensor::bytes("text", [1], [right])?]];
//!     let encode = |inputs| Call { model: "encoder", inputs };
//!     let mut vectors = Vec::new();
//!     for result in models::infer_many(&[encode(&left), encode(&right)]) {
//!         vectors.extend(result?);
//!     }
//!     let score = Tensor::only(models::infer("similarity", &vectors)?)?;
//!     Response::json(&score.as_f32()?[0])
//! }
//!
//! sandmill_plugin::export!(handler = handle);
//!
//! // Natively a test says what the models answer.
//! use sandmill_plugin::testing::{Host, request};
//!
//! let host = Host::default()
//!     .infer("encoder", |_| Ok(vec![Tensor::f32("vector", [2], [0.5, 0.5]).unwrap()]))
//!     .infer("similarity", |_| Ok(vec![Tensor::f32("score", [1], [1.0]).unwrap()]));
//! let (response, _) = host.run(|| handle(request("a cat\n\na dog")));
//! assert_eq!(response.unwrap().body, b"1.0");
//! ```
//!
//! # Work that is done once
//!
//! Any plugin may have an `init`, which runs when the function is loaded and not per request: every request starts from the
//! memory that it leaves. See [`export!`](export#init).
//!
//! ```
//! use std::collections::HashSet;
//! use std::sync::OnceLock;
//!
//! use sandmill_plugin::{Error, Init, Request, Tensor};
//!
//! static STOP_WORDS: OnceLock<HashSet<String>> = OnceLock::new();
//!
//! /// An error refuses the deployment: here, if `stop-words.txt` is missing or no text.
//! fn init(start: Init) -> Result<(), Error> {
//!     let words = start.asset("stop-words.txt").map_err(Error::internal)?;
//!     let words = str::from_utf8(words).map_err(Error::internal)?;
//!     STOP_WORDS.get_or_init(|| words.lines().map(str::to_owned).collect());
//!     Ok(())
//! }
//!
//! fn preprocess(request: Request) -> Result<Tensor, Error> {
//!     let stop_words = STOP_WORDS.get().ok_or_else(|| Error::internal("init did not run"))?;
//!     let text = str::from_utf8(&request.body).map_err(Error::invalid_input)?;
//!     let words: Vec<_> = text.split_whitespace().filter(|word| !stop_words.contains(*word)).collect();
//!     Tensor::bytes("words", [1, words.len()], words)
//! }
//!
//! sandmill_plugin::export!(init = init, preprocess = preprocess);
//!
//! // Natively a test says what there is to start from.
//! use sandmill_plugin::testing;
//!
//! init(testing::init(&[], &[("stop-words.txt", b"a\nthe")])).unwrap();
//! assert_eq!(preprocess(testing::request("the cat on a mat")).unwrap().shape, [1, 3]);
//! ```

mod bindings;
pub mod config;
mod dtype;
mod error;
mod export;
mod init;
pub mod log;
pub mod model;
pub mod models;
mod prepared;
mod request;
mod response;
mod tensor;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::preprocessor::exports::sandmill::plugin::preprocess::Prepared;
pub use bindings::types::{Dtype, Error, ErrorKind, Header, Request, RequestHead, Response, Tensor};
pub use init::{Asset, Init};
pub use tensor::Element;

#[doc(hidden)]
pub use export::glue;

// Tensors travel as little-endian bytes and are viewed in place.
const _: () = assert!(cfg!(target_endian = "little"), "plugins and their tests need a little-endian machine");
