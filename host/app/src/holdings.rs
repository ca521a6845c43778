//! The releases that this host has loaded: made, served, kept for a while, and dropped when the last request has left them. Knows
//! nothing of where they come from.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandmill_domain::ports::Model;
use sandmill_domain::{FunctionName, ModelEvent, ReleaseNumber, TenantId};
use sandmill_pipeline::{Pipeline, Release, Served};
use sandmill_sandbox::{Loaded, Snapshot};
use sandmill_telemetry::{PluginLoad, Telemetry};

use crate::deploy::{Deployed, Deployer, Measured};
use crate::loaded_model::LoadedModel;

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
    /// Functions that are served no more. What was counted of them is kept until their last request has ended.
    leaving: Mutex<HashSet<Name>>,
}

type Name = (TenantId, FunctionName);

/// All loaded releases.
type ByFunction = HashMap<Name, Vec<Arc<Held>>>;

/// One loaded release.
pub(crate) struct Held {
    pub(crate) release: Arc<Release>,
    pub(crate) deployed: Arc<Deployed>,
    /// Whether it is the one that answers: where only that one's models stand is on the page of metrics, what happens is of all.
    answers: Arc<AtomicBool>,
    /// Whether it ever was.
    noted: AtomicBool,
    /// Whether what happens to its models is told.
    watched: AtomicBool,
}

impl Held {
    /// A release that is loaded, and served by nobody yet.
    pub(crate) fn new(deployed: Deployed) -> Self {
        Self::of(Arc::clone(&deployed.release), Arc::new(deployed))
    }

    /// The same under another number.
    pub(crate) fn renumbered(&self, number: ReleaseNumber) -> Self {
        let release = Arc::new(self.release.renumbered(number));
        Self::of(release, Arc::clone(&self.deployed))
    }

    fn of(release: Arc<Release>, deployed: Arc<Deployed>) -> Self {
        let (noted, watched) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { release, deployed, answers: Arc::default(), noted, watched }
    }

    fn has(&self, model: &Arc<LoadedModel>) -> bool {
        self.deployed.models.iter().any(|own| Arc::ptr_eq(own, model))
    }

    pub(crate) fn number(&self) -> ReleaseNumber {
        self.release.number()
    }
}

impl Holdings {
    pub(crate) fn new(deployer: Deployer, pipeline: Arc<Pipeline>, telemetry: Arc<Telemetry>, spare_idle: Duration) -> Self {
        let (held, retired, leaving) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { deployer, pipeline, telemetry, spare_idle, held, retired, leaving }
    }

    /// What makes releases.
    pub(crate) fn deployer(&self) -> &Deployer {
        &self.deployer
    }

    /// Those of a function that are loaded.
    pub(crate) fn of(&self, tenant: &TenantId, function: &FunctionName) -> Vec<Arc<Held>> {
        lock(&self.held).get(&(tenant.clone(), function.clone())).cloned().unwrap_or_default()
    }

    /// All models that are loaded of a function, one that several releases have perhaps several times.
    pub(crate) fn models(&self, tenant: &TenantId, function: &FunctionName) -> Vec<Arc<LoadedModel>> {
        self.of(tenant, function).iter().flat_map(|held| held.deployed.models.iter().cloned()).collect()
    }

    /// The one that answers.
    pub(crate) fn current(&self, tenant: &TenantId, function: &FunctionName) -> Option<Arc<Held>> {
        let served = self.pipeline.served(tenant, function)?;
        self.of(tenant, function).into_iter().find(|held| held.number() == served.current().number())
    }

    /// Has `current` answer from now on, and the others by their numbers; whatever else of the function was loaded goes, when the
    /// last request has left it.
    pub(crate) fn publish(&self, current: &Arc<Held>, others: &[Arc<Held>]) {
        let name = (current.release.tenant().clone(), current.release.function().clone());
        let comes_back = lock(&self.leaving).remove(&name);
        let is_new = !current.answers.swap(true, Ordering::Relaxed);
        if is_new {
            let has_shown = comes_back || lock(&self.held).contains_key(&name);
            self.show(current, has_shown);
            self.show_breaker(current);
        }
        if !current.noted.swap(true, Ordering::Relaxed) {
            self.note(current);
        }
        others.iter().chain([current]).for_each(|held| self.watch(held));
        current.deployed.models.iter().for_each(|loaded| loaded.model.spare(None));
        let served = others.iter().fold(Served::new(Arc::clone(&current.release)), |served, other| {
            other.answers.store(false, Ordering::Relaxed);
            let spare = other.deployed.models.iter().filter(|loaded| !current.has(loaded));
            spare.for_each(|loaded| loaded.model.spare(Some(self.spare_idle)));
            served.with(Arc::clone(&other.release))
        });
        let now: Vec<_> = others.iter().chain([current]).cloned().collect();
        self.pipeline.publish(served);
        let before = lock(&self.held).insert(name, now.clone());
        let gone = before.into_iter().flatten().filter(|held| !now.iter().any(|other| Arc::ptr_eq(held, other)));
        self.retire(gone);
    }

    /// Serves a function no more.
    pub(crate) fn withdraw(&self, tenant: &TenantId, function: &FunctionName) {
        self.pipeline.withdraw(tenant, function);
        let name = (tenant.clone(), function.clone());
        let gone = lock(&self.held).remove(&name);
        self.retire(gone.into_iter().flatten());
        lock(&self.leaving).insert(name);
    }

