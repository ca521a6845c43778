//! Tensors on a model: loads ONNX models into ONNX Runtime, warms them, and runs them on threads of their own behind bounded
//! queues, each run within its deadline. It lends the buffers that tensors are decoded into.
//!
//! The only crate that knows `ort`. It knows nothing of plugins, of HTTP, of where models are kept, or of how they are measured.

mod assignment;
mod batch;
mod builder;
mod call;
mod compare;
mod context;
mod devices;
mod golden;
mod hands;
mod inspect;
mod keeper;
mod library;
mod life;
mod load;
mod log;
mod memory;
mod noise;
mod notebook;
mod order;
mod pace;
mod pad;
mod plan;
mod plans;
mod pool;
mod processors;
mod profile;
mod providers;
mod quarantine;
mod queue;
mod raw;
mod recycler;
mod rows;
mod running;
mod scaler;
mod session;
mod signature;
mod trial;
mod trial_ground;
mod trust;
mod warm_up;
mod watchdog;

use std::env;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use ort::environment::Environment;
use sandmill_domain::ports::{BoxFuture, Inference, Model};
use sandmill_domain::{Fault, Lender, ModelEvent, ModelInfo, ModelProfile, ModelStage, ModelState, Tensor, Urgency};
use thiserror::Error;

use crate::builder::{Builder, First, Wrap};
use crate::context::{Contexts, Patron};
use crate::hands::Hands;
use crate::keeper::Threads;
use crate::life::Life;
use crate::plan::Called;
use crate::pool::Pool;
use crate::processors::{Part, Processors};
use crate::profile::{Measure, Measured};
use crate::queue::Queue;
use crate::session::Seat;
use crate::trial_ground::TrialGround;
use crate::watchdog::Watchdog;

pub use crate::devices::{DeviceMemory, Devices};
pub use crate::inspect::Refusal;
use crate::inspect::Seen;
pub use crate::library::{LibraryError, Runtime};
pub use crate::load::{LoadError, LoadTimes, ModelOptions, ModelSource, Read};
use crate::providers::Providers;
pub use crate::providers::{EngineFolderError, Placement, ProviderError, ProviderLibrary, ProviderOptions, ProviderSetupError};
pub use crate::quarantine::{QuarantineOptions, serve_quarantine};
pub use crate::recycler::Budget;
pub use crate::session::{Session, Stop};

/// For a run to end that was told to.
const GRACE: Duration = Duration::from_secs(2);

/// The bounds of what all models share.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The bytes of buffers lent at once, rounded up to powers of two each.
    pub buffer_bytes_max: usize,
    /// The bytes of buffers kept for the next who asks.
    pub buffer_idle_bytes_max: usize,
    /// The bytes of all models' sessions together; none for what the machine, or the control group, has left.
    pub memory_bytes_max: Option<usize>,
    /// Where models are tried first; none for nowhere, which is for tests and for models that one has made oneself.
    pub quarantine: Option<QuarantineOptions>,
    /// Where it is kept what was found out about models, so that it is found out once; none for nowhere.
    pub notes: Option<PathBuf>,
    /// Runs that would not end and are left to themselves: with more of them the host is not ready.
    pub abandoned_max: usize,
    /// What the operator gives to those who run models' nodes.
    pub providers: ProviderOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            buffer_bytes_max: 512 << 20,
            buffer_idle_bytes_max: 64 << 20,
            memory_bytes_max: None,
            quarantine: None,
            notes: None,
            abandoned_max: 2,
            providers: ProviderOptions::default(),
        }
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

/// ONNX Runtime in this process, the memory that its models' tensors lie in, the watchdog over their runs, and the threads that keep
/// their sessions.
pub struct Engine {
    library: PathBuf,
    version: String,
    builder: Builder,
    trial_ground: Arc<TrialGround>,
    abandoned_max: usize,
    threads: Threads,
    processors: Arc<Processors>,
}

