//! Has this host serve what the catalog says: every function's current release answers, the kept ones answer by their numbers, and
//! what cannot be loaded leaves what was served before. Follows what other hosts change.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sandmill_catalog::store::{Function, Release, Revision, Snapshot};
use sandmill_domain::ports::Model;
use sandmill_domain::{Code, Fault, FunctionName, ReleaseNumber, TenantId};
use tokio::sync::OwnedMutexGuard;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use super::ControlPlane;
use super::deploy::on_disk;
use super::faults::{load_fault, local_fault, read_fault, store_fault};
use crate::deploy::Place;
use crate::holdings::Held;

/// A release that could not be loaded is tried again after this, doubled each time up to the last.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A release that was spare may take so long to be warm again before it answers all the same.
const WARM_TIME: Duration = Duration::from_secs(60);
const WARM_STEP: Duration = Duration::from_millis(5);

/// Functions whose turns are remembered although nobody has one.
const TURNS_MAX: usize = 10_000;

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
    /// Kept releases that cannot be loaded here, and when they are tried again; never, if they are at fault themselves.
    lost: Mutex<HashMap<(Name, ReleaseNumber), Option<Instant>>>,
}

/// Why a release that should answer does not.
struct Trouble {
    release: ReleaseNumber,
    why: String,
    failures: u32,
    again: Instant,
}

impl Following {
    /// Waits until nobody else is at the function.
    pub(crate) async fn turn(&self, name: &Name) -> OwnedMutexGuard<()> {
        self.turns_of(name).lock_owned().await
    }

    /// The same, if nobody is.
    fn free_turn(&self, name: &Name) -> Option<OwnedMutexGuard<()>> {
        self.turns_of(name).try_lock_owned().ok()
    }

