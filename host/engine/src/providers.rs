//! Who runs a model's nodes: what its function asks for, against what the host has and the operator allows. Knows no model, and of the
//! runtime only how a provider is asked for and what it was given.
//!
//! A provider that is missing is an error: a model that was meant for a device and runs on the CPU is a hundred times as slow, and
//! nobody would know why. Whoever would rather have that says `fallback`, and is told.

mod folder;
mod options;
mod plugin;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ort::environment::Environment;
use ort::ep::{ArbitrarilyConfigurableExecutionProvider, CUDA, ExecutionProvider, TensorRT};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use sandmill_domain::{Optimization, Provider};
use thiserror::Error;

use crate::assignment::{self, Share};
use crate::library::guard;
use crate::load::ModelOptions;
use folder::EngineFolder;
use options::Setting;

pub use folder::EngineFolderError;

/// The names that no library may have.
const RESERVED: [&str; 3] = ["cpu", "cuda", "tensorrt"];

/// What the operator gives to providers.
#[derive(Clone, Debug)]
pub struct ProviderOptions {
    /// Libraries of further providers, by the name that functions know them by.
    pub libraries: BTreeMap<String, ProviderLibrary>,
    /// Where compiled engines are kept, private to this user; they are compiled at each start without one.
    pub engine_cache: Option<PathBuf>,
    /// The memory of its device that a model may ask for, and has if it does not ask.
    pub memory_bytes_max: usize,
}

impl Default for ProviderOptions {
    fn default() -> Self {
        Self { libraries: BTreeMap::new(), engine_cache: None, memory_bytes_max: 4 << 30 }
    }
}

/// A library of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderLibrary {
    /// Its file, which is run as native code.
    pub path: PathBuf,
    /// The options that functions may set, by the provider's own names.
    pub options: Vec<String>,
}

/// Why the operator's providers cannot be had.
#[derive(Debug, Error)]
pub enum ProviderSetupError {
    /// Its name is taken, or cannot be written in a function.
    #[error(
        "a provider's library cannot be called `{name}`: use lower-case letters, digits, `-` and `_`, 63 at most, and neither {}",
        RESERVED.join(" nor ")
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The file is no such library, or does not find what it is for.
    #[error("the provider's library `{name}` ({}) cannot be used: {reason}", path.display())]
    Library {
        /// The name that it was given.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder of compiled engines is not private.
    #[error(transparent)]
    Folder(#[from] EngineFolderError),
}

/// Why a model is not run as its function asks; the texts are for the person who deploys it.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// Nobody is called so.
    #[error("there is no provider `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// None is asked for, not even the CPU.
    #[error("a model needs a provider, such as `cpu`")]
    None,
    /// The CPU takes every node.
    #[error("provider `{name}` comes after `cpu`, which leaves it nothing: put `cpu` last")]
    AfterCpu {
        /// Who.
        name: String,
    },
    /// It has no such setting.
    #[error("provider `{name}` takes no `{key}`")]
    Setting {
        /// Who.
        name: String,
        /// Which.
        key: &'static str,
    },
    /// It has no such option, or functions may not set it.
    #[error("provider `{name}` takes no option `{key}` of a function: there are {}", list(known))]
    Option {
        /// Who.
        name: String,
        /// Which.
        key: String,
        /// Those that functions may set.
        known: Vec<String>,
    },
    /// An option has a value that it cannot have.
    #[error("`{key}` of provider `{name}` must be {expected}")]
    Value {
        /// Who.
        name: String,
        /// Which option.
        key: String,
        /// What it can be.
        expected: String,
    },
    /// It is to have more memory than there may be.
    #[error("provider `{name}` is to have {given} bytes, but the host gives {max} at most (provider_memory_bytes_max)")]
    Memory {
        /// Who.
        name: String,
        /// What was asked for.
        given: usize,
        /// The bound.
        max: usize,
    },
    /// It is not there, or does nothing for the model.
    #[error("provider `{name}` cannot be used: {reason}; use a host that has it, or declare `fallback = true`")]
    Missing {
        /// Who.
        name: String,
        /// Why.
        reason: String,
    },
    /// The place of its engine is not private.
    #[error(transparent)]
    Folder(#[from] EngineFolderError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Who runs a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The first of those asked for that has any of its nodes; `cpu` if none has.
    pub provider: String,
    /// Who should have come before, and why they did not.
    pub fell_back: Option<String>,
    /// How many nodes each has; nothing if only the CPU was asked.
    pub shares: BTreeMap<String, usize>,
    /// The names of all nodes, if its graph was left as it is in the file.
    pub nodes: Vec<String>,
}

impl Placement {
    /// Whether the CPU alone runs it.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.shares.keys().all(|name| name == "cpu")
    }
}

/// What the host has.
pub(crate) struct Providers {
    libraries: BTreeMap<String, Library>,
    engines: Option<EngineFolder>,
    memory_bytes_max: usize,
    /// Of the runtime: an engine is for one.
    version: String,
}

/// A library that is loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Library {
    /// The runtime's names of its providers.
    providers: Vec<String>,
    /// What functions may set.
    options: Vec<String>,
}

