//! From a stranger's bytes to a plugin that can be called: what is refused, and in which words.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sandmill_domain::{Grants, ModelInfo, PluginLimits};
use sandmill_worker::Death;
use thiserror::Error;
use tracing::Level;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::asset_files::AssetFolder;
use crate::cache::{Cache, Key};
use crate::job::{self, Answer, Compiled, Inspected, Job, LogLine, Made, Refusal, Snapshot};
use crate::machine::{MEMORIES_MAX, Sandbox, TABLES_MAX};
use crate::options::PluginOptions;
use crate::outgoing::Outgoing;
use crate::plugin::{Inner, WasmPlugin};
use crate::precompiled::{self, Code};
use crate::resting::Resting;
use crate::reuse::Idle;
use crate::state::{Facts, State};
use crate::{contract, lines, wasi};

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
    /// It was looked at, or compiled, or its `init` ran, and something was wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The process that was to compile it ended.
    #[error("the component was not compiled: the process for it gave no answer")]
    Compiler(#[from] Death),
    /// What was compiled is of no use here: beyond what the pool of instances holds, or a bug.
    #[error("the compiled component does not fit this host")]
    Answer {
        /// What is wrong.
        source: Source,
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
    /// The tables that it begins with are beyond their limit.
    #[error("the component begins with a table of {elements} elements; its limit is {elements_max}")]
    Table {
        /// Of its largest table.
        elements: u64,
        /// The plugin's limit.
        elements_max: usize,
    },
    /// Limits above the host's.
    #[error("beyond what this host gives at most: {}", beyond(limits))]
    Limits {
        /// Each: its key, what was asked for, the host's bound.
        limits: Vec<(&'static str, usize, usize)>,
    },
    /// Grants that the host does not give.
    #[error("this host does not grant: {}", names.join(", "))]
    Grants {
        /// All of them.
        names: Vec<String>,
    },
    /// Its assets cannot be made into a folder.
    #[error("the plugin's assets cannot be written to a folder of their own")]
    Assets(#[source] io::Error),
}

impl LoadError {
    /// Whether the component is not at fault: it may do another time.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Compiler(death) if death.is_passing())
    }
}

fn beyond(limits: &[(&'static str, usize, usize)]) -> String {
    let one = |(key, asked, max): &(&str, usize, usize)| format!("{key} is {asked}, at most {max}");
    limits.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// How a plugin came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What was made of it, now or when it was compiled.
    pub made: Made,
    /// Whether its code was found in the cache.
    pub cached: bool,
    /// How long all of it took.
    pub time: Duration,
}

impl Sandbox {
    /// Makes a plugin of a component's bytes: compiles it in a process of its own, its `init` included, or finds what was
    /// compiled before, and checks it against the contract. Blocks for some 100 ms when it compiles, longer for large
    /// components; to be called on a thread that may.
    ///
    /// # Errors
    /// What is wrong with the component, in words for whoever deploys it.
    pub fn load(&self, bytes: &[u8], options: PluginOptions) -> Result<WasmPlugin, LoadError> {
        let start = Instant::now();
        self.check_options(&options)?;
        check_kind(bytes, self.options.compiling.component_bytes_max)?;
        let (code, made, cached) = self.compiled(bytes, &options)?;
        let component = code.component();
        check_resources(component, &options.limits)?;
        let shape = contract::shape(&self.engine, component)?;
        let pre = self.link(component, &options.grants)?;
        let inits = matches!(made.snapshot, Snapshot::Impossible(_)) && shape.init.is_some();
        let policy = options.instances;
        let facts = Arc::new(facts(options, inits, shape.handle.is_some(), &self.options.grants).map_err(LoadError::Assets)?);
        Ok(WasmPlugin(Arc::new(Inner {
            pre,
            code: Resting::new(code, self.options.code_idle),
            shape,
            facts,
            ticker: Arc::clone(&self.ticker),
            inits,
            policy,
            sweeping: AtomicBool::new(false),
            idle: Idle::new(Arc::clone(&self.idle_room)),
            places: Arc::clone(&self.places),
            loaded: Loaded { made, cached, time: start.elapsed() },
        })))
    }

    fn check_options(&self, options: &PluginOptions) -> Result<(), LoadError> {
        let limits = options.limits.beyond(&self.options.limits);
        if !limits.is_empty() {
            return Err(LoadError::Limits { limits });
        }
        let names = options.grants.beyond(&self.options.grants);
        if names.is_empty() { Ok(()) } else { Err(LoadError::Grants { names }) }
    }

    /// The code, what is known of it, and whether that was there already.
    fn compiled(&self, bytes: &[u8], options: &PluginOptions) -> Result<(Code, Made, bool), LoadError> {
        let job = self.job(bytes, options)?;
        let Some(cache) = &self.cache else {
            let compiled = self.compile(&job, options)?;
            let code = precompiled::load(&self.engine, &compiled.code).map_err(|error| answer(error.into()))?;
            return Ok((code, compiled.made, false));
        };
        let key = Key::new(&options.owner, &job, precompiled::settings(&self.engine));
        if let Some((code, made)) = self.restore(cache, &key) {
            return Ok((code, made, true));
        }
        let compiled = self.compile(&job, options)?;
        let note = postcard::to_stdvec(&compiled.made).map_err(|error| answer(error.into()))?;
        cache.write(&key, &compiled.code, &note);
        // Mapped from the file, if it could be kept, it takes less memory.
        if let Some((code, made)) = self.restore(cache, &key) {
            return Ok((code, made, false));
        }
        let code = precompiled::load(&self.engine, &compiled.code).map_err(|error| answer(error.into()))?;
        Ok((code, compiled.made, false))
    }

    fn restore(&self, cache: &Cache, key: &Key) -> Option<(Code, Made)> {
        let trusted = cache.read(key)?;
        let made = postcard::from_bytes(trusted.note());
        let restored = made.map_err(wasmtime::Error::new).and_then(|made| Ok((precompiled::map(&self.engine, &trusted)?, made)));
        restored.inspect_err(|error| tracing::warn!("compiled code from the cache is not usable, compiling anew: {error:#}")).ok()
    }

    fn compile(&self, job: &[u8], options: &PluginOptions) -> Result<Compiled, LoadError> {
        let (compiled, _inspected) = self.ask(job, options)?;
        Ok(compiled)
    }

    /// Has a process of its own do a job; what it was seen to be comes with it if that was asked for.
    pub(crate) fn ask(&self, job: &[u8], options: &PluginOptions) -> Result<(Compiled, Option<Inspected>), LoadError> {
        // A fuzzer sees into its own process alone.
        let bytes = if cfg!(fuzzing) { crate::compile::answer(job) } else { self.quarantine.run(job)? };
        let (compiled, inspected) = match postcard::from_bytes(&bytes).map_err(|error| answer(error.into()))? {
            Answer::Compiled(compiled) => (compiled, None),
            Answer::Inspected(inspected, compiled) => (compiled, Some(inspected)),
            Answer::Refused(refusal, lines) => {
                log(options, &lines);
                return Err(refusal.into());
            }
        };
        log(options, &compiled.lines);
        Ok((compiled, inspected))
    }

    fn job(&self, component: &[u8], options: &PluginOptions) -> Result<Vec<u8>, LoadError> {
        let job = self.plan(component, options);
        postcard::to_stdvec(&job).map_err(|error| answer(error.into()))
    }

    pub(crate) fn plan<'a>(&self, component: &'a [u8], options: &'a PluginOptions) -> Job<'a> {
        let open = options.config.iter().filter(|setting| !setting.secret);
        let compiling = &self.options.compiling;
        Job {
            component,
            config: open.map(|setting| (setting.key.as_str(), setting.value.as_str())).collect(),
            assets: options.assets.iter().map(|asset| job::Asset { name: &asset.name, data: &asset.data }).collect(),
            models: options.models.iter().map(|model| ModelInfo::clone(model.info())).collect(),
            limits: options.limits,
            http: !options.grants.http.is_empty(),
            stack_bytes_max: self.options.stack_bytes_max,
            functions_max: compiling.functions_max,
            function_bytes_max: compiling.function_bytes_max,
            inspects: false,
        }
    }

    pub(crate) fn link(&self, component: &Component, grants: &Grants) -> Result<InstancePre<State>, LoadError> {
        let wrong = |source: wasmtime::Error| LoadError::WrongImport { source: source.into() };
        if *grants == Grants::default() {
            return self.linker.instantiate_pre(component).map_err(wrong);
        }
        let mut linker: Linker<State> = self.linker.clone();
        wasi::link_granted(&mut linker, grants).map_err(wrong)?;
        linker.instantiate_pre(component).map_err(wrong)
    }
}

fn facts(options: PluginOptions, inits: bool, handles: bool, host: &sandmill_domain::GrantsMax) -> io::Result<Facts> {
    let asset_folder = options.grants.asset_files.then(|| AssetFolder::write(&options.assets)).transpose()?;
    let outgoing = (!options.grants.http.is_empty()).then(|| Outgoing::new(&options.grants.http, &host.http, &options.limits));
    Ok(Facts {
        name: options.name.into(),
        journal: options.journal,
        limits: options.limits,
        time_limit: "plugin_time_ms",
        config: options.config,
        assets: if inits { options.assets } else { Vec::new() },
        infos: options.models.iter().map(|model| Arc::clone(model.info())).collect(),
        models: options.models,
        share: options.share,
        handles,
        grants: options.grants,
        asset_folder,
        outgoing,
    })
}

pub(crate) fn answer(source: Source) -> LoadError {
    LoadError::Answer { source }
}

/// What the plugin said while its `init` ran in another process.
fn log(options: &PluginOptions, said: &[LogLine]) {
    const LEVELS: [Level; 5] = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    for (level, text) in said {
        let level = LEVELS.get(usize::from(*level)).copied().unwrap_or(Level::ERROR);
        lines::emit(level, &options.name, options.journal.as_deref(), lines::printable(text, lines::LINE_BYTES_MAX));
    }
}

/// Tells components from all else by their first eight bytes: the magic number, the version, the layer.
pub(crate) fn check_kind(bytes: &[u8], bytes_max: usize) -> Result<(), LoadError> {
    if bytes.len() > bytes_max {
        return Err(LoadError::TooLarge { bytes: bytes.len(), bytes_max });
    }
    match bytes.first_chunk::<8>() {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Err(LoadError::CoreModule),
        _ => Err(LoadError::NotWasm),
    }
}

pub(crate) fn check_resources(component: &Component, limits: &PluginLimits) -> Result<(), LoadError> {
    let needed = component.resources_required().ok_or(LoadError::Shape)?;
    if needed.num_memories > MEMORIES_MAX || needed.num_tables > TABLES_MAX {
        return Err(LoadError::Shape);
    }
    let bytes = needed.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    if !usize::try_from(bytes).is_ok_and(|bytes| bytes <= limits.memory_bytes_max) {
        return Err(LoadError::Memory { bytes, bytes_max: limits.memory_bytes_max });
    }
    let elements = needed.max_initial_table_size.unwrap_or(0);
    if !usize::try_from(elements).is_ok_and(|elements| elements <= limits.table_elements_max) {
        return Err(LoadError::Table { elements, elements_max: limits.table_elements_max });
    }
    Ok(())
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
