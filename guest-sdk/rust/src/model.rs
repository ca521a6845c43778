//! What the models bound to the function take and give. Read from the host at each call; runs nothing.

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
    signature_of(names().first()?)
}

/// What the model of this name takes and gives; none if the function has no such model.
pub fn signature_of(name: &str) -> Option<ModelSignature> {
    host::signature(name)
}

/// The custom metadata of the first model's file, as pairs of key and value; empty if there is none.
pub fn metadata() -> Vec<(String, String)> {
    names().first().map(|name| metadata_of(name)).unwrap_or_default()
}

/// The custom metadata of this model's file, as pairs of key and value; empty if there is none, or no such model.
pub fn metadata_of(name: &str) -> Vec<(String, String)> {
    host::metadata(name)
}
