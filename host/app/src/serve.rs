//! `sandmill serve`: bind, load, publish, wait for a signal, drain. Reads from top to bottom in that order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sandmill_catalog::FunctionSpec;
use sandmill_domain::TenantId;
use sandmill_domain::ports::Service;
use sandmill_edge::{Addresses, Edge};
use sandmill_engine::Engine;
use sandmill_pipeline::{Pipeline, Release};
use sandmill_sandbox::Sandbox;
use sandmill_telemetry::Telemetry;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::ServeOptions;
use crate::config::Config;
use crate::deploy::Deployer;
use crate::report::say;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Serves until a signal says to stop.
pub(crate) fn run(options: &ServeOptions) -> Result<()> {
    let config = Config::read(options.config.as_deref())?.overridden(options)?;
    sandmill_telemetry::start_logs(&config.log.filter, config.log.format.into())?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime.thread_name("request").enable_all().build().context("cannot start the threads that carry requests")?;
    runtime.block_on(serve(&config))
}

async fn serve(config: &Config) -> Result<()> {
    let started = Instant::now();
    let specs = read_functions(&config.functions)?;
    let deployer = start_deployer(config, Handle::current())?;
    let telemetry = Arc::new(Telemetry::new(VERSION, deployer.engine.version())?);
    let pipeline = Arc::new(Pipeline::default());
    let service = Arc::clone(&pipeline) as Arc<dyn Service>;
    let edge = Edge::bind(config.edge_options(), service, Arc::clone(&telemetry), VERSION)?;
    let addresses = edge.addresses();
    say(&format!("sandmill {VERSION} on http://{} (metrics and health on http://{})", addresses.listen, addresses.control));

    let stop = stop_on_signals(Arc::clone(&pipeline), Arc::clone(&telemetry))?;
    let serving = tokio::spawn(edge.serve(stopped(stop.subscribe())));
    let loading = tokio::task::spawn_blocking({
        let telemetry = Arc::clone(&telemetry);
        move || load(&deployer, &specs, &telemetry).map(|releases| (deployer, specs, releases))
    });
    let (_deployer, specs, releases) = tokio::select! {
        loaded = loading => loaded.context("loading the functions was cut off")??,
        () = stopped(stop.subscribe()) => bail!("stopped before the functions were loaded"),
    };
    pipeline.publish(releases);
    pipeline.set_ready(true);
    telemetry.set_ready(true);
    announce(&specs, &addresses, started.elapsed());
    // With them goes the content of every file that was read.
    drop(specs);

    let drained = serving.await.context("serving was cut off")?;
    if !drained.clean {
        tracing::warn!(connections = drained.cut, "cut off at the end of the drain time");
    }
    Ok(())
}

/// Reads every function folder; all errors of all folders at once.
pub(crate) fn read_functions(folders: &[PathBuf]) -> Result<Vec<FunctionSpec>> {
    if folders.is_empty() {
        bail!("nothing to serve: name a function folder with --function DIR, or in the configuration's `functions`");
    }
    sandmill_catalog::read_functions(folders, &sandmill_catalog::FileLimits::default()).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })
}

/// Starts the engine and the sandbox.
pub(crate) fn start_deployer(config: &Config, runtime: Handle) -> Result<Deployer> {
    let library = sandmill_engine::Runtime::find(config.engine.library.as_deref())?;
    let engine = Engine::start(&library, config.engine_options())?;
    let sandbox = Sandbox::start(config.sandbox_options())?;
    Ok(Deployer { engine, sandbox, runtime })
}

fn load(deployer: &Deployer, specs: &[FunctionSpec], telemetry: &Telemetry) -> Result<Vec<Release>> {
    let mut releases = Vec::with_capacity(specs.len());
    for spec in specs {
        let deployed = deployer.deploy(spec)?;
        if let Some(times) = &deployed.times {
            telemetry.loaded(&TenantId::local(), &spec.name, times.load, times.warm_up);
        }
        tracing::info!(function = %spec.name, model_load = ?deployed.times.as_ref().map(|times| times.load), "loaded");
        releases.push(deployed.release);
    }
    Ok(releases)
}

fn announce(specs: &[FunctionSpec], addresses: &Addresses, took: Duration) {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    say(&format!("ready after {:.2} s: {}", took.as_secs_f64(), names.join(", ")));
    let sample = specs.iter().find_map(|spec| Some((&spec.name, spec.sample.as_ref()?.file.as_ref()?)));
    if let Some((name, file)) = sample {
        let here = std::env::current_dir().unwrap_or_default();
        let file = file.strip_prefix(here).unwrap_or(file).display();
        say(&format!("try: curl --data-binary @{file} http://{}/fn/{name}", addresses.listen));
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