    fn turns_of(&self, name: &Name) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.turns);
        if turns.len() >= TURNS_MAX {
            // Whoever waits for one, or has it, holds it.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(name.clone()).or_default())
    }

    /// Why a function's current release does not answer on this host; none if it does, or is just being loaded.
    pub(crate) fn trouble(&self, name: &Name) -> Option<String> {
        lock(&self.troubles).get(name).map(|trouble| trouble.why.clone())
    }

    /// How many functions have one.
    pub(crate) fn troubles(&self) -> usize {
        lock(&self.troubles).len()
    }

    /// Another release than the one that failed is tried at once.
    fn may_try(&self, name: &Name, release: ReleaseNumber) -> bool {
        let known = lock(&self.troubles);
        known.get(name).is_none_or(|trouble| trouble.release != release || trouble.again <= Instant::now())
    }

    fn failed(&self, name: &Name, release: ReleaseNumber, why: String) {
        let mut troubles = lock(&self.troubles);
        let known = troubles.get(name).filter(|trouble| trouble.release == release);
        let failures = known.map_or(0, |trouble| trouble.failures);
        let wait = RETRY.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
        let again = Instant::now() + wait;
        troubles.insert(name.clone(), Trouble { release, why, failures: failures + 1, again });
    }

    fn is_lost(&self, name: &Name, release: ReleaseNumber) -> bool {
        let lost = lock(&self.lost);
        lost.get(&(name.clone(), release)).is_some_and(|again| again.is_none_or(|again| again > Instant::now()))
    }

    /// It could be loaded after all.
    fn found(&self, name: &Name, release: ReleaseNumber) {
        lock(&self.lost).remove(&(name.clone(), release));
    }

    /// Whether a kept release of the tenant's is to be tried again.
    fn retries(&self, tenant: &TenantId) -> bool {
        lock(&self.lost).iter().any(|(((whose, _), _), again)| whose == tenant && again.is_some())
    }

    /// What is not in the catalog any more is not remembered either.
    fn retain(&self, snapshot: &Snapshot) {
        let find = |(tenant, function): &Name| snapshot.tenants.get(tenant)?.state.functions().get(function);
        lock(&self.settled).retain(|tenant, _| snapshot.tenants.contains_key(tenant));
        lock(&self.troubles).retain(|name, _| find(name).is_some());
        lock(&self.lost).retain(|(name, number), _| {
            find(name).is_some_and(|function| function.kept().any(|release| release.number == *number))
        });
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
            drop(self.settle());
            let plane = Arc::clone(&self);
            drop(spawn_blocking(move || plane.sweep()).await);
        }
    }

    /// Drops what no request is at any more. Blocking.
    fn sweep(&self) {
        self.holdings.sweep();
        // What the last requests of a deleted function used is its tenant's, too.
        self.holdings.forget_gone(|| self.meter.read(), |gone| self.meter.forget(gone));
    }

    /// Writes what was used, and deletes what nothing names any more, now and then, until the task ends.
    pub(crate) async fn keep_books(self: Arc<Self>) {
        let (mut written, mut collected) = (interval(self.books.usage), interval(self.books.collect));
        let write = async {
            loop {
                written.tick().await;
                self.write_usage().await;
            }
        };
        let collect = async {
            loop {
                collected.tick().await;
                self.collect().await;
            }
        };
        // Either takes its time, and holds up the other by nothing.
        tokio::join!(write, collect);
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
            match self.catalog.collect(&tenant, SystemTime::now(), self.books.grace).await {
                Ok(collected) if collected.deleted > 0 => {
                    tracing::info!(%tenant, ?collected, "files that nothing names are deleted")
                }
                Ok(_) => (),
                Err(error) => tracing::warn!(%tenant, %error, "files that nothing names cannot be deleted now"),
            }
        }
        match self.catalog.collect_removed(SystemTime::now(), self.books.grace).await {
            Ok(0) => (),
            Ok(deleted) => tracing::info!(deleted, "files of tenants that were removed are deleted"),
            Err(error) => tracing::warn!(%error, "files of tenants that were removed cannot be deleted now"),
        }
    }

    /// Begins to bring what is served to what the catalog says: a task for each function that differs, and none for one that somebody
    /// is at. A release that takes long to load holds up no other function.
    pub(crate) fn settle(&self) -> Vec<JoinHandle<()>> {
        let snapshot = self.catalog.snapshot();
        self.take_over(&snapshot);
        self.following.retain(&snapshot);
        let mut tasks = Vec::new();
        for (tenant, head) in &snapshot.tenants {
            if lock(&self.following.settled).get(tenant) == Some(&head.revision) {
                continue;
            }
            let functions = head.state.functions().iter().map(|(name, function)| ((tenant.clone(), name.clone()), function));
            let differ: Vec<_> =
                functions.filter(|(name, function)| !self.is_settled(name, function)).map(|(name, _)| name).collect();
            if differ.is_empty() && !self.following.retries(tenant) {
                lock(&self.following.settled).insert(tenant.clone(), head.revision);
            }
            tasks.extend(differ.into_iter().filter_map(|name| self.spawn_settling(name)));
        }
        let gone = self.holdings.names().into_iter().filter(|name| self.function(name).is_none());
        tasks.extend(gone.filter_map(|name| self.spawn_settling(name)));
        tasks
    }

    fn spawn_settling(&self, name: Name) -> Option<JoinHandle<()>> {
        let (turn, plane) = (self.following.free_turn(&name)?, self.this.upgrade()?);
        Some(tokio::spawn(async move {
            let _turn = turn;
            plane.settle_function(&name).await;
        }))
    }

    /// Whether a function is served as the catalog says, kept releases included.
    fn is_settled(&self, name: &Name, function: &Function) -> bool {
        let answers = self.holdings.current(&name.0, &name.1).is_some_and(|held| held.number() == function.current.number);
        answers
            && function
                .before
                .iter()
                .all(|release| self.find(name, release).is_some() || self.following.is_lost(name, release.number))
    }

    /// Keys and bounds hold at once.
    pub(crate) fn take_over(&self, snapshot: &Snapshot) {
        self.keys.set(snapshot);
        for (name, tenant) in snapshot.system.state.tenants() {
            self.accounts.set(name, tenant.weight, &tenant.quotas);
        }
        let is_there = |tenant: &TenantId| snapshot.system.state.tenants().contains_key(tenant);
        self.accounts.retain(is_there);
        self.pace.retain(is_there);
    }

    /// What the catalog says of a function now.
    pub(crate) fn function(&self, name: &Name) -> Option<Function> {
        let (tenant, function) = name;
        self.catalog.snapshot().tenants.get(tenant)?.state.functions().get(function).cloned()
    }

    /// It is served no more.
    pub(crate) fn forget(&self, name: &Name) {
        self.holdings.withdraw(&name.0, &name.1);
        self.logs.forget(name);
        lock(&self.following.troubles).remove(name);
        lock(&self.following.lost).retain(|(lost, _), _| lost != name);
    }

    /// Serves a function as the catalog says, as far as that can be now, by whoever has its turn.
    pub(crate) async fn settle_function(&self, name: &Name) {
        let Some(function) = self.function(name) else {
            return self.forget(name);
        };
        let number = function.current.number;
        if !self.following.may_try(name, number) {
            return;
        }
        match self.hold(name, &function.current).await {
            Ok(current) => self.serve(name, &function, current).await,
            Err(fault) => {
                let (why, tenant) = (fault.report(), &name.0);
                tracing::error!(%tenant, function = %name.1, release = %number, %why, "a release cannot be served here: what was served before goes on");
                return self.following.failed(name, number, format!("release {number}: {}", fault.message));
            }
        }
        if !self.is_starting() {
            // All functions answer before any has its past.
            self.hold_kept(name, &function).await;
        }
    }

    /// Has a release answer, with those beside it that are loaded.
    pub(crate) async fn serve(&self, name: &Name, function: &Function, current: Arc<Held>) {
        self.warm(&current).await;
        lock(&self.following.troubles).remove(name);
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
    async fn hold_kept(&self, name: &Name, function: &Function) {
        let is_missing = |release: &&Release| self.find(name, release).is_none() && !self.following.is_lost(name, release.number);
        for release in function.before.iter().filter(|release| is_missing(&&***release)) {
            match self.hold(name, release).await {
                Ok(other) => {
                    let Some(current) = self.holdings.current(&name.0, &name.1) else { return };
                    let mut others = self.holdings.of(&name.0, &name.1);
                    others.retain(|held| !Arc::ptr_eq(held, &current));
                    others.push(other);
                    self.holdings.publish(&current, &others);
                }
                Err(fault) => {
                    let (why, tenant) = (fault.report(), &name.0);
                    tracing::warn!(%tenant, function = %name.1, release = %release.number, %why, "a kept release cannot be loaded");
                    let again = (fault.code != Code::Unprocessable).then(|| Instant::now() + RETRY_MAX);
                    lock(&self.following.lost).insert((name.clone(), release.number), again);
                }
            }
        }
    }

    fn find(&self, name: &Name, release: &Release) -> Option<Arc<Held>> {
        self.holdings.of(&name.0, &name.1).into_iter().find(|held| held.number() == release.number)
    }

    /// The release, loaded: it may be already.
    ///
    /// # Errors
    /// `Unprocessable` if it is at fault itself.
    async fn hold(&self, name: &Name, release: &Release) -> Result<Arc<Held>, Fault> {
        if let Some(held) = self.find(name, release) {
            return Ok(held);
        }
        let _loading = self.loads.begin(&name.0).await;
        let folder = self.folders.make().map_err(|error| local_fault(&error))?;
        let path = folder.path().join(name.1.as_str());
        self.fetch(name, release, &path).await?;
        let (holdings, limits) = (Arc::clone(&self.holdings), self.file_limits);
        let (account, journal) = (self.accounts.of(&name.0), self.journal(name));
        let (keep_in, beside) = (Some(self.folders.path().to_owned()), self.holdings.models(&name.0, &name.1));
        let place = Place { tenant: name.0.clone(), number: release.number, known: true, account, journal, keep_in, beside };
        let held = on_disk(move || {
            let _until_made = folder;
            let spec = sandmill_catalog::read_function(&path, &limits).map_err(|error| read_fault(&error))?;
            let made = holdings.deployer().make(&spec, &place).map_err(|error| load_fault(&error))?;
            Ok(Arc::new(Held::new(made)))
        })
        .await?;
        self.following.found(name, release.number);
        Ok(held)
    }

    /// Puts a release's files into a folder, as they were sent.
    async fn fetch(&self, name: &Name, release: &Release, folder: &Path) -> Result<(), Fault> {
        let trouble = |error: std::io::Error| local_fault(&error.into());
        tokio::fs::create_dir(folder).await.map_err(trouble)?;
        tokio::fs::write(folder.join("function.toml"), &release.manifest).await.map_err(trouble)?;
        let blobs = self.catalog.store().blobs(&name.0);
        for (file, blob) in &release.files {
            let file = folder.join(file);
            if let Some(parent) = file.parent() {
                tokio::fs::create_dir_all(parent).await.map_err(trouble)?;
            }
            blobs.fetch(blob, &file).await.map_err(store_fault)?;
        }
        Ok(())
    }

    /// A release that was spare is warm before it answers, if that can be.
    async fn warm(&self, held: &Held) {
        let models = &held.deployed.models;
        models.iter().for_each(|loaded| loaded.model.spare(None));
        let warm = async {
            while models.iter().any(|loaded| loaded.model.is_missed()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_failed_waits_longer_each_time_and_another_one_does_not() {
        let following = Following::default();
        let name = (TenantId::local(), FunctionName::new("f").expect("a name"));
        let [one, two] = [1, 2].map(|number| ReleaseNumber(std::num::NonZeroU64::new(number).expect("not 0")));
        assert!(following.may_try(&name, one));
        let waits: Vec<_> = (0..12)
            .map(|_| {
                following.failed(&name, one, "why".to_owned());
                lock(&following.troubles)[&name].again.saturating_duration_since(Instant::now()).as_secs_f64().round()
            })
            .collect();
        assert_eq!(waits[..4], [2.0, 4.0, 8.0, 16.0]);
        assert_eq!(waits[11], RETRY_MAX.as_secs_f64());
        assert!(!following.may_try(&name, one) && following.may_try(&name, two));
        following.failed(&name, two, "why".to_owned());
        assert_eq!(lock(&following.troubles)[&name].failures, 1, "it begins anew");
        // What the catalog does not have is forgotten.
        lock(&following.lost).insert((name.clone(), one), None);
        assert!(following.is_lost(&name, one) && !following.is_lost(&name, two));
        assert!(!following.retries(&name.0), "it is at fault itself");
        lock(&following.lost).insert((name.clone(), two), Some(Instant::now()));
        assert!(following.retries(&name.0) && !following.is_lost(&name, two), "it is time");
        following.found(&name, two);
        assert!(!following.retries(&name.0), "nothing is left to try");
        following.retain(&Snapshot::default());
        assert_eq!((following.troubles(), following.is_lost(&name, one)), (0, false));
    }

    #[test]
    fn turns_that_nobody_has_are_forgotten_when_there_are_very_many() {
        let following = Following::default();
        let name = |number: usize| (TenantId::local(), FunctionName::new(&format!("f{number}")).expect("a name"));
        let held = following.free_turn(&name(0)).expect("nobody has it");
        (1..TURNS_MAX).for_each(|number| drop(following.turns_of(&name(number))));
        assert_eq!(lock(&following.turns).len(), TURNS_MAX);
        drop(following.turns_of(&name(TURNS_MAX)));
        assert_eq!(lock(&following.turns).len(), 2);
        assert!(following.free_turn(&name(0)).is_none(), "whoever has one keeps it");
        drop(held);
        assert!(following.free_turn(&name(0)).is_some());
    }
}
