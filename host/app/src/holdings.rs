//! The releases that this host has loaded: made, served, kept for a while, and dropped when the last request has left them. Knows
//! nothing of where they come from.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use sandmill_catalog::FunctionSpec;
use sandmill_domain::ports::Model;
use sandmill_domain::{FunctionName, ModelEvent, ReleaseNumber, TenantId};
use sandmill_engine::OnnxModel;
use sandmill_pipeline::{Pipeline, Release, Served};
use sandmill_sandbox::{Loaded, Snapshot};
use sandmill_telemetry::{PluginLoad, Telemetry};
use tempfile::TempDir;

use crate::deploy::{Deployed, Deployer, Measured, Place};

/// What this host has loaded.
pub(crate) struct Holdings {
    deployer: Deployer,
    pipeline: Arc<Pipeline>,
    telemetry: Arc<Telemetry>,
    /// How long a release that may be gone back to stays warm.
    spare_idle: Duration,
    held: Mutex<ByFunction>,
    /// Not served any more, and perhaps still at work.
    retired: Mutex<Vec<Arc<Held>>>,
}

/// All loaded releases.
type ByFunction = HashMap<(TenantId, FunctionName), Vec<Arc<Held>>>;

/// One loaded release.
pub(crate) struct Held {
    pub(crate) release: Arc<Release>,
    pub(crate) deployed: Arc<Deployed>,
    /// Whether it is the one that answers: only that one's models are on the page of metrics.
    answers: Arc<AtomicBool>,
    /// Whether it ever was.
    noted: AtomicBool,
    /// Its files, which further sessions are read from; none for a folder that is not ours.
    folder: Option<Arc<TempDir>>,
}

impl Held {
    /// The same under another number.
    pub(crate) fn renumbered(&self, number: ReleaseNumber) -> Self {
        let release = Arc::new(self.release.renumbered(number));
        let (deployed, folder) = (Arc::clone(&self.deployed), self.folder.clone());
        Self { release, deployed, answers: Arc::default(), noted: AtomicBool::new(false), folder }
    }

    pub(crate) fn number(&self) -> ReleaseNumber {
        self.release.number()
    }
}

impl Holdings {
    pub(crate) fn new(deployer: Deployer, pipeline: Arc<Pipeline>, telemetry: Arc<Telemetry>, spare_idle: Duration) -> Self {
        Self { deployer, pipeline, telemetry, spare_idle, held: Mutex::default(), retired: Mutex::default() }
    }

    /// Loads a release, which is served by nobody yet. Blocking, for as long as that takes.
    pub(crate) fn make(&self, spec: &FunctionSpec, place: &Place, folder: Option<TempDir>) -> Result<Held> {
        let deployed = Arc::new(self.deployer.deploy(spec, place)?);
        let release = Arc::clone(&deployed.release);
        Ok(Held { release, deployed, answers: Arc::default(), noted: AtomicBool::new(false), folder: folder.map(Arc::new) })
    }

    /// Those of a function that are loaded.
    pub(crate) fn of(&self, tenant: &TenantId, function: &FunctionName) -> Vec<Arc<Held>> {
        lock(&self.held).get(&(tenant.clone(), function.clone())).cloned().unwrap_or_default()
    }

    /// The one that answers.
    pub(crate) fn current(&self, tenant: &TenantId, function: &FunctionName) -> Option<Arc<Held>> {
        let served = self.pipeline.served(tenant, function)?;
        self.of(tenant, function).into_iter().find(|held| held.number() == served.current().number())
    }

    /// Has `current` answer from now on, and the others by their numbers; whatever else of the function was loaded goes, when the
    /// last request has left it.
    pub(crate) fn publish(&self, current: &Arc<Held>, others: &[Arc<Held>]) {
        let (tenant, function) = (current.release.tenant().clone(), current.release.function().clone());
        current.answers.store(true, Ordering::Relaxed);
        if !current.noted.swap(true, Ordering::Relaxed) {
            self.note(current);
        }
        each_model(current, |model| model.spare(None));
        let served = others.iter().fold(Served::new(Arc::clone(&current.release)), |served, other| {
            other.answers.store(false, Ordering::Relaxed);
            each_model(other, |model| model.spare(Some(self.spare_idle)));
            served.with(Arc::clone(&other.release))
        });
        let now: Vec<_> = others.iter().chain([current]).cloned().collect();
        self.pipeline.publish(served);
        let before = lock(&self.held).insert((tenant, function), now.clone());
        let gone = before.into_iter().flatten().filter(|held| !now.iter().any(|other| Arc::ptr_eq(held, other)));
        lock(&self.retired).extend(gone);
    }

