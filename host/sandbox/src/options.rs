//! What the sandbox is told: the host's bounds once, and each plugin's own. Every bound has a default or is asked for.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sandmill_domain::ports::{Model, Share};
use sandmill_domain::{Asset, FunctionLimits, Grants, GrantsMax, InstancePolicy, Journal, PluginLimits, Setting};
use sandmill_worker::{Program, QuarantineLimits};

/// The host's bounds, the same for all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxOptions {
    /// Plugin instances at work at once, those that wait for a model included; 1 to 4096. Each reserves 8 GiB of address
    /// space, which costs no memory until it is used; a quarter more is reserved for those that are kept for reuse.
    pub instances_max: u32,
    /// The most that any plugin may ask for.
    pub limits: PluginLimits,
    /// The most that any plugin may be granted.
    pub grants: GrantsMax,
    /// The stack of one call into a plugin, in bytes; from 64 KiB to 1 MiB.
    pub stack_bytes_max: usize,
    /// How often a running plugin is interrupted to let others run and to look at the time; from 100 µs to 1 s.
    ///
    /// A thread wakes up so often while any instance is alive, for a few µs: at 1 ms, half a percent of a core. It sleeps
    /// when there has been none for a thousand ticks.
    pub tick: Duration,
    /// The memory of a plugin's compiled code is given back when nobody has called it for so long; its next call costs some
    /// 100 µs more.
    pub code_idle: Duration,
    /// Where compiled components are kept; none for not at all.
    pub cache: Option<CacheOptions>,
    /// The bounds of compiling one.
    pub compiling: CompileOptions,
}

/// Where compiled components are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder, of no other use. It is made, private to this user; one that others can enter is refused, since what
    /// lies in it is run as native code.
    pub folder: PathBuf,
    /// The file of the key that every file of the folder is sealed with: outside the folder, made if it is missing.
    pub key: PathBuf,
    /// What the folder may hold, in bytes; the oldest files are deleted beyond it.
    pub bytes_max: u64,
}

/// What compiling one component, with its `init`, may take: it happens in a child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileOptions {
    /// The largest component, in bytes.
    pub component_bytes_max: usize,
    /// The functions of one component.
    pub functions_max: usize,
    /// The code of one function, in bytes.
    pub function_bytes_max: usize,
    /// How the child is started: a program that calls [`crate::serve_quarantine`].
    pub program: Program,
    /// What the child may use.
    pub quarantine: QuarantineLimits,
    /// Children at once.
    pub children_max: usize,
    /// Threads of a child that compile; half of the processors by default, so that requests have the others.
    pub threads: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            instances_max: 1024,
            limits: PluginLimits::host_default(),
            grants: GrantsMax::default(),
            stack_bytes_max: 512 << 10,
            tick: Duration::from_millis(1),
            code_idle: Duration::from_secs(10),
            cache: None,
            compiling: CompileOptions::default(),
        }
    }
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            component_bytes_max: 64 << 20,
            functions_max: 65_536,
            function_bytes_max: 1 << 20,
            program: Program::this(["quarantine"]),
            quarantine: QuarantineLimits::default(),
            children_max: 1,
            threads: thread::available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2),
        }
    }
}

/// One plugin's name, settings and bounds.
#[derive(Clone)]
pub struct PluginOptions {
    /// What its log lines carry: the function's name.
    pub name: String,
    /// Whose it is: what was compiled for another is not found, or it could be told by the time that it takes.
    pub owner: String,
    /// What the plugin's `config` import gives.
    pub config: Vec<Setting>,
    /// What its `init` is given.
    pub assets: Vec<Asset>,
    /// What its `model-info` import tells of, and a handler's `models` import runs.
    pub models: Vec<Arc<dyn Model>>,
    /// What the runs that a handler asks for have of the threads that carry requests; none if they take turns with nobody.
    pub share: Option<Arc<dyn Share>>,
    /// Its bounds.
    pub limits: PluginLimits,
    /// What it may do beyond computing.
    pub grants: Grants,
    /// Whether its instances end with their request.
    pub instances: InstancePolicy,
    /// Where its lines go besides the host's log, if somebody keeps them.
    pub journal: Option<Arc<Journal>>,
}

impl PluginOptions {
    /// A plugin without settings, models or grants, within a function's limits.
    pub fn new(name: impl Into<String>, limits: &FunctionLimits) -> Self {
        Self {
            name: name.into(),
            owner: String::new(),
            config: Vec::new(),
            assets: Vec::new(),
            models: Vec::new(),
            share: None,
            limits: limits.plugin,
            grants: Grants::default(),
            instances: InstancePolicy::default(),
            journal: None,
        }
    }
}
