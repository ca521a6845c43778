//! Tensors on a model: loads ONNX models into ONNX Runtime, warms them, and runs them on threads of their own behind bounded
//! queues, each run within its deadline. It lends the buffers that tensors are decoded into.
//!
//! The only crate that knows `ort`. It knows nothing of plugins, of HTTP, of where models are kept, or of how they are measured.

mod assignment;
mod batch;
mod call;
mod context;
mod inspect;
mod library;
mod load;
mod log;
mod pool;
mod profile;
mod providers;
mod queue;
mod raw;
mod rows;
mod signature;
mod warm_up;
mod watchdog;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use sandmill_domain::ports::{BoxFuture, Inference, Model};
use sandmill_domain::{Deadline, Fault, Lender, ModelInfo, Tensor};
use thiserror::Error;

use crate::context::{Bounds, Contexts, Runner};
use crate::pool::Pool;
use crate::profile::Measure;
use crate::raw::{RawSession, Room};
use crate::warm_up::WarmUp;
use crate::watchdog::Watchdog;

pub use crate::inspect::Refusal;
use crate::inspect::Seen;
pub use crate::library::{LibraryError, Runtime};
use crate::load::Loader;
pub use crate::load::{LoadError, LoadTimes, ModelOptions, ModelSource};
pub use crate::profile::{Profile, Size};
use crate::providers::Providers;
pub use crate::providers::{EngineFolderError, Placement, ProviderError, ProviderLibrary, ProviderOptions, ProviderSetupError};

/// The bounds of what all models share.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The bytes of buffers lent at once, rounded up to powers of two each.
    pub buffer_bytes_max: usize,
    /// The bytes of buffers kept for the next who asks.
    pub buffer_idle_bytes_max: usize,
    /// What the operator gives to those who run models' nodes.
    pub providers: ProviderOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { buffer_bytes_max: 512 << 20, buffer_idle_bytes_max: 64 << 20, providers: ProviderOptions::default() }
    }
}