    /// Serves a function no more.
    pub(crate) fn withdraw(&self, tenant: &TenantId, function: &FunctionName) {
        self.pipeline.withdraw(tenant, function);
        let gone = lock(&self.held).remove(&(tenant.clone(), function.clone()));
        lock(&self.retired).extend(gone.into_iter().flatten());
        self.telemetry.forget(tenant, function);
    }

    /// All functions that anything is loaded of.
    pub(crate) fn names(&self) -> Vec<(TenantId, FunctionName)> {
        lock(&self.held).keys().cloned().collect()
    }

    /// Drops what is served no more and has no request left. Blocking: a model's threads are waited for.
    pub(crate) fn sweep(&self) {
        let mut retired = std::mem::take(&mut *lock(&self.retired));
        // One reference is the holder's own; whoever made it may have another for a moment.
        let (gone, busy): (Vec<_>, Vec<_>) = retired
            .drain(..)
            .partition(|held| Arc::strong_count(held) == 1 && Arc::strong_count(&held.release) <= references(held));
        lock(&self.retired).extend(busy);
        drop(gone);
    }

    /// What was seen while it was made goes to the log and the metrics, and so does what happens to it from now on.
    fn note(&self, held: &Held) {
        let (release, deployed) = (&held.release, &*held.deployed);
        let (tenant, function) = (release.tenant(), release.function());
        let telemetry = &self.telemetry;
        // Of a function's models together: one that waits, waits for all.
        let model_load: Duration = deployed.measured.iter().map(|model| model.times.load).sum();
        let warm_up: Duration = deployed.measured.iter().map(|model| model.times.warm_up).sum();
        if !deployed.measured.is_empty() {
            telemetry.loaded(tenant, function, model_load, warm_up);
        }
        if let Some(load) = sum(&deployed.loads) {
            telemetry.plugin_loaded(tenant, function, &load);
        }
        deployed.models.iter().for_each(|model| self.watch(held, model));
        if release.model().is_some() {
            let metrics = telemetry.breaker(tenant, function);
            release.watch_breaker(move |to| metrics.moved(to));
        }
        let (page, name) = (Arc::clone(telemetry), (tenant.clone(), function.clone()));
        release.watch_cut_off(move |running| page.cut_off(&name.0, &name.1, running));
        let plugin_load: Duration = deployed.loads.iter().map(|(_, load)| load.time).sum();
        let compiled = deployed.loads.iter().filter(|(_, load)| !load.cached).count();
        for Measured { name, placement, profile, .. } in &deployed.measured {
            telemetry.placed(tenant, function, &placement.provider);
            let (provider, fell_back) = (&placement.provider, &placement.fell_back);
            tracing::info!(%tenant, %function, model = name, provider, ?fell_back, shares = ?placement.shares, "placed");
            let (batches, inline) = (&profile.batches, &profile.inline);
            tracing::info!(%tenant, %function, model = name, sizes = ?profile.sizes, ?batches, ?inline, "measured");
        }
        tracing::info!(%tenant, %function, release = %held.number(), ?model_load, ?plugin_load, compiled, "loaded");
    }

    /// What happens to a model goes to the metrics, and a run that does not end opens its function's breaker.
    fn watch(&self, held: &Held, model: &Arc<OnnxModel>) {
        let metrics = self.telemetry.model(held.release.tenant(), held.release.function(), &model.info().name);
        let (release, told) = (Arc::downgrade(&held.release), metrics.clone());
        model.watch(move |event| {
            told.happened(event);
            if let (ModelEvent::Abandoned, Some(release)) = (event, release.upgrade()) {
                release.trip();
            }
        });
        let (model, answers) = (Arc::downgrade(model), Arc::clone(&held.answers));
        self.telemetry.ask(move || {
            let Some(model) = model.upgrade() else { return false };
            if answers.load(Ordering::Relaxed) {
                metrics.stands(&model.state());
            }
            true
        });
    }
}

/// Of a release that no request holds: its own, and that of what it was made as, if that is the same.
fn references(held: &Held) -> usize {
    if Arc::ptr_eq(&held.release, &held.deployed.release) { 2 } else { 1 }
}

fn each_model(held: &Held, what: impl Fn(&OnnxModel)) {
    held.deployed.models.iter().for_each(|model| what(model));
}

/// Of a function's plugins together; none without a plugin.
fn sum(loads: &[(PathBuf, Loaded)]) -> Option<PluginLoad> {
    let snapshots = loads.iter().filter_map(|(_, load)| match &load.made.snapshot {
        Snapshot::Taken { time } => Some(*time),
        Snapshot::NoInit | Snapshot::Impossible(_) => None,
    });
    (!loads.is_empty()).then(|| PluginLoad {
        cached: loads.iter().all(|(_, load)| load.cached),
        compile: loads.iter().map(|(_, load)| load.made.compile_time).sum(),
        snapshot: snapshots.reduce(|one, other| one + other),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
