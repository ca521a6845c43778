//! The function's own settings: the `[config]` table of its `function.toml`. Read from the host at each call.

#[cfg(target_family = "wasm")]
use crate::bindings::imports::sandmill::plugin::config as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing as host;

/// The value of one setting; none if it is not set.
pub fn get(key: &str) -> Option<String> {
    host::get(key)
}

/// All settings, as pairs of key and value.
pub fn all() -> Vec<(String, String)> {
    host::all()
}
