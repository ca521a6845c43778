//! Has this host serve what the catalog says: every function's current release answers, the kept ones answer by their numbers, and
//! what cannot be loaded leaves what was served before. Follows what other hosts change.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use sandmill_catalog::store::{Function, Grace, Release, Revision, Snapshot};
use sandmill_domain::ports::Model;
use sandmill_domain::{FunctionName, TenantId};
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::ControlPlane;
use crate::deploy::Place;
use crate::holdings::Held;

/// A release that could not be loaded is tried again after this, doubled each time up to the last.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A release that was spare may take so long to be warm again before it answers all the same.
const WARM_TIME: Duration = Duration::from_secs(60);
const WARM_STEP: Duration = Duration::from_millis(5);

/// A function of a tenant.
pub(crate) type Name = (TenantId, FunctionName);

/// What is remembered from one round to the next.
#[derive(Default)]
pub(crate) struct Following {
    /// What was served in full, by its revision.
    settled: Mutex<HashMap<TenantId, Revision>>,
    /// Functions whose current release is not the one that answers.
    troubles: Mutex<HashMap<Name, Trouble>>,
    /// Whoever makes releases of a function, or serves others of it, has its turn.
    turns: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why a release that should answer does not.
struct Trouble {
    why: String,
    failures: u32,
    again: Instant,
}

impl Following {
    /// Waits until nobody else is at the function.
    pub(crate) async fn turn(&self, name: &Name) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(lock(&self.turns).entry(name.clone()).or_default());
        turn.lock_owned().await
    }

    /// Why a function's current release does not answer on this host; none if it does, or is just being loaded.
    pub(crate) fn trouble(&self, name: &Name) -> Option<String> {
        lock(&self.troubles).get(name).map(|trouble| trouble.why.clone())
    }

    /// How many functions have one.
    pub(crate) fn troubles(&self) -> usize {
        lock(&self.troubles).len()
    }

    fn may_try(&self, name: &Name) -> bool {
        lock(&self.troubles).get(name).is_none_or(|trouble| trouble.again <= Instant::now())
    }

    fn failed(&self, name: &Name, why: String) {
        let mut troubles = lock(&self.troubles);
        let failures = troubles.get(name).map_or(0, |trouble| trouble.failures);
        let wait = RETRY.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
        troubles.insert(name.clone(), Trouble { why, failures: failures + 1, again: Instant::now() + wait });
    }
}

