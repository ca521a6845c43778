//! `sandmill serve`: bind, load, publish, wait for a signal, drain. Reads from top to bottom in that order.

use std::collections::VecDeque;
use std::iter;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sandmill_catalog::FunctionSpec;
use sandmill_catalog::store::Store;
use sandmill_domain::ports::{Control, Keys};
use sandmill_domain::{FunctionName, ReleaseNumber, TenantId, TenantLimits};
use sandmill_edge::{Addresses, Edge, EdgeParts};
use sandmill_engine::{DeviceMemory, Devices, Engine};
use sandmill_pipeline::{Account, Pipeline};
use sandmill_sandbox::{Sandbox, SandboxError, SandboxOptions};
use sandmill_telemetry::Telemetry;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::cli::ServeOptions;
use crate::config::Config;
use crate::control::{ControlPlane, KeyRing, open_store};
use crate::deploy::{Deployer, Place};
use crate::holdings::{Held, Holdings};
use crate::process::take_descriptors;
use crate::report::{say, told};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// For threads to end after all requests have: they have nothing to do any more, or nothing that anybody waits for.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// Functions that are loaded at once at the start: each holds a model's file, and may wait for the one process that compiles.
const LOADERS_MAX: usize = 4;

/// Serves until a signal says to stop.
pub(crate) fn run(options: &ServeOptions, json: bool) -> Result<()> {
    let config = Config::read(options.config.as_deref())?.overridden(options)?;
    let _logs = sandmill_telemetry::start_logs(&config.log.filter, config.log.format.into())?;
    let limits = config.edge_options().limits;
    take_descriptors(u64::from(limits.connections_max) + u64::from(limits.control_connections_max));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime.thread_name("request").enable_all().build().context("cannot start the threads that carry requests")?;
    let served = runtime.block_on(serve(&config, json));
    // A model that is still being loaded is not waited for.
    runtime.shutdown_timeout(SHUTDOWN_TIME);
    served
}

async fn serve(config: &Config, json: bool) -> Result<()> {
    let started = Instant::now();
    // Read before anything is started: what is wrong with it is told at once.
    let source = Source::read(config).await?;
    let deployer = start_deployer(config, Handle::current())?;
    let telemetry = Arc::new(Telemetry::new(VERSION, deployer.engine.version())?);
    let pipeline = Arc::new(Pipeline::default());
    pipeline.watch_host(deployer.engine.ailing());
    watch_devices(&telemetry);
    // They live as long as what they have loaded.
    let holdings = Arc::new(Holdings::new(deployer, Arc::clone(&pipeline), Arc::clone(&telemetry), config.spare_idle()));
    let content = source.open(config, &holdings, &telemetry).await?;
    if let Content::Store(plane) = &content {
        let plane = Arc::downgrade(plane);
        pipeline.watch_remarks(move || plane.upgrade()?.remark());
    }
    let parts = content.parts(Arc::clone(&pipeline), Arc::clone(&telemetry));
    let edge = Edge::bind(config.edge_options(), parts)?;
    let stop = stop_on_signals(Arc::clone(&pipeline), Arc::clone(&telemetry))?;
    let addresses = edge.addresses();
    let (listen, control) = (addresses.listen_url(), addresses.control_url());
    told(json, &json!({ "version": VERSION, "functions": listen, "control": control }), || {
        format!("sandmill {VERSION} on {listen} ({} on {control})", content.controls())
    });

    let serving = tokio::spawn(edge.serve(stopped(stop.subscribe())));
    let loading = tokio::spawn(content.load(config.tenant_limits(), Arc::clone(&holdings)));
    let loaded = tokio::select! {
        loaded = loading => Some(loaded.context("loading the functions was cut off")??),
        () = stopped(stop.subscribe()) => None,
    };
    let following = loaded.map(|loaded| {
        pipeline.set_ready(true);
        telemetry.set_ready(true);
        loaded.announcement.say(&addresses, started.elapsed(), json);
        loaded
            .plane
            .map(|plane| (tokio::spawn(Arc::clone(&plane).follow()), tokio::spawn(Arc::clone(&plane).keep_books()), plane))
    });

    let drained = serving.await.context("serving was cut off")?;
    if let Some((following, books, plane)) = following.flatten() {
        following.abort();
        books.abort();
        plane.write_usage().await;
    }
    if !drained.clean {
        tracing::warn!(connections = drained.cut, "cut off at the end of the drain time");
    }
    Ok(())
}