/// What a name stands for.
enum Kind<'a> {
    Cpu,
    Cuda,
    Tensorrt,
    Library(&'a Library),
}

/// One of a model's providers, with all that it is told.
struct Candidate<'a> {
    provider: &'a Provider,
    kind: Kind<'a>,
    settings: Vec<Setting>,
}

impl Candidate<'_> {
    fn is(&self, name: &str) -> bool {
        self.provider.name == name
    }

    /// Whether it makes one of many nodes.
    fn compiles(&self) -> bool {
        matches!(self.kind, Kind::Tensorrt | Kind::Library(_))
    }
}

impl Providers {
    /// Loads the operator's libraries and looks at the folder.
    pub(crate) fn start(environment: &Environment, version: &str, options: &ProviderOptions) -> Result<Self, ProviderSetupError> {
        let load = |(name, library): (&String, &ProviderLibrary)| {
            plugin::load(environment, name, library).map(|library| (name.clone(), library))
        };
        Ok(Self {
            libraries: options.libraries.iter().map(load).collect::<Result<_, _>>()?,
            engines: options.engine_cache.as_deref().map(EngineFolder::open).transpose()?,
            memory_bytes_max: options.memory_bytes_max,
            version: version.to_owned(),
        })
    }

    /// Checks all that a model's function asks for, whether it will be used or not.
    pub(crate) fn choose<'a>(&'a self, options: &'a ModelOptions, model: &[u8]) -> Result<Choice<'a>, ProviderError> {
        let mut candidates = Vec::new();
        for provider in &options.providers {
            if candidates.iter().any(|other: &Candidate<'_>| other.is("cpu")) {
                return Err(ProviderError::AfterCpu { name: provider.name.clone() });
            }
            let kind = self.kind(&provider.name)?;
            let settings = options::settings(provider, &kind, self.memory_bytes_max)?;
            candidates.push(Candidate { provider, kind, settings });
        }
        if candidates.is_empty() {
            return Err(ProviderError::None);
        }
        let debug = options.optimization == Optimization::Debug;
        candidates.retain(|candidate| !(candidate.is("cpu") || debug && candidate.compiles()));
        candidates.iter_mut().try_for_each(|candidate| self.keep_engine(candidate, model))?;
        Ok(Choice { host: self, candidates, fallback: options.fallback, debug, missing: Vec::new() })
    }

    fn kind(&self, name: &str) -> Result<Kind<'_>, ProviderError> {
        match name {
            "cpu" => Ok(Kind::Cpu),
            "cuda" => Ok(Kind::Cuda),
            "tensorrt" => Ok(Kind::Tensorrt),
            name => self.libraries.get(name).map(Kind::Library).ok_or_else(|| self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> ProviderError {
        let known = RESERVED.into_iter().map(str::to_owned).chain(self.libraries.keys().cloned()).collect();
        ProviderError::Unknown { name: name.to_owned(), known }
    }

    /// Tells TensorRT where its engine for this model is, if the operator has a place for it.
    fn keep_engine(&self, candidate: &mut Candidate<'_>, model: &[u8]) -> Result<(), ProviderError> {
        let (Some(engines), Kind::Tensorrt) = (&self.engines, &candidate.kind) else { return Ok(()) };
        let settings = format!("{:?}", candidate.settings);
        let folder = engines.of(&[self.version.as_bytes(), settings.as_bytes(), model])?;
        for (switch, path) in
            [("trt_engine_cache_enable", "trt_engine_cache_path"), ("trt_timing_cache_enable", "trt_timing_cache_path")]
        {
            candidate.settings.push((switch.to_owned(), "1".to_owned()));
            candidate.settings.push((path.to_owned(), folder.clone()));
        }
        Ok(())
    }

    /// Our name for a provider of the runtime's.
    fn name<'a>(&'a self, provider: &'a str) -> &'a str {
        match provider {
            "CPUExecutionProvider" => "cpu",
            "CUDAExecutionProvider" => "cuda",
            "TensorrtExecutionProvider" => "tensorrt",
            other => {
                let has = |(_, library): &(&String, &Library)| library.providers.iter().any(|name| name == other);
                self.libraries.iter().find(has).map_or(other, |(name, _)| name)
            }
        }
    }
}

/// What is left to try for a model.
pub(crate) struct Choice<'a> {
    host: &'a Providers,
    /// In order of preference, without the CPU, which is always there.
    candidates: Vec<Candidate<'a>>,
    fallback: bool,
    debug: bool,
    missing: Vec<String>,
}

impl Choice<'_> {
    /// Whether it must be asked who has been given what.
    pub(crate) fn is_recorded(&self) -> bool {
        self.debug || !self.candidates.is_empty()
    }