impl ControlPlane {
    /// Serves what the catalog says now, and then what it comes to say, until the task ends.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut is_lost = false;
        loop {
            sleep(self.poll).await;
            let refreshed = self.catalog.refresh().await;
            if let (Err(error), false) = (&refreshed, is_lost) {
                tracing::warn!(%error, "the store cannot be read: what was known last is served on, and nothing can be changed");
            }
            if is_lost && refreshed.is_ok() {
                tracing::info!("the store can be read again");
            }
            is_lost = refreshed.is_err();
            self.settle().await;
            let holdings = Arc::clone(&self.holdings);
            drop(spawn_blocking(move || holdings.sweep()).await);
        }
    }

    /// Writes what was used, and deletes what nothing names any more, now and then, until the task ends.
    pub(crate) async fn keep_books(self: Arc<Self>) {
        let mut written = tokio::time::interval(self.books.usage);
        let mut collected = tokio::time::interval(self.books.collect);
        loop {
            tokio::select! {
                _ = written.tick() => self.write_usage().await,
                _ = collected.tick() => self.collect().await,
            }
        }
    }

    /// What cannot be written is kept for the next time.
    pub(crate) async fn write_usage(&self) {
        if let Err(error) = self.meter.write(self.catalog.store()).await {
            tracing::warn!(%error, "what was used cannot be written now");
        }
    }

    async fn collect(&self) {
        let tenants: Vec<_> = self.catalog.snapshot().tenants.keys().cloned().collect();
        for tenant in tenants {
            match self.catalog.collect(&tenant, SystemTime::now(), Grace::default()).await {
                Ok(collected) if collected.deleted > 0 => {
                    tracing::info!(%tenant, ?collected, "files that nothing names are deleted")
                }
                Ok(_) => (),
                Err(error) => tracing::warn!(%tenant, %error, "files that nothing names cannot be deleted now"),
            }
        }
    }

    /// Brings what is served to what the catalog says. What cannot be done now is tried again in a later round.
    pub(crate) async fn settle(&self) {
        let snapshot = self.catalog.snapshot();
        self.take_over(&snapshot);
        for (tenant, head) in &snapshot.tenants {
            if lock(&self.following.settled).get(tenant) == Some(&head.revision) {
                continue;
            }
            let mut all = true;
            for function in head.state.functions().keys() {
                let name = (tenant.clone(), function.clone());
                let _turn = self.following.turn(&name).await;
                all &= self.settle_function(&name).await;
            }
            if all {
                lock(&self.following.settled).insert(tenant.clone(), head.revision);
            }
        }
        for name in self.holdings.names() {
            let _turn = self.following.turn(&name).await;
            if self.function(&name).is_none() {
                self.forget(&name);
            }
        }
    }

    /// Keys and bounds hold at once.
    pub(crate) fn take_over(&self, snapshot: &Snapshot) {
        self.keys.set(snapshot);
        for (name, tenant) in snapshot.system.state.tenants() {
            self.accounts.set(name, &tenant.quotas);
        }
    }

    /// What the catalog says of a function now.
    pub(crate) fn function(&self, name: &Name) -> Option<Function> {
        let (tenant, function) = name;
        self.catalog.snapshot().tenants.get(tenant)?.state.functions().get(function).cloned()
    }

    /// It is served no more.
    pub(crate) fn forget(&self, name: &Name) {
        // Its last figures go with it.
        self.meter.read();
        self.holdings.withdraw(&name.0, &name.1);
        lock(&self.following.troubles).remove(name);
    }

    /// Serves a function as the catalog says, by whoever has its turn; whether all of it is served.
    pub(crate) async fn settle_function(&self, name: &Name) -> bool {
        let Some(function) = self.function(name) else {
            self.forget(name);
            return true;
        };
        if !self.following.may_try(name) {
            return false;
        }
        match self.hold(name, &function.current).await {
            Ok(current) => {
                self.serve(name, &function, current).await;
                lock(&self.following.troubles).remove(name);
            }
            Err(error) => {
                let why = format!("release {}: {error:#}", function.current.number);
                tracing::error!(tenant = %name.0, function = %name.1, why, "a release cannot be served here: what was served before goes on");
                self.following.failed(name, why);
                return false;
            }
        }
        self.hold_kept(name, &function).await
    }

    /// Has a release answer, with those beside it that are loaded.
    pub(crate) async fn serve(&self, name: &Name, function: &Function, current: Arc<Held>) {
        self.warm(&current).await;
        let loaded = self.holdings.of(&name.0, &name.1);
        let is_kept = |held: &&Arc<Held>| function.before.iter().any(|release| release.number == held.number());
        let others: Vec<_> = loaded.iter().filter(is_kept).cloned().collect();
        let before = self.holdings.current(&name.0, &name.1);
        if before.is_some_and(|before| Arc::ptr_eq(&before, &current)) && loaded.len() == others.len() + 1 {
            return;
        }
        self.holdings.publish(&current, &others);
    }

    /// The kept releases answer by their numbers, too. One that cannot be loaded any more is left out.
    async fn hold_kept(&self, name: &Name, function: &Function) -> bool {
        for release in &function.before {
            if self.is_starting() {
                // All functions answer before any has its past.
                return false;
            }
            if self.find(name, release).is_some() {
                continue;
            }
            match self.hold(name, release).await {
                Ok(other) => {
                    let Some(current) = self.holdings.current(&name.0, &name.1) else { return false };
                    let mut others = self.holdings.of(&name.0, &name.1);
                    others.retain(|held| !Arc::ptr_eq(held, &current));
                    others.push(other);
                    self.holdings.publish(&current, &others);
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::warn!(tenant = %name.0, function = %name.1, release = %release.number, why, "a kept release cannot be loaded");
                }
            }
        }
        true
    }

    fn find(&self, name: &Name, release: &Release) -> Option<Arc<Held>> {
        self.holdings.of(&name.0, &name.1).into_iter().find(|held| held.number() == release.number)
    }

    /// The release, loaded: it may be already.
    async fn hold(&self, name: &Name, release: &Release) -> Result<Arc<Held>> {
        if let Some(held) = self.find(name, release) {
            return Ok(held);
        }
        let folder = self.folders.make()?;
        let path = folder.path().join(name.1.as_str());
        fs::create_dir(&path)?;
        fs::write(path.join("function.toml"), &release.manifest)?;
        let blobs = self.catalog.store().blobs(&name.0);
        for (file, blob) in &release.files {
            let file = path.join(file);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
            blobs.fetch(blob, &file).await?;
        }
        let (holdings, limits) = (Arc::clone(&self.holdings), self.file_limits);
        let (account, journal) = (self.accounts.of(&name.0), self.journal(name));
        let place = Place { tenant: name.0.clone(), number: release.number, account, journal };
        let making = spawn_blocking(move || {
            let spec = sandmill_catalog::read_function(&path, &limits).map_err(|error| anyhow!("{error}"))?;
            holdings.make(&spec, &place, Some(folder))
        });
        Ok(Arc::new(making.await.context("loading it was cut off")??))
    }

    /// A release that was spare is warm before it answers, if that can be.
    async fn warm(&self, held: &Held) {
        let models = &held.deployed.models;
        models.iter().for_each(|model| model.spare(None));
        let warm = async {
            while models.iter().any(|model| model.is_missed()) {
                sleep(WARM_STEP).await;
            }
        };
        if timeout(WARM_TIME, warm).await.is_err() {
            tracing::warn!(function = %held.release.function(), "a release answers that is not warm");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