/// Why the engine does not start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The file is not the library, is too old, or fails.
    #[error("`{}` cannot be used as the ONNX Runtime library: {reason}; `make setup` installs the right one", library.display())]
    Unusable {
        /// The file.
        library: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A process can load one library only.
    #[error("this process already runs on the ONNX Runtime library `{}`", loaded.display())]
    AnotherLibrary {
        /// The one that is loaded.
        loaded: PathBuf,
    },
    /// What the operator has declared for providers cannot be had.
    #[error(transparent)]
    Provider(#[from] ProviderSetupError),
    /// Its thread did not start.
    #[error("the engine's watchdog cannot be started")]
    Thread(#[from] io::Error),
}

/// ONNX Runtime in this process, the memory that its models' tensors lie in, and the watchdog over their runs.
pub struct Engine {
    environment: Environment,
    version: String,
    providers: Providers,
    watchdog: Arc<Watchdog>,
    pool: Arc<Pool>,
}

impl Engine {
    /// Loads the library, unless the process has it already, and starts the watchdog's thread.
    ///
    /// # Errors
    /// If the file is not an ONNX Runtime of version 1.31 or later, or another one is loaded, or a provider that the operator has
    /// declared cannot be had.
    pub fn start(library: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let environment = library::environment(library)?;
        let version = raw::version(&environment).unwrap_or_else(|| "unknown".to_owned());
        Ok(Self {
            providers: Providers::start(&environment, &version, &options.providers)?,
            version,
            environment,
            watchdog: Arc::new(Watchdog::start()?),
            pool: Arc::new(Pool::new(options.buffer_bytes_max, options.buffer_idle_bytes_max)),
        })
    }

    /// The version of ONNX Runtime: `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Loads a model, starts its threads and warms it up. Blocks for seconds at worst: not for a thread that carries requests.
    ///
    /// # Errors
    /// If an option is out of bounds, a provider is missing and nothing said of a fallback, the runtime refuses the model, its signature has no counterpart in the protocol, a bound is
    /// given for an axis that it does not have, it fails on zeros, or its time is over.
    pub fn load(&self, source: ModelSource, options: &ModelOptions) -> Result<OnnxModel, LoadError> {
        let loader = Loader { environment: &self.environment, watchdog: &self.watchdog, providers: &self.providers };
        let loaded = loader.load(source, options)?;
        let session = RawSession::new(loaded.session).map_err(|error| LoadError::Model(error.to_string()))?;
        let contexts = self.start_contexts(&loaded.info.name, session, options)?;
        let begun = Instant::now();
        let deadline = Deadline::after(begun, options.warm_up_timeout);
        let warm_up = WarmUp { contexts: &contexts, signature: &loaded.info.signature, lender: &*self.pool, deadline };
        let (run, golden) = warm_up.run(options.warm_up_runs).map_err(|fault| LoadError::WarmUp(Box::new(fault)))?;
        contexts.remember(golden);
        // The zeros of the warm-up are like nobody's.
        drop(contexts.take_seen());
        let times = LoadTimes { load: loaded.took, warm_up: begun.elapsed(), run };
        let (info, pool, mut options) = (Arc::new(loaded.info), Arc::clone(&self.pool), options.clone());
        if !loaded.placement.is_on_cpu() {
            // A device may compile, search or wait for others at any run, however short they were before.
            options.inline_max = Duration::ZERO;
        }
        let placement = loaded.placement;
        Ok(OnnxModel { info, times, options, placement, seen: loaded.seen, profile: OnceLock::new(), pool, contexts })
    }

    fn start_contexts(&self, name: &str, session: RawSession, options: &ModelOptions) -> io::Result<Contexts> {
        let (pool, output_bytes_max) = (Arc::clone(&self.pool), options.output_bytes_max);
        let lender: Arc<dyn Lender> = Arc::clone(&self.pool) as _;
        let runner: Arc<Runner> =
            Arc::new(move |inputs, run| session.run(inputs, run, Room { lender: &*pool, output_bytes_max }));
        let bounds = Bounds { contexts: options.threads, queue_max: options.queue_max, queue_bytes_max: options.queue_bytes_max };
        Contexts::start(name, bounds, Arc::clone(&self.watchdog), &runner, lender)
    }
}

/// A loaded and warmed ONNX model. Dropping it joins its threads: at once, unless a run that nobody waits for any more is inside
/// a long kernel; it waits 5 seconds for that one at most.
pub struct OnnxModel {
    info: Arc<ModelInfo>,
    times: LoadTimes,
    options: ModelOptions,
    placement: Placement,
    seen: Seen,
    profile: OnceLock<Profile>,
    pool: Arc<Pool>,
    contexts: Contexts,
}

impl OnnxModel {
    /// How long it took to load.
    pub fn load_times(&self) -> LoadTimes {
        self.times
    }

    /// Who runs it: the first of the providers asked for that has any of its nodes, by the name that its function has for it.
    pub fn provider(&self) -> &str {
        &self.placement.provider
    }

    /// Who should have run it and does not, and why; none if all is as it was asked for.
    pub fn fell_back(&self) -> Option<&str> {
        self.placement.fell_back.as_deref()
    }

    /// Who has which part of it.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Measures what runs take, of the shapes that the model was last called with or, before any call, of small ones; from then on
    /// calls share runs, and short ones run on the thread that has them, as it pays. Until then each runs by itself. Blocks, for
    /// `profile_time` at most; the first call's result holds.
    pub fn measure(&self) -> &Profile {
        self.profile.get_or_init(|| {
            let (signature, options) = (&self.info.signature, &self.options);
            let deadline = Deadline::after(Instant::now(), options.profile_time);
            let (contexts, lender, seen) = (&self.contexts, &*self.pool, self.seen);
            let (plan, profile) = Measure { contexts, signature, lender, options, seen, deadline }.take();
            self.contexts.adopt(plan);
            profile
        })
    }
}

impl Model for OnnxModel {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    fn lender(&self) -> &dyn Lender {
        &*self.pool
    }

    /// Queues the run at once, before the future is polled; the future resolves at the deadline at the latest.
    fn infer(&self, inputs: Vec<Tensor>, deadline: Deadline) -> BoxFuture<'_, Result<Inference, Fault>> {
        let answer = self.contexts.submit(inputs, deadline);
        Box::pin(async move { answer?.wait().await })
    }
}

/// Nothing that these locks guard is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod test_support {
    //! What the unit tests need of the runtime.

    use std::env;
    use std::path::{Path, PathBuf};

    use ort::environment::Environment;

    use crate::library;

    /// The process's environment, from the library of the project's set-up.
    pub(crate) fn environment() -> Environment {
        let set_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.sandmill/lib/libonnxruntime.so.1.31.1");
        let path = env::var_os("ORT_DYLIB_PATH").map_or(set_up, PathBuf::from);
        library::environment(&path).expect("the tests need the ONNX Runtime library: type `make setup`")
    }
}