    /// Asks for all that are left, and does without those that are not there, if the function allows that.
    pub(crate) fn register(
        &mut self,
        environment: &Environment,
        mut builder: SessionBuilder,
    ) -> Result<SessionBuilder, ProviderError> {
        let mut at = 0;
        while let Some(candidate) = self.candidates.get(at) {
            let asked;
            (builder, asked) = register(environment, candidate, builder);
            match asked {
                Ok(()) => at += 1,
                Err(reason) => self.leave_out(at, &reason)?,
            }
        }
        Ok(builder)
    }

    /// Goes on without the first of those that are left, as the model could not be loaded with them; the reason comes back if
    /// nobody but the CPU was asked, which makes it the model's.
    pub(crate) fn give_up_first(&mut self, reason: String) -> Result<Result<(), String>, ProviderError> {
        if self.candidates.is_empty() {
            return Ok(Err(reason));
        }
        self.leave_out(0, &reason).map(Ok)
    }

    fn leave_out(&mut self, at: usize, reason: &str) -> Result<(), ProviderError> {
        let name = self.candidates.remove(at).provider.name.clone();
        // The runtime ends its sentences, ours go on.
        let reason = reason.trim_end().trim_end_matches('.').to_owned();
        if !self.fallback {
            return Err(ProviderError::Missing { name, reason });
        }
        self.missing.push(format!("`{name}`: {reason}"));
        Ok(())
    }

    /// What became of it.
    pub(crate) fn settle(mut self, session: &Session) -> Result<Placement, ProviderError> {
        let shares = if self.is_recorded() { read_shares(session) } else { Vec::new() };
        let names = shares.iter().flat_map(|share| share.nodes.iter().cloned());
        let nodes = if self.debug { names.collect() } else { Vec::new() };
        let shares = self.count(&shares);
        while let Some(first) = self.candidates.first().filter(|first| !shares.contains_key(&first.provider.name)) {
            tracing::debug!(provider = first.provider.name, ?shares, "a provider has nothing to do");
            self.leave_out(0, "it takes none of the model's nodes")?;
        }
        let provider = self.candidates.first().map_or("cpu", |first| &first.provider.name).to_owned();
        let fell_back = (!self.missing.is_empty()).then(|| self.missing.join("; "));
        Ok(Placement { provider, fell_back, shares, nodes })
    }

    fn count(&self, shares: &[Share]) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for share in shares.iter().filter(|share| !share.nodes.is_empty()) {
            *counts.entry(self.host.name(&share.provider).to_owned()).or_default() += share.nodes.len();
        }
        counts
    }
}

/// What was recorded. A runtime that does not tell makes no model fail that has nobody to fall back from.
fn read_shares(session: &Session) -> Vec<Share> {
    guard(|| assignment::read(session)).unwrap_or_else(|error| {
        tracing::warn!(error, "the runtime does not say who runs a model");
        Vec::new()
    })
}

/// Asks the runtime for a provider, or says why there is none; the builder goes on without it then.
fn register(
    environment: &Environment,
    candidate: &Candidate<'_>,
    mut builder: SessionBuilder,
) -> (SessionBuilder, Result<(), String>) {
    let asked = match &candidate.kind {
        Kind::Cpu => Ok(()),
        Kind::Cuda => guard(|| told(CUDA::default(), &candidate.settings).register(&mut builder)),
        Kind::Tensorrt => guard(|| told(TensorRT::default(), &candidate.settings).register(&mut builder)),
        Kind::Library(library) => return register_library(environment, candidate, library, builder),
    };
    (builder, asked)
}

