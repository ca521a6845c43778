//! What the model bound to the function takes and gives. Read from the host at each call.

pub use crate::bindings::imports::sandmill::plugin::model_info::{Axis, ModelSignature, TensorSpec};

#[cfg(target_family = "wasm")]
use crate::bindings::imports::sandmill::plugin::model_info as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing as host;

/// The names of the function's models; the first is the one that `preprocess` feeds.
pub fn names() -> Vec<String> {
    host::names()
}

/// What the function's first model takes and gives; none if the function has no model.
pub fn signature() -> Option<ModelSignature> {
    host::signature(names().first()?)
}

/// The custom metadata of the first model's file, as pairs of key and value; empty if there is none.
pub fn metadata() -> Vec<(String, String)> {
    names().first().map(|name| host::metadata(name)).unwrap_or_default()
}