impl Engine {
    /// Loads the library, unless the process has it already, and starts the engine's threads.
    ///
    /// # Errors
    /// If the file is not an ONNX Runtime of version 1.31 or later, or another one is loaded, or a provider that the operator has
    /// declared cannot be had.
    pub fn start(library: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let environment: Environment = library::environment(library)?;
        let pool = Arc::new(Pool::new(options.buffer_bytes_max, options.buffer_idle_bytes_max));
        let version = raw::version(&environment).unwrap_or_else(|| "unknown".to_owned());
        let providers = Arc::new(Providers::start(&environment, &version, &options.providers)?);
        Ok(Self {
            trial_ground: Arc::new(TrialGround::open(library, &version, options)),
            // As the kernel names it.
            library: library.canonicalize().unwrap_or_default(),
            version,
            builder: Builder {
                environment,
                providers,
                watchdog: Arc::new(Watchdog::start()?),
                pool,
                wrap: None,
                urgent: Hands::new(false),
                calm: Hands::new(true),
            },
            abandoned_max: options.abandoned_max,
            threads: Threads::start(options.memory_bytes_max)?,
            processors: Processors::of_this_machine(),
        })
    }

    /// Puts something between the runtime's sessions and whoever runs them: for whoever tests what is done with sessions that fail.
    #[must_use]
    pub fn wrapping(mut self, wrap: impl Fn(Box<dyn Session>) -> Box<dyn Session> + Send + Sync + 'static) -> Self {
        self.builder.wrap = Some(Arc::new(wrap) as Arc<Wrap>);
        self
    }

    /// The version of ONNX Runtime: `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Asks, at any time, what is wrong with the engine as a whole, so that its host should get no more requests.
    pub fn ailing(&self) -> impl Fn() -> Option<String> + Send + Sync + use<> {
        let (keeper, max) = (Arc::clone(&self.threads.keeper), self.abandoned_max);
        move || {
            let strays = usize::try_from(keeper.strays.load(Ordering::Relaxed)).unwrap_or(0);
            (strays > max).then(|| format!("{strays} runs of models do not end, more than {max} (engine.abandoned_max)"))
        }
    }

    /// Gives back to the system what starting took and serving does not: what the C library keeps, and code and constants that are not
    /// needed again. It holds up whoever else asks for memory meanwhile.
    pub fn settle(&self) {
        let program = env::current_exe().unwrap_or_default();
        memory::give_back_code(&[&program, &self.library]);
        memory::give_back();
    }

    /// Loads a model, warms it up and starts its threads. Blocks for seconds at worst: not for a thread that carries requests.
    ///
    /// # Errors
    /// If an option is out of bounds, a provider is missing and nothing said of a fallback, the runtime refuses the model, its signature has no counterpart in the protocol, a bound is
    /// given for an axis that it does not have, it fails on zeros, its time is over, or there is no memory for it.
    pub fn load(&self, source: ModelSource, options: &ModelOptions) -> Result<OnnxModel, LoadError> {
        let (wanted, there) = (options.threads * options.intra_threads, available_parallelism().map_or(1, NonZeroUsize::get));
        if wanted > there {
            tracing::warn!(model = source.name, wanted, there, "its runs want more processors than there are: they take turns");
        }
        self.trial_ground.try_first(&source, options)?;
        let First { live, info, seen, golden, times, placement } = self.builder.first(&source, options)?;
        let (info, golden, cost) = (Arc::new(info), Arc::new(golden), live.warm_bytes);
        // What it takes is known only now.
        if !self.threads.keeper.make_room_for_first(cost) {
            return Err(LoadError::NoMemory { bytes: cost });
        }
        // What a device runs takes no processor while it does, and so needs no turn on one.
        let share = source.share.clone().filter(|_| placement.is_on_cpu());
        let threads = u32::try_from(options.intra_threads).unwrap_or(u32::MAX);
        let part = share.map(|share| Part { processors: Arc::clone(&self.processors), share, threads });
        let queue = Arc::new(Queue::new(options.queue_max, options.queue_bytes_max, options.threads));
        let seat = Arc::new(Seat::default());
        seat.remember(Arc::clone(&golden));
        seat.swap(Some(live));
        let life = Arc::new(Life::new(
            life::Parts {
                builder: self.builder.clone(),
                source,
                options: options.clone(),
                info: Arc::clone(&info),
                golden,
                queue: Arc::clone(&queue),
                seat: Arc::clone(&seat),
                keeper: Arc::downgrade(&self.threads.keeper),
            },
            cost,
        ));
        let patron: Arc<dyn Patron> = Arc::clone(&life) as _;
        let contexts = Contexts::start(context::Parts {
            name: info.name.clone(),
            queue: Arc::clone(&queue),
            seat: Arc::clone(&seat),
            lender: Arc::clone(&self.builder.pool) as Arc<dyn Lender>,
            watchdog: Arc::clone(&self.builder.watchdog),
            strays: Arc::clone(&self.threads.keeper.strays),
            patron: Arc::downgrade(&patron),
            part,
        });
        self.threads.keeper.keep(&life);
        let (builder, mut options, profile) = (self.builder.clone(), options.clone(), OnceLock::new());
        if !placement.is_on_cpu() {
            // A device may compile, search or wait for others at any run, however short they were before.
            options.inline_max = Duration::ZERO;
        }
        let trial_ground = Arc::clone(&self.trial_ground);
        Ok(OnnxModel {
            trial_ground,
            placement,
            info,
            times,
            options,
            seen,
            profile,
            builder,
            queue,
            seat,
            life,
            contexts,
            _rest: Rest,
        })
    }
}