/// Where functions come from.
enum Source {
    Folders(Vec<FunctionSpec>),
    Store(Store),
}

impl Source {
    async fn read(config: &Config) -> Result<Self> {
        match &config.store.location {
            Some(location) => Ok(Self::Store(open_store(location).await?)),
            None => Ok(Self::Folders(read_functions(&config.functions, config)?)),
        }
    }

    async fn open(self, config: &Config, holdings: &Arc<Holdings>, telemetry: &Arc<Telemetry>) -> Result<Content> {
        match self {
            Self::Folders(specs) => Ok(Content::Folders(specs)),
            Self::Store(store) => {
                Ok(Content::Store(ControlPlane::start(config, store, Arc::clone(holdings), Arc::clone(telemetry)).await?))
            }
        }
    }
}

/// What is to be served.
enum Content {
    Folders(Vec<FunctionSpec>),
    Store(Arc<ControlPlane>),
}

/// What is served.
struct Loaded {
    announcement: Announcement,
    /// None of folders, which are read once.
    plane: Option<Arc<ControlPlane>>,
}

impl Content {
    fn parts(&self, service: Arc<Pipeline>, telemetry: Arc<Telemetry>) -> EdgeParts {
        let (keys, control): (Arc<dyn Keys>, Option<Arc<dyn Control>>) = match self {
            Self::Folders(_) => (Arc::new(KeyRing::empty()), None),
            Self::Store(plane) => (plane.keys(), Some(Arc::clone(plane) as Arc<dyn Control>)),
        };
        EdgeParts { service, keys, control, telemetry, version: VERSION }
    }

    /// What the control listener is for.
    fn controls(&self) -> &'static str {
        match self {
            Self::Folders(_) => "metrics and health",
            Self::Store(_) => "control, metrics and health",
        }
    }

    async fn load(self, limits: TenantLimits, holdings: Arc<Holdings>) -> Result<Loaded> {
        let loading = Arc::clone(&holdings);
        let loaded = match self {
            Self::Folders(specs) => {
                let announcement = Announcement::of(&specs);
                spawn_blocking(move || load(&loading, specs, &Account::new(limits))).await.context("it was cut off")??;
                Loaded { announcement, plane: None }
            }
            Self::Store(plane) => {
                let served = plane.serve_all().await;
                let announcement = Announcement::of_store(&served);
                Loaded { announcement, plane: Some(plane) }
            }
        };
        spawn_blocking(move || holdings.deployer().engine.settle()).await.context("it was cut off")?;
        Ok(loaded)
    }
}

/// Reads every function folder; all errors of all folders at once.
pub(crate) fn read_functions(folders: &[PathBuf], config: &Config) -> Result<Vec<FunctionSpec>> {
    if folders.is_empty() {
        bail!("nothing to serve: name a function folder with --function DIR, or in the configuration's `functions`");
    }
    sandmill_catalog::read_functions(folders, &config.file_limits()).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })
}

/// Starts the engine and the sandbox.
pub(crate) fn start_deployer(config: &Config, runtime: Handle) -> Result<Deployer> {
    let library = sandmill_engine::Runtime::find(config.engine.library.as_deref())?;
    let engine = Engine::start(&library, &config.engine_options())?;
    let sandbox = start_sandbox(config)?;
    let body_bytes_max = config.edge_options().limits.buffered_bytes_max;
    Ok(Deployer { engine, sandbox, runtime, model_options: config.model_options(), body_bytes_max })
}

/// A home that cannot be written to, as in many containers, costs a compilation at each start, and not the start.
fn start_sandbox(config: &Config) -> Result<Sandbox> {
    let options = config.sandbox_options();
    match Sandbox::start(options.clone()) {
        Err(SandboxError::Cache(error)) if config.cache_is_optional() => {
            tracing::warn!("plugins are compiled at each start, as there is no cache for them: {:#}", anyhow!(error));
            Ok(Sandbox::start(SandboxOptions { cache: None, ..options })?)
        }
        started => Ok(started?),
    }
}

