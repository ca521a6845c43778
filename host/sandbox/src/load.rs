//! From a stranger's bytes to a plugin that can be called: what is refused, and in which words.

use std::error::Error;
use std::sync::Arc;

use thiserror::Error;
use wasmtime::component::{Component, Linker};

use crate::contract;
use crate::machine::{MEMORIES_MAX, Sandbox, TABLES_MAX};
use crate::options::PluginOptions;
use crate::plugin::WasmPlugin;
use crate::precompiled;
use crate::state::State;

/// A page of linear memory.
const PAGE_BYTES: u64 = 64 << 10;

type Source = Box<dyn Error + Send + Sync>;

/// Why a plugin was not loaded; every message is for whoever deploys it.
#[derive(Debug, Error)]
pub enum LoadError {
    /// More bytes than are compiled.
    #[error("the file has {bytes} bytes; at most {bytes_max} are taken")]
    TooLarge {
        /// Of the file.
        bytes: usize,
        /// The host's bound.
        bytes_max: usize,
    },
    /// No WebAssembly in its binary form.
    #[error("the file is no WebAssembly component: it does not begin like one")]
    NotWasm,
    /// A core module.
    #[error(
        "the file is a core WebAssembly module and not a component; `sandmill build` makes a component, \
         as does `wasm-tools component new`"
    )]
    CoreModule,
    /// A component in name, but damaged, or beyond what the host supports.
    #[error("the component is damaged or needs what this host does not support")]
    Invalid {
        /// What the compiler found.
        source: Source,
    },
    /// Imports without a grant.
    #[error("the component imports what it is not granted: {}", names.join(", "))]
    RefusedImports {
        /// All of them, in full.
        names: Vec<String>,
    },
    /// A part of the contract that comes later.
    #[error("the component exports `{interface}`, which this version does not run yet; it runs `preprocess` and `postprocess`")]
    NotYet {
        /// In full.
        interface: String,
    },
    /// Nothing that the host calls.
    #[error(
        "the component exports neither `sandmill:plugin/preprocess@0.1.0` nor `sandmill:plugin/postprocess@0.1.0`, \
         but {}",
        list(exports)
    )]
    NothingExported {
        /// What there is.
        exports: Vec<String>,
    },
    /// An export by the right name of another type.
    #[error("the component's export `{interface}` is not as the contract says")]
    WrongType {
        /// In full.
        interface: String,
        /// What differs.
        source: Source,
    },
    /// An import by a granted name of another type.
    #[error("the component imports functions that this host does not have")]
    WrongImport {
        /// Which.
        source: Source,
    },
    /// The memory it begins with is beyond its limit.
    #[error("the component begins with a memory of {bytes} bytes; its limit is {bytes_max}")]
    Memory {
        /// Of its largest memory.
        bytes: u64,
        /// The plugin's limit.
        bytes_max: usize,
    },
    /// Modules, memories or tables beyond the pool's.
    #[error("the component needs more than {MEMORIES_MAX} memories or {TABLES_MAX} tables, or is given modules to start")]
    Shape,
    /// The limit asked for the plugin is above the host's.
    #[error("a memory limit of {asked} bytes was asked for; this host gives at most {bytes_max}")]
    MemoryLimit {
        /// For the plugin.
        asked: usize,
        /// The host's bound.
        bytes_max: usize,
    },
}

fn list(exports: &[String]) -> String {
    if exports.is_empty() { "nothing at all".into() } else { exports.join(", ") }
}

impl Sandbox {
    /// Makes a plugin of a component's bytes: compiles it, or finds what was compiled before, and checks it against the
    /// contract. Blocks for 40 to 110 ms when it compiles, longer for large components; to be called on a thread that may.
    ///
    /// # Errors
    /// What is wrong with the component, in words for whoever deploys it.
    pub fn load(&self, bytes: &[u8], options: PluginOptions) -> Result<WasmPlugin, LoadError> {
        let (asked, bytes_max) = (options.memory_bytes_max, self.options.memory_bytes_max);
        if asked > bytes_max {
            return Err(LoadError::MemoryLimit { asked, bytes_max });
        }
        check_kind(bytes, self.options.component_bytes_max)?;
        let component = precompiled::restore_or_compile(&self.engine, bytes, self.cache.as_ref())
            .map_err(|source| LoadError::Invalid { source: source.into() })?;
        check_resources(&component, asked)?;
        let shape = contract::check(&self.engine, &component)?;
        let pre = link(&self.linker, &component)?;
        Ok(WasmPlugin::new(pre, shape, Arc::new(options.into()), Arc::clone(&self.ticker)))
    }
}

fn link(linker: &Linker<State>, component: &Component) -> Result<wasmtime::component::InstancePre<State>, LoadError> {
    linker.instantiate_pre(component).map_err(|source| LoadError::WrongImport { source: source.into() })
}

/// Tells components from all else by their first eight bytes: the magic number, the version, the layer.
fn check_kind(bytes: &[u8], bytes_max: usize) -> Result<(), LoadError> {
    if bytes.len() > bytes_max {
        return Err(LoadError::TooLarge { bytes: bytes.len(), bytes_max });
    }
    match bytes.first_chunk::<8>() {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotWasm),
    }
}

fn check_resources(component: &Component, memory_bytes_max: usize) -> Result<(), LoadError> {
    let needed = component.resources_required().ok_or(LoadError::Shape)?;
    if needed.num_memories > MEMORIES_MAX || needed.num_tables > TABLES_MAX {
        return Err(LoadError::Shape);
    }
    let bytes = needed.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    let fits = usize::try_from(bytes).is_ok_and(|bytes| bytes <= memory_bytes_max);
    if fits { Ok(()) } else { Err(LoadError::Memory { bytes, bytes_max: memory_bytes_max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_told_by_their_first_bytes() {
        assert!(check_kind(b"\0asm\x0d\0\x01\0", 8).is_ok());
        assert!(matches!(check_kind(b"\0asm\x0d\0\x01\0", 7), Err(LoadError::TooLarge { bytes: 8, bytes_max: 7 })));
        assert!(matches!(check_kind(b"\0asm\x01\0\0\0", 8), Err(LoadError::CoreModule)));
        for other in [&b""[..], b"\0asm", b"(component)", b"\x7fELF\x02\x01\x01\0"] {
            assert!(matches!(check_kind(other, 100), Err(LoadError::NotWasm)), "{other:?}");
        }
    }
}
