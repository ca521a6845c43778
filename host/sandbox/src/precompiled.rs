//! From native code that this host has made to a component. The one place that trusts such code.
#![allow(unsafe_code, reason = "restoring native code is unsafe, and so is unmapping it: see each place")]

use std::hash::{Hash, Hasher};
use std::os::fd::AsRawFd;

use rustix::mm::Advice;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::Trusted;

/// Differs for engines whose compiled code differs: wasmtime's exact version, the processor, the settings; and for versions of
/// ours, whose imports a snapshot was taken with.
pub(crate) fn settings(engine: &Engine) -> [u8; 32] {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.chain_update(env!("CARGO_PKG_VERSION")).finalize().into()
}

/// Takes in all that is hashed; a hasher of the standard library's would keep 64 bits of it.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

/// A component and where its code lies.
pub(crate) enum Code {
    /// In a file of the cache: its pages are shared with the page cache, and count only once they are touched.
    Mapped(Component),
    /// In memory of the process's own.
    Copied(Component),
}

impl Code {
    /// What can be instantiated.
    pub(crate) fn component(&self) -> &Component {
        let (Self::Mapped(component) | Self::Copied(component)) = self;
        component
    }

    /// Unmaps what was touched of a file: what is needed again comes back from the page cache, by page faults. May be called at
    /// any time, also while the code runs.
    pub(crate) fn release(&self) {
        let Self::Mapped(component) = self else { return };
        let image = component.image_range();
        let bytes = image.end.addr() - image.start.addr();
        // SAFETY: the range is a private mapping of a file that never changes, and nothing has written to it: wasmtime takes no
        // code that needs relocations, and has protected all of it by now. So the pages come back as they were.
        let released = unsafe { rustix::mm::madvise(image.start.cast_mut().cast(), bytes, Advice::LinuxDontNeed) };
        if let Err(error) = released {
            tracing::debug!("pages of compiled code stay resident: {error}");
        }
    }
}

/// The component of a file of the cache, mapped and not copied.
///
/// # Errors
/// If it is of another wasmtime, of other settings or another processor.
pub(crate) fn map(engine: &Engine, trusted: &Trusted) -> wasmtime::Result<Code> {
    // The file that is open, and not the one that goes by its name by now.
    let path = format!("/proc/self/fd/{}", trusted.file().as_raw_fd());
    // SAFETY: code that was not made by `Engine::precompile_component` could do anything. A `Trusted` is made by the cache
    // alone, of a file in a folder that only this user can write to, whose seal, under a key that only this user can read,
    // was right when this very file was read through to its end. Files of the cache are never changed in place.
    unsafe { Component::deserialize_file(engine, path) }.map(Code::Mapped)
}

/// The component of code that this host's own quarantine has just answered with.
///
/// # Errors
/// As [`map`].
pub(crate) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Code> {
    // SAFETY: as above; these bytes came over a socket that only our own child, of this same binary, had the other end of. It
    // was fed a stranger's component, but runs nothing of it natively except under wasmtime, as we would.
    unsafe { Component::deserialize(engine, code) }.map(Code::Copied)
}
