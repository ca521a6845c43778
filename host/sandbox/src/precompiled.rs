//! From a component's bytes to native code: compiled, or as it was compiled before. The one place that trusts such code.
#![allow(unsafe_code, reason = "restoring native code is unsafe: see `restore`")]

use std::hash::{DefaultHasher, Hash, Hasher};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::{Cache, Key, Trusted};

/// The compiled component, from the cache if it has it. What the cache cannot give or keep is a line in the log.
///
/// # Errors
/// What the compiler finds wrong with the component.
pub(crate) fn restore_or_compile(engine: &Engine, bytes: &[u8], cache: Option<&Cache>) -> wasmtime::Result<Component> {
    let Some(cache) = cache else { return Component::from_binary(engine, bytes) };
    let key = Key::new(bytes, settings(engine));
    if let Some(component) = cache.read(&key).and_then(|code| restore(engine, &code)) {
        return Ok(component);
    }
    let component = Component::from_binary(engine, bytes)?;
    cache.write(&key, &component.serialize()?);
    Ok(component)
}

/// Differs for engines whose compiled code differs: wasmtime's exact version, the processor, the settings.
fn settings(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn restore(engine: &Engine, code: &Trusted) -> Option<Component> {
    // SAFETY: code that was not made by `Component::serialize` could do anything. A `Trusted` is made by the cache alone,
    // of bytes that it has read from a folder which only this user can write to, and whose digest, in memory, is the one
    // that was written beside them for the same component, wasmtime version and settings. What is verified is what is
    // used: these bytes, and not the file, which another process of this user might replace.
    let restored = unsafe { Component::deserialize(engine, code.bytes()) };
    restored.inspect_err(|error| tracing::warn!("compiled code from the cache is not usable, compiling anew: {error:#}")).ok()
}
