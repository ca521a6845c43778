//! From a file's bytes to a warmed session. Knows nothing of where the bytes come from and of who will call the model.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, LoadCanceler, SessionBuilder};
use sandmill_domain::ports::Share;
use sandmill_domain::{AxisRule, Batching, Fault, ModelInfo, Optimization, Provider, Signature};
use sandmill_worker::Death;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::assignment;
use crate::inspect::{Refusal, Seen, inspect};
use crate::library::guard;
use crate::pad::Padding;
use crate::plans;
use crate::providers::{Placement, ProviderError, Providers};
use crate::recycler::Budget;
use crate::signature::{self, AxisBounds};
use crate::watchdog::{Expire, Watchdog};

/// A model's custom metadata, keys and values in all: a character table takes some 30 KB.
const METADATA_BYTES_MAX: usize = 4 << 20;
/// More contexts or threads than any machine has cores are a slip.
const THREADS_MAX: usize = 1024;
/// A folder that cannot be. A model in memory may otherwise name files below the current directory as its weights, and would
/// answer with what they hold.
const NO_FOLDER: &str = "/dev/null/none";

/// A model to load, again and again.
#[derive(Clone)]
pub struct ModelSource {
    /// The name under which the function knows it.
    pub name: String,
    /// Gives the ONNX file, whole, checked to be the one that it was: weights in files beside it are refused.
    pub read: Arc<Read>,
    /// What its runs have of the processors beside those of others; none if they take turns with nobody.
    pub share: Option<Arc<dyn Share>>,
}

/// Reads a file; an error is told to whoever runs the host.
pub type Read = dyn Fn() -> Result<Bytes, String> + Send + Sync;

impl ModelSource {
    /// A file that is kept in memory.
    pub fn of(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { name: name.into(), read: Arc::new(move || Ok(bytes.clone())), share: None }
    }
}

/// How a model is run, with all its bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelOptions {
    /// Runs at once, on threads of the model's own or on those that have the requests; 2 by default, or 1 on a single core.
    pub threads: usize,
    /// Threads inside one run; more than 1 seldom pays.
    pub intra_threads: usize,
    /// Calls that wait; one that is given up frees its inputs at once, and its place when a run ends.
    pub queue_max: usize,
    /// The bytes of the inputs of the calls that wait.
    pub queue_bytes_max: usize,
    /// The bytes of one run's outputs.
    pub output_bytes_max: usize,
    /// The bound of a first axis that varies.
    pub batch_max: i64,
    /// The bound of any other axis that varies.
    pub axis_max: i64,
    /// The sizes of certain axes, by the model's symbol, or as `input[1]` for an axis without one.
    pub axes: BTreeMap<String, AxisRule>,
    /// Who runs it, in order of preference. The CPU takes what they leave, named or not.
    pub providers: Vec<Provider>,
    /// Whether it may run without those of them that are missing.
    pub fallback: bool,
    /// How much is done to its graph first.
    pub optimization: Optimization,
    /// Whether calls share runs.
    pub batching: Batching,
    /// The rows of one run that calls share, at most.
    pub batch_rows_max: usize,
    /// A run that takes longer is never made on a thread that carries requests; zero for none at all.
    pub inline_max: Duration,
    /// How long it may be measured what runs take.
    pub profile_time: Duration,
    /// Runs before the model counts as loaded; one more is timed.
    pub warm_up_runs: usize,
    /// How long the runtime may take to load it.
    pub load_timeout: Duration,
    /// How long all runs of the warm-up may take.
    pub warm_up_timeout: Duration,
    /// Contexts that must be there: with 0 its session may go while nobody calls it.
    pub contexts_min: usize,
    /// Then it goes when nobody has called for so long; none for never.
    pub idle_max: Option<Duration>,
    /// What one session may go through.
    pub budget: Budget,
    /// A model that has given no good answer for so long is tried on inputs that it ran on before.
    pub health_interval: Duration,
    /// Whose it is: what was found out about another's is not read, or it could be told by the time that it takes.
    pub owner: String,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(1, NonZeroUsize::get).min(2),
            intra_threads: 1,
            queue_max: 128,
            queue_bytes_max: 256 << 20,
            output_bytes_max: 256 << 20,
            batch_max: 32,
            axis_max: 1024,
            axes: BTreeMap::new(),
            providers: vec![Provider::cpu()],
            fallback: false,
            optimization: Optimization::All,
            batching: Batching::Auto,
            batch_rows_max: 32,
            inline_max: Duration::from_millis(1),
            profile_time: Duration::from_secs(2),
            warm_up_runs: 5,
            load_timeout: Duration::from_secs(60),
            warm_up_timeout: Duration::from_secs(60),
            contexts_min: 1,
            idle_max: Some(Duration::from_secs(600)),
            budget: Budget::default(),
            health_interval: Duration::from_secs(10),
            owner: String::new(),
        }
    }
}

