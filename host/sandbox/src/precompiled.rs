//! From native code that this host has made to a component. The one place that trusts such code.
#![allow(unsafe_code, reason = "restoring native code is unsafe: see the two functions")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsRawFd;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::Trusted;

/// Differs for engines whose compiled code differs: wasmtime's exact version, the processor, the settings.
pub(crate) fn settings(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// The component of a file of the cache, mapped and not copied: its pages are shared with the page cache, and count only once
/// they are touched.
///
/// # Errors
/// If it is of another wasmtime, of other settings or another processor.
pub(crate) fn map(engine: &Engine, trusted: &Trusted) -> wasmtime::Result<Component> {
    // The file that is open, and not the one that goes by its name by now.
    let path = format!("/proc/self/fd/{}", trusted.file().as_raw_fd());
    // SAFETY: code that was not made by `Engine::precompile_component` could do anything. A `Trusted` is made by the cache
    // alone, of a file in a folder that only this user can write to, whose seal, under a key that only this user can read,
    // was right when this very file was read through to its end. Files of the cache are never changed in place.
    unsafe { Component::deserialize_file(engine, path) }
}

/// The component of code that this host's own quarantine has just answered with.
///
/// # Errors
/// As [`map`].
pub(crate) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: as above; these bytes came over a socket that only our own child, of this same binary, had the other end of. It
    // was fed a stranger's component, but runs nothing of it natively except under wasmtime, as we would.
    unsafe { Component::deserialize(engine, code) }
}