/// A model that was loaded and warmed, and is again whenever its session is replaced. Dropping it joins its threads: at once, unless a
/// run that nobody waits for any more is inside a long kernel; it waits 5 seconds for that one at most.
pub struct OnnxModel {
    trial_ground: Arc<TrialGround>,
    info: Arc<ModelInfo>,
    times: LoadTimes,
    options: ModelOptions,
    placement: Placement,
    seen: Seen,
    profile: OnceLock<ModelProfile>,
    builder: Builder,
    queue: Arc<Queue>,
    seat: Arc<Seat>,
    /// Goes before its life, which hears of the runs that it waits for.
    contexts: Contexts,
    life: Arc<Life>,
    /// Goes last.
    _rest: Rest,
}

/// Of a model that goes, what the C library would keep.
struct Rest;

impl Drop for Rest {
    fn drop(&mut self) {
        memory::give_back();
    }
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
    pub fn measure(&self) -> &ModelProfile {
        self.profile.get_or_init(|| {
            let called = self.contexts.take_called();
            let measured = self.trial_ground.measure(&self.life, &self.options, &called);
            let Measured { plan, profile, warm } = measured.unwrap_or_else(|| self.measure_like(called));
            self.contexts.adopt(plan);
            if let Some(warm) = warm {
                self.life.adopt(warm);
            }
            profile
        })
    }

    /// Here and now.
    pub(crate) fn measure_like(&self, called: Vec<Called>) -> Measured {
        self.take_measure(called).unwrap_or_else(Measured::nothing)
    }

    /// None if it does not end.
    fn take_measure(&self, called: Vec<Called>) -> Option<Measured> {
        let live = self.seat.get()?;
        let (builder, info, options, seen) = (self.builder.clone(), Arc::clone(&self.info), self.options.clone(), self.seen);
        let measured = self.builder.urgent.within(self.options.profile_time + GRACE, move || {
            let (signature, lender) = (&info.signature, &*builder.pool);
            let trial = builder.trial(&*live.session, &options);
            Measure { trial, called, signature, lender, options: &options, seen }.take()
        });
        measured.unwrap_or_default()
    }

    /// Whether another one, loaded now from the same bytes, could be no better: it is warm and well, was measured, runs where it was
    /// asked for, and has no run that was left to itself.
    pub fn is_as_new(&self) -> bool {
        let state = self.state();
        let is_measured = state.profile.as_ref().is_some_and(|profile| !profile::is_nothing(profile));
        let is_well = state.stage == ModelStage::Warm && state.ailing.is_none() && state.abandoned == 0;
        is_well && is_measured && self.placement.fell_back.is_none() && self.queue.may_have_tasks()
    }

    /// Tells of what happens to it from now on; before, nobody calls it, and it does not go for that. `told` must be quick, and is asked on threads that keep models; the first holds.
    pub fn watch(&self, told: impl Fn(&ModelEvent) + Send + Sync + 'static) {
        self.life.watch(Box::new(told));
    }
}