/// How long loading took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadTimes {
    /// The runtime's part: parsing, optimising, placing the weights.
    pub load: Duration,
    /// All runs of the warm-up, the timed one included.
    pub warm_up: Duration,
    /// The one run that was timed after the warm-up: the steady state, for the smallest shapes.
    pub run: Duration,
}

/// Why a model is not loaded; the texts are for the person who deploys it.
#[derive(Debug, Error)]
pub enum LoadError {
    /// An option is out of its bounds.
    #[error("`{name}` is {given}, but must be from 1 to {max}")]
    Option {
        /// Which.
        name: String,
        /// What was given.
        given: i128,
        /// The largest value.
        max: i128,
    },
    /// Its file cannot be read, or is not what it was.
    #[error("its file cannot be loaded: {0}")]
    Read(String),
    /// All that may go has gone, and there is still no room for it.
    #[error("there is no memory for it: it takes some {} MiB (engine.memory_bytes_max, or what the machine has left)", bytes.div_ceil(1 << 20))]
    NoMemory {
        /// What it takes.
        bytes: usize,
    },
    /// It was too much for the process that tried it first.
    #[error("trying the model was ended: {0} (engine.quarantine)")]
    Died(#[source] Death),
    /// The process that tried it first refused it, in these words.
    #[error("{0}")]
    Quarantined(String),
    /// It is not given to the runtime.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be run by those who should.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The runtime does not load it.
    #[error("no ONNX model that the runtime can load: {0}")]
    Model(String),
    /// Loading took too long.
    #[error("the runtime needs more than {} s to load the model", .0.as_secs_f64())]
    TimedOut(Duration),
    /// A tensor's type has no counterpart in the protocol.
    #[error("the model's {side} `{name}` is a {kind}, which is not supported")]
    Unsupported {
        /// `input` or `output`.
        side: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        kind: String,
    },
    /// An input does not say how many axes it has.
    #[error("the model's input `{name}` does not declare its axes")]
    NoRank {
        /// Its name.
        name: String,
    },
    /// A bound is given for an axis that there is not.
    #[error("the model has no axis `{name}` that varies; it has {}", list(known))]
    Axis {
        /// The name that was given.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// An axis is to be padded, but cannot be.
    #[error("the axis `{axis}` cannot be padded: {why}")]
    Padding {
        /// Which.
        axis: String,
        /// Why not.
        why: String,
    },
    /// The custom metadata is too large.
    #[error("the model's metadata has {bytes} bytes, but only {METADATA_BYTES_MAX} are allowed")]
    Metadata {
        /// How large it is.
        bytes: usize,
    },
    /// A thread did not start.
    #[error("the model's threads cannot be started")]
    Thread(#[from] io::Error),
    /// A run of the warm-up failed.
    #[error("the model fails to warm up on zeros: {}", .0.report())]
    WarmUp(Box<Fault>),
}

impl LoadError {
    /// Whether the model is not at fault: it may do another time.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoMemory { .. } => true,
            Self::Died(death) => death.is_passing(),
            _ => false,
        }
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

impl ModelOptions {
    fn check(&self) -> Result<(), LoadError> {
        let counts = [
            ("threads", self.threads, THREADS_MAX),
            ("intra_threads", self.intra_threads, THREADS_MAX),
            ("queue_max", self.queue_max, 1 << 20),
        ];
        counts.into_iter().try_for_each(|(name, given, max)| check_option(name, given as i128, max as i128))?;
        let axes = self.axes.iter().map(|(name, rule)| (name.as_str(), rule.max()));
        let mut sizes = [("batch_max", self.batch_max), ("axis_max", self.axis_max)].into_iter().chain(axes);
        sizes.try_for_each(|(name, given)| check_option(name, given.into(), i64::MAX.into()))
    }
}

fn check_option(name: &str, given: i128, max: i128) -> Result<(), LoadError> {
    if (1..=max).contains(&given) { Ok(()) } else { Err(LoadError::Option { name: name.to_owned(), given, max }) }
}

/// A model that is loaded, but not warm.
pub(crate) struct Loaded {
    pub(crate) session: Session,
    pub(crate) info: ModelInfo,
    pub(crate) took: Duration,
    pub(crate) seen: Seen,
    pub(crate) placement: Placement,
}

/// What models are loaded with.
pub(crate) struct Loader<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) watchdog: &'a Watchdog,
    pub(crate) providers: &'a Providers,
}

impl Loader<'_> {
    /// Loads a model within its time, with the signature that it is `known` to have if it was loaded before. Blocks.
    pub(crate) fn load(
        &self,
        name: &str,
        bytes: &[u8],
        options: &ModelOptions,
        known: Option<&Signature>,
    ) -> Result<Loaded, LoadError> {
        options.check()?;
        let begun = Instant::now();
        let seen = inspect(bytes)?;
        tracing::debug!(model = name, ?seen, "a model is given to the runtime");
        let bounds = AxisBounds { batch_max: options.batch_max, axis_max: options.axis_max, named: &options.axes };
        let planned = known.map_or_else(|| plans::guess(&seen, options), |known| plans::decide(known, &seen, options));
        let late = begun + options.load_timeout;
        let (mut session, mut placement) = self.open(bytes, options, planned, late)?;
        let signature = signature::read(&session, &bounds)?;
        if plans::decide(&signature, &seen, options) != planned {
            drop(session);
            (session, placement) = self.open(bytes, options, !planned, late)?;
        }
        if let Some(reason) = &placement.fell_back {
            tracing::warn!(model = name, provider = placement.provider, reason, "a model runs elsewhere than it should");
        }
        let took = begun.elapsed();
        Padding::of(&signature, &options.axes)?;
        let metadata = metadata(&session)?;
        let info = ModelInfo { name: name.to_owned(), signature, metadata };
        Ok(Loaded { session, info, took, seen, placement })
    }