fn told<P: ArbitrarilyConfigurableExecutionProvider>(provider: P, settings: &[Setting]) -> P {
    settings.iter().fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value))
}

fn register_library(
    environment: &Environment,
    candidate: &Candidate<'_>,
    library: &Library,
    builder: SessionBuilder,
) -> (SessionBuilder, Result<(), String>) {
    let devices = environment.devices().filter(|device| {
        let provider = device.ep().unwrap_or_default();
        library.providers.iter().any(|name| name == provider)
    });
    let number = candidate.provider.device.unwrap_or(0);
    let Some(device) = devices.into_iter().nth(number as usize) else {
        return (builder, Err(format!("it has no device {number}")));
    };
    let prefix = device.ep().unwrap_or_default();
    let settings: Vec<_> = candidate.settings.iter().map(|(key, value)| (format!("{prefix}.{key}"), value.clone())).collect();
    match builder.with_devices([device], Some(&settings)) {
        Ok(builder) => (builder, Ok(())),
        Err(error) => {
            let reason = error.to_string();
            (error.recover(), Err(reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    fn providers() -> Providers {
        Providers::start(&test_support::environment(), "1", &ProviderOptions::default()).unwrap()
    }

    fn options(names: &[&str], fallback: bool) -> ModelOptions {
        let providers = names.iter().map(|name| Provider::named(name)).collect();
        ModelOptions { providers, fallback, ..ModelOptions::default() }
    }

    fn share(provider: &str, nodes: usize) -> Share {
        Share { provider: provider.to_owned(), nodes: vec![String::new(); nodes] }
    }

    #[test]
    fn what_is_asked_for_is_checked_before_it_is_tried() {
        let providers = providers();
        let refusal = |names| providers.choose(&options(names, true), b"").err().map(|error| error.to_string());
        assert_eq!(refusal(&["cuda", "cpu"]), None);
        assert_eq!(refusal(&["rocm"]).unwrap(), "there is no provider `rocm`; there are cpu, cuda, tensorrt");
        assert!(refusal(&["cpu", "cuda"]).unwrap().contains("`cuda` comes after `cpu`"));
        assert_eq!(refusal(&[]).unwrap(), "a model needs a provider, such as `cpu`");
    }

    #[test]
    fn nothing_is_compiled_for_debugging() {
        let providers = providers();
        let left = |optimization| {
            let options = ModelOptions { optimization, ..options(&["tensorrt", "cuda", "cpu"], false) };
            let choice = providers.choose(&options, b"").unwrap();
            choice.candidates.iter().map(|candidate| candidate.provider.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(left(Optimization::All), ["tensorrt", "cuda"]);
        assert_eq!(left(Optimization::Debug), ["cuda"]);
    }

    #[test]
    fn nodes_are_counted_by_our_names() {
        let mut providers = providers();
        let library = Library { providers: vec!["ThatExecutionProvider".to_owned()], options: Vec::new() };
        providers.libraries.insert("that".to_owned(), library);
        let options = options(&["that"], false);
        let choice = providers.choose(&options, b"").unwrap();
        let shares = [
            share("CUDAExecutionProvider", 2),
            share("CUDAExecutionProvider", 3),
            share("TensorrtExecutionProvider", 0),
            share("CPUExecutionProvider", 1),
            share("ThatExecutionProvider", 1),
            share("Other", 1),
        ];
        let expected = [("cuda", 5), ("cpu", 1), ("that", 1), ("Other", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(choice.count(&shares), expected.into());
    }

    #[test]
    fn an_engine_has_a_folder_that_no_function_has_named() {
        let folder = tempfile::tempdir().unwrap();
        let operator = ProviderOptions { engine_cache: Some(folder.path().join("engines")), ..ProviderOptions::default() };
        let providers = Providers::start(&test_support::environment(), "1", &operator).unwrap();
        let options = options(&["tensorrt", "cuda"], false);
        let path = |model: &[u8]| {
            let choice = providers.choose(&options, model).unwrap();
            let of =
                |candidate: &Candidate<'_>| candidate.settings.iter().find(|(key, _)| key == "trt_engine_cache_path").cloned();
            assert_eq!(of(&choice.candidates[1]), None, "CUDA compiles nothing");
            of(&choice.candidates[0]).unwrap().1
        };
        let real = folder.path().canonicalize().unwrap();
        assert!(path(b"one").starts_with(real.to_str().unwrap()));
        assert_eq!(path(b"one"), path(b"one"));
        assert_ne!(path(b"one"), path(b"other"), "engines are found by names that leave the weights out");
    }
}