impl Model for OnnxModel {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    fn lender(&self) -> &dyn Lender {
        &*self.builder.pool
    }

    fn check(&self, urgency: Urgency) -> Result<(), Fault> {
        self.queue.check(urgency)
    }

    fn ailing(&self) -> Option<String> {
        self.life.ailing()
    }

    fn is_missed(&self) -> bool {
        self.life.is_missed()
    }

    fn recycle(&self) {
        self.life.recycle();
    }

    fn load(&self) {
        self.life.fetch();
    }

    fn unload(&self) {
        self.life.put_down();
    }

    fn spare(&self, idle: Option<Duration>) {
        self.life.spare(idle);
    }

    fn state(&self) -> ModelState {
        let live = self.seat.get();
        let (waiting, running) = self.queue.load();
        ModelState {
            stage: self.life.stage(),
            ailing: self.life.ailing(),
            served: live.as_ref().map_or(0, |live| live.served()),
            age: live.as_ref().map_or(Duration::ZERO, |live| live.born.elapsed()),
            memory_bytes: self.life.memory_bytes(),
            warm_memory_bytes: live.as_ref().map_or(0, |live| live.warm_bytes),
            abandoned: self.life.strays(),
            waiting,
            running,
            profile: self.profile.get().cloned(),
        }
    }

    /// Queues the run at once, before the future is polled; the future resolves at the deadline at the latest.
    fn infer(&self, inputs: Vec<Tensor>, urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        let answer = self.contexts.submit(inputs, urgency);
        Box::pin(async move {
            let ran = answer?.wait().await;
            if let Err(fault) = &ran {
                self.life.failed(fault);
            }
            ran
        })
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
    use std::sync::Arc;

    use ort::environment::Environment;
    use sandmill_domain::{Fault, Tensor};

    use crate::context::{Contexts, Parts, Patron};
    use crate::library;
    use crate::pool::Pool;
    use crate::processors::Part;
    use crate::queue::Queue;
    use crate::session::{Live, Seat, Session, Stop};
    use crate::watchdog::Watchdog;

    /// The process's environment, from the library of the project's set-up.
    pub(crate) fn environment() -> Environment {
        let set_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.sandmill/lib/libonnxruntime.so.1.31.1");
        let path = env::var_os("ORT_DYLIB_PATH").map_or(set_up, PathBuf::from);
        library::environment(&path).expect("the tests need the ONNX Runtime library: type `make setup`")
    }

    /// A session that is a function.
    pub(crate) struct Fake<F>(pub(crate) F);

    impl<F: Fn(&[Tensor]) -> Result<Vec<Tensor>, Fault> + Send + Sync> Session for Fake<F> {
        fn run(&self, inputs: &[Tensor], _stop: Stop<'_>) -> Result<Vec<Tensor>, Fault> {
            self.0(inputs)
        }

        fn memory_bytes(&self) -> usize {
            0
        }
    }

    /// One context on such a session.
    pub(crate) fn contexts(queue: Queue, session: impl Session + 'static, patron: &Arc<dyn Patron>) -> Contexts {
        contexts_of(queue, session, patron, None)
    }

    /// The same, taking turns with others.
    pub(crate) fn contexts_of(
        queue: Queue,
        session: impl Session + 'static,
        patron: &Arc<dyn Patron>,
        part: Option<Part>,
    ) -> Contexts {
        environment();
        let seat = Arc::new(Seat::default());
        seat.swap(Some(Live::new(Box::new(session))));
        Contexts::start(Parts {
            name: "fake".to_owned(),
            queue: Arc::new(queue),
            seat,
            lender: Arc::new(Pool::new(1 << 20, 0)),
            watchdog: Arc::new(Watchdog::start().expect("a thread")),
            strays: Arc::default(),
            patron: Arc::downgrade(patron),
            part,
        })
    }

    /// Does nothing for anybody.
    pub(crate) struct Idle;

    impl Patron for Idle {
        fn load(&self) {}

        fn look(&self) {}

        fn ran(&self, _took: std::time::Duration) {}

        fn strayed(&self, _strays: bool) {}
    }
}