    /// With the providers that it asks for; then, if its function allows that, without those that turn out to be missing.
    fn open(
        &self,
        bytes: &[u8],
        options: &ModelOptions,
        planned: bool,
        late: Instant,
    ) -> Result<(Session, Placement), LoadError> {
        let mut choice = self.providers.choose(options, bytes)?;
        loop {
            let builder = configure(self.environment, options, planned, choice.is_recorded());
            let builder = builder.map_err(|error| LoadError::Model(error.to_string()))?;
            let builder = choice.register(self.environment, builder)?;
            match self.commit(builder, bytes, late) {
                Ok(session) => {
                    let placement = choice.settle(&session)?;
                    return Ok((session, placement));
                }
                Err(_) if Instant::now() >= late => return Err(LoadError::TimedOut(options.load_timeout)),
                Err(reason) => choice.give_up_first(reason)?.map_err(LoadError::Model)?,
            }
        }
    }

    fn commit(&self, mut builder: SessionBuilder, bytes: &[u8], late: Instant) -> Result<Session, String> {
        let canceler = Arc::new(Load(builder.canceler()));
        let watch = self.watchdog.watch(late, canceler);
        // `ort` panics on types that it does not know.
        let session = guard(|| builder.commit_from_memory(bytes));
        drop(watch);
        session
    }
}