    /// Forgets what was counted of functions that are served no more and have no request left, after `read_last` and before
    /// `forgotten`, if there are any. None of them comes back meanwhile.
    pub(crate) fn forget_gone(&self, read_last: impl FnOnce(), forgotten: impl FnOnce(&[Name])) {
        let mut leaving = lock(&self.leaving);
        if leaving.is_empty() {
            return;
        }
        let name = |held: &Arc<Held>| (held.release.tenant().clone(), held.release.function().clone());
        let at_work: HashSet<Name> = lock(&self.retired).iter().map(name).collect();
        let is_gone = |name: &Name| !at_work.contains(name) && self.telemetry.is_idle(&name.0, &name.1);
        let gone: Vec<_> = leaving.extract_if(is_gone).collect();
        if !gone.is_empty() {
            read_last();
            self.telemetry.forget(&gone);
            forgotten(&gone);
        }
    }

    fn retire(&self, gone: impl Iterator<Item = Arc<Held>>) {
        lock(&self.retired).extend(gone.inspect(|held| held.answers.store(false, Ordering::Relaxed)));
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
        if !gone.is_empty() {
            drop(gone);
            self.telemetry.prune();
        }
    }

    /// What is known of the models of a release that answers from now on takes the place of what was known of the one before.
    fn show(&self, held: &Held, has_shown: bool) {
        let (tenant, function, measured) = (held.release.tenant(), held.release.function(), &held.deployed.measured);
        if has_shown {
            self.telemetry.replaced(tenant, function);
        }
        if !measured.is_empty() {
            let (load, warm_up) = times(&held.deployed);
            self.telemetry.loaded(tenant, function, load, warm_up);
        }
        measured.iter().for_each(|model| self.telemetry.placed(tenant, function, &model.placement.provider));
    }

    /// Where its breaker stands, and each of its moves while it answers, is on the page.
    fn show_breaker(&self, held: &Held) {
        let release = &held.release;
        if release.model().is_some() {
            let metrics = Arc::new(self.telemetry.breaker(release.tenant(), release.function()));
            let (answers, moves) = (Arc::clone(&held.answers), Arc::clone(&metrics));
            let moved = move |to| {
                if answers.load(Ordering::Relaxed) {
                    moves.moved(to);
                }
            };
            release.watch_breaker(|at| metrics.stands(at), moved);
        }
    }

    /// What was seen while it was made goes to the log and the metrics.
    fn note(&self, held: &Held) {
        let (release, deployed) = (&held.release, &*held.deployed);
        let (tenant, function) = (release.tenant(), release.function());
        let telemetry = &self.telemetry;
        if let Some(load) = sum(&deployed.loads) {
            telemetry.plugin_loaded(tenant, function, &load);
        }
        let (page, name) = (Arc::clone(telemetry), (tenant.clone(), function.clone()));
        release.watch_cut_off(move |running| page.cut_off(&name.0, &name.1, running));
        let plugin_load: Duration = deployed.loads.iter().map(|(_, load)| load.time).sum();
        let compiled = deployed.loads.iter().filter(|(_, load)| !load.cached).count();
        for Measured { name, placement, profile, .. } in &deployed.measured {
            let (provider, fell_back) = (&placement.provider, &placement.fell_back);
            tracing::info!(%tenant, %function, model = name, provider, ?fell_back, shares = ?placement.shares, "placed");
            let (batches, inline) = (&profile.batches, &profile.inline);
            tracing::info!(%tenant, %function, model = name, sizes = ?profile.sizes, ?batches, ?inline, "measured");
        }
        let new = deployed.measured.iter().filter(|model| !model.kept);
        let model_load: Duration = new.map(|model| model.times.load).sum();
        tracing::info!(%tenant, %function, release = %held.number(), ?model_load, ?plugin_load, compiled, "loaded");
    }

    /// What happens to its models goes to the metrics from now on, and a run that does not end opens its breaker.
    fn watch(&self, held: &Held) {
        if !held.watched.swap(true, Ordering::Relaxed) {
            held.deployed.models.iter().for_each(|model| self.watch_model(held, model));
        }
    }

    fn watch_model(&self, held: &Held, loaded: &Arc<LoadedModel>) {
        let metrics = self.telemetry.model(held.release.tenant(), held.release.function(), &loaded.model.info().name);
        let releases = Arc::clone(loaded.releases());
        releases.join(&held.release);
        let told = metrics.clone();
        // Of the releases that have it, the first is told: what is counted has the same name for all of them.
        loaded.model.watch(move |event| {
            if matches!(event, ModelEvent::Abandoned) {
                releases.trip();
            }
            told.happened(event);
        });
        let (loaded, answers) = (Arc::downgrade(loaded), Arc::downgrade(&held.answers));
        self.telemetry.ask(move || {
            let (Some(loaded), Some(answers)) = (loaded.upgrade(), answers.upgrade()) else { return false };
            if answers.load(Ordering::Relaxed) {
                metrics.stands(&loaded.model.state());
            }
            true
        });
    }
}

/// Of a release that no request holds: its own, and that of what it was made as, if that is the same.
fn references(held: &Held) -> usize {
    if Arc::ptr_eq(&held.release, &held.deployed.release) { 2 } else { 1 }
}

/// To load its models, and to warm them up: of all together, since one that waits, waits for all.
fn times(deployed: &Deployed) -> (Duration, Duration) {
    let sum = |of: fn(&Measured) -> Duration| deployed.measured.iter().map(of).sum();
    (sum(|model| model.times.load), sum(|model| model.times.warm_up))
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