/// Several at once, as there are cores: what a function's files hold goes when it is loaded.
fn load(holdings: &Holdings, specs: Vec<FunctionSpec>, account: &Arc<Account>) -> Result<()> {
    let loaders = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(LOADERS_MAX).min(specs.len());
    let specs = Mutex::new(VecDeque::from(specs));
    let lock = || specs.lock().unwrap_or_else(PoisonError::into_inner);
    let deploy = |spec: FunctionSpec| -> Result<Arc<Held>> {
        // A plugin that is new here may take minutes to compile: whoever waits wants to know for what.
        tracing::info!(function = %spec.name, "loading");
        let place = Place {
            tenant: TenantId::local(),
            number: ReleaseNumber::FIRST,
            known: false,
            account: Arc::clone(account),
            journal: Arc::default(),
            keep_in: None,
            beside: Vec::new(),
        };
        Ok(Arc::new(Held::new(holdings.deployer().deploy(&spec, &place)?)))
    };
    let loaded = thread::scope(|scope| {
        let work = || {
            let loaded = iter::from_fn(|| lock().pop_front()).map(deploy);
            // After the first error, nobody begins with another.
            loaded
                .inspect(|loaded| {
                    if loaded.is_err() {
                        lock().clear()
                    }
                })
                .collect()
        };
        let loaders: Vec<_> = (0..loaders).map(|_| scope.spawn(work)).collect();
        let joined: Vec<_> =
            loaders.into_iter().map(|loader| loader.join().unwrap_or_else(|_| bail!("a function's load panicked"))).collect();
        joined.into_iter().collect::<Result<Vec<Vec<_>>>>()
    })?;
    // All or none.
    loaded.iter().flatten().for_each(|held| holdings.publish(held, &[]));
    Ok(())
}

/// The memory of devices is asked whenever somebody looks; their driver is looked for once, when they are asked first.
fn watch_devices(telemetry: &Arc<Telemetry>) {
    let (devices, page) = (OnceLock::new(), Arc::downgrade(telemetry));
    telemetry.ask(move || {
        let Some(telemetry) = page.upgrade() else { return false };
        for DeviceMemory { device, total, used, own } in devices.get_or_init(Devices::find).memory() {
            telemetry.device_memory(device, total, used, own);
        }
        true
    });
}

/// What is said when all functions are warm.
struct Announcement {
    names: String,
    /// The first function with a sample, and the sample's file.
    sample: Option<(String, PathBuf)>,
}

impl Announcement {
    fn of(specs: &[FunctionSpec]) -> Self {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let sample = specs.iter().find_map(|spec| Some((spec.name.to_string(), spec.sample.as_ref()?.file.clone()?)));
        Self { names: names.join(", "), sample }
    }

    fn of_store(names: &[(TenantId, FunctionName)]) -> Self {
        let names = match names.len() {
            0 => "no functions yet; `sandmill deploy DIR` adds them".to_owned(),
            1 => "1 function".to_owned(),
            count => format!("{count} functions"),
        };
        Self { names, sample: None }
    }

    fn say(&self, addresses: &Addresses, took: Duration, as_json: bool) {
        let seconds = took.as_secs_f64();
        told(as_json, &json!({ "ready_after_s": seconds }), || format!("ready after {seconds:.2} s: {}", self.names));
        if as_json {
            return;
        }
        if let Some((name, file)) = &self.sample {
            let here = std::env::current_dir().unwrap_or_default();
            let file = file.strip_prefix(here).unwrap_or(file).display();
            // A certificate is for a name, and not for this address.
            let insecure = if addresses.listen_tls { "--insecure " } else { "" };
            say(&format!("try: curl {insecure}--data-binary @{file} {}/fn/{name}", addresses.listen_url()));
        }
    }
}

/// Turns the first SIGTERM or Ctrl-C into a stop; readiness goes first. A second one ends the process at once.
fn stop_on_signals(pipeline: Arc<Pipeline>, telemetry: Arc<Telemetry>) -> Result<watch::Sender<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let stop = watch::Sender::new(false);
    let sender = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        };
        next().await;
        tracing::info!("stopping: no new connections; requests under way are finished; a second signal ends at once");
        pipeline.set_ready(false);
        telemetry.set_ready(false);
        sender.send_replace(true);
        next().await;
        tracing::warn!("ended by a second signal");
        std::process::exit(130);
    });
    Ok(stop)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender is gone only when the process ends: that is a stop as well.
    let _stop_or_end = stop.wait_for(|stop| *stop).await;
}