/// Cancels a load that takes too long.
struct Load(LoadCanceler);

impl Expire for Load {
    fn expire(self: Arc<Self>) {
        if let Err(error) = self.0.cancel() {
            tracing::warn!(%error, "a model's load cannot be cancelled");
        }
    }
}

/// `planned`: whether the runtime plans the memory of runs. `recorded`: whether it is to remember who was given which nodes.
fn configure(environment: &Environment, options: &ModelOptions, planned: bool, recorded: bool) -> ort::Result<SessionBuilder> {
    let mut builder = Session::builder(environment)?
        // `ort` would look for an accelerator of its own choice.
        .with_auto_device(AutoDevicePolicy::PreferCPU)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_memory_pattern(planned)?
        // Never its own flatbuffers, whose parser trusts them.
        .with_config_entry("session.load_model_format", "ONNX")?
        .with_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)?
        .with_optimization_level(level(options.optimization))?;
    if recorded {
        let (key, value) = assignment::RECORDED;
        builder = builder.with_config_entry(key, value)?;
    }
    Ok(builder)
}

fn level(optimization: Optimization) -> GraphOptimizationLevel {
    match optimization {
        Optimization::All => GraphOptimizationLevel::All,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Debug => GraphOptimizationLevel::Disable,
    }
}

fn metadata(session: &Session) -> Result<Vec<(String, String)>, LoadError> {
    let refused = |error: ort::Error| LoadError::Model(error.to_string());
    let metadata = session.metadata().map_err(refused)?;
    let keys = metadata.custom_keys().map_err(refused)?;
    let mut pairs: Vec<_> = keys.into_iter().filter_map(|key| metadata.custom(&key).map(|value| (key, value))).collect();
    // The runtime keeps them in a hash table.
    pairs.sort();
    let bytes = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX { Err(LoadError::Metadata { bytes }) } else { Ok(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    #[test]
    fn a_load_that_takes_too_long_is_cancelled() {
        let environment = test_support::environment();
        let mut builder = configure(&environment, &ModelOptions::default(), false, false).unwrap();
        Arc::new(Load(builder.canceler())).expire();
        let model = include_bytes!("../tests/models/symbols.onnx");
        let error = builder.commit_from_memory(model).unwrap_err();
        assert_eq!(error.code(), ort::ErrorCode::ModelLoadCanceled, "{error}");
    }

    #[test]
    fn options_are_checked_at_their_bounds() {
        type Change = fn(&mut ModelOptions);
        let with = |change: Change| {
            let mut options = ModelOptions::default();
            change(&mut options);
            options.check().map_err(|error| error.to_string())
        };
        let cases: [(Change, &str); 6] = [
            (|options| options.threads = 0, "`threads` is 0, but must be from 1 to 1024"),
            (|options| options.threads = 1025, "`threads` is 1025, but must be from 1 to 1024"),
            (|options| options.intra_threads = 0, "`intra_threads` is 0, but must be from 1 to 1024"),
            (|options| options.queue_max = 0, "`queue_max` is 0, but must be from 1 to 1048576"),
            (|options| options.batch_max = 0, "`batch_max` is 0, but must be from 1 to 9223372036854775807"),
            (
                |options| options.axes = [("seq".into(), AxisRule::from(-1))].into(),
                "`seq` is -1, but must be from 1 to 9223372036854775807",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(with(change), Err(expected.to_owned()));
        }
        assert_eq!(with(|options| options.threads = 1024), Ok(()));
    }
}
