//! The reader that a host has: all logs in memory as one immutable snapshot, and the way in which changes are made.
//!
//! A store that does not answer changes nothing here: what was known last is served on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt;
use sandmill_domain::TenantId;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::access::Store;
use super::change::Change;
use super::error::StoreError;
use super::log::{ChangeError, Head, Log, Revision};
use super::records::{Author, SystemChange, TenantChange};
use super::state::{Refusal, State, SystemState, TenantState};

/// All that was known at one moment, each log by itself.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The host's own matters.
    pub system: Head<SystemState>,
    /// What tenants have, of those that are served and whose logs could be read.
    pub tenants: BTreeMap<TenantId, Head<TenantState>>,
    /// Tenants whose logs are damaged, or newer than this code, with what is wrong: what was known of them before is in `tenants`.
    pub damaged: BTreeMap<TenantId, StoreError>,
}

/// Since when a snapshot may be out of date, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// The first refresh that failed since the last one that did not.
    pub since: Instant,
    /// Why the last one did.
    pub why: StoreError,
}

/// A store, and what is in it.
#[derive(Debug)]
pub struct Catalog {
    store: Store,
    snapshot: ArcSwap<Snapshot>,
    stale: ArcSwapOption<Staleness>,
    refreshing: Mutex<()>,
}

impl Snapshot {
    /// The newer of both for each log; tenants are those of the newer system.
    fn merge(&self, other: &Self) -> Self {
        let system = newer(&self.system, &other.system);
        let mut merged = Self { system, tenants: BTreeMap::new(), damaged: other.damaged.clone() };
        for tenant in merged.system.state.tenants().keys() {
            let head = match (self.tenants.get(tenant), other.tenants.get(tenant)) {
                (Some(one), Some(two)) => newer(one, two),
                (one, two) => match one.or(two) {
                    Some(head) => head.clone(),
                    None => continue,
                },
            };
            merged.tenants.insert(tenant.clone(), head);
        }
        merged
    }
}

fn newer<S>(one: &Head<S>, other: &Head<S>) -> Head<S> {
    let newer = if one.revision >= other.revision { one } else { other };
    Head { revision: newer.revision, state: newer.state.clone() }
}

impl Catalog {
    /// Reads all logs.
    ///
    /// # Errors
    /// If the store cannot be read, or the host's own log is damaged. A tenant's that is damaged is told in the snapshot.
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let (snapshot, trouble) = Self::read(&store, &Snapshot::default()).await?;
        match trouble {
            Some(error) if !error.is_damage() => Err(error),
            _ => Ok(Self {
                store,
                snapshot: ArcSwap::from_pointee(snapshot),
                stale: ArcSwapOption::empty(),
                refreshing: Mutex::default(),
            }),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All that is known. Takes no lock.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Since when and why the snapshot may be out of date; nothing if the last refresh succeeded, but for logs that are damaged.
    pub fn staleness(&self) -> Option<Arc<Staleness>> {
        self.stale.load_full()
    }

    /// Reads what came since, of all logs. What could be read counts also when this fails. Safe to cancel.
    ///
    /// # Errors
    /// The first that was met.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let read = Self::read(&self.store, &self.snapshot()).await.map(|(snapshot, trouble)| {
            self.snapshot.rcu(|present| present.merge(&snapshot));
            trouble
        });
        // One tenant's damaged log is told in the snapshot: what is known of the others is up to date.
        let why = match &read {
            Ok(trouble) => trouble.as_ref().filter(|trouble| !trouble.is_damage()),
            Err(error) => Some(error),
        };
        let since = self.staleness().map_or_else(Instant::now, |stale| stale.since);
        self.stale.store(why.map(|why| Arc::new(Staleness { since, why: why.clone() })));
        read?.map_or(Ok(()), Err)
    }

    /// All logs from what is known on, and the first trouble with a tenant's.
    async fn read(store: &Store, known: &Snapshot) -> Result<(Snapshot, Option<StoreError>), StoreError> {
        store.is_there().await?;
        let system = proceed(&store.system_log(), Some(&known.system).filter(|head| head.revision.0 > 0)).await?;
        let reads = system.state.tenants().keys().map(|tenant| async move {
            let log = store.tenant_log(tenant);
            (tenant.clone(), proceed(&log, known.tenants.get(tenant)).await)
        });
        let reads: Vec<_> = reads.collect();
        let mut ended = futures_util::stream::iter(reads).buffer_unordered(store.options().reads());
        let mut snapshot = Snapshot { system: system.clone(), ..Snapshot::default() };
        let mut trouble = None;
        while let Some((tenant, read)) = ended.next().await {
            let head = read.map_err(|error| {
                if error.is_damage() {
                    snapshot.damaged.insert(tenant.clone(), error.clone());
                }
                trouble.get_or_insert(error);
            });
            if let Some(head) = head.ok().or_else(|| known.tenants.get(&tenant).cloned()) {
                snapshot.tenants.insert(tenant, head);
            }
        }
        Ok((snapshot, trouble))
    }

    /// Changes a tenant's log. `change` says what to do in the state that it is given, perhaps more than once. Who gives the revision
    /// that the change rests on is told if there is a newer one; for who gives none, it is tried again.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with the present revision, a refusal, or the store's; see [`Log::append`].
    pub async fn change_tenant(
        &self,
        tenant: &TenantId,
        seen: Option<Revision>,
        author: &Author,
        change: impl FnMut(&TenantState) -> Result<TenantChange, Refusal> + Send,
    ) -> Result<Revision, ChangeError> {
        let head = self.tenant(tenant).await?;
        let log = self.store.tenant_log(tenant);
        let publish = |head: &Head<TenantState>| self.publish_tenant(tenant, head);
        Change { log, author, seen, publish }.make(head, change).await
    }

    /// Changes the host's own log, as [`Catalog::change_tenant`] does a tenant's.
    ///
    /// # Errors
    /// As [`Catalog::change_tenant`].
    pub async fn change_system(
        &self,
        seen: Option<Revision>,
        author: &Author,
        change: impl FnMut(&SystemState) -> Result<SystemChange, Refusal> + Send,
    ) -> Result<Revision, ChangeError> {
        let head = self.snapshot().system.clone();
        let log = self.store.system_log();
        Change { log, author, seen, publish: |head: &_| self.publish_system(head) }.make(head, change).await
    }

    /// What is known of a tenant; the store is asked if nothing is.
    async fn tenant(&self, tenant: &TenantId) -> Result<Head<TenantState>, ChangeError> {
        if !self.snapshot().tenants.contains_key(tenant) {
            self.refresh().await?;
        }
        let snapshot = self.snapshot();
        if let Some(error) = snapshot.damaged.get(tenant) {
            return Err(error.clone().into());
        }
        let head = snapshot.tenants.get(tenant).cloned();
        head.ok_or_else(|| Refusal::Unknown(format!("tenant `{tenant}`")).into())
    }

    /// A tenant's state as it is in the store now.
    pub(super) async fn present(&self, tenant: &TenantId) -> Result<Head<TenantState>, ChangeError> {
        let known = self.tenant(tenant).await?;
        let head = self.store.tenant_log(tenant).catch_up(&known).await?;
        self.publish_tenant(tenant, &head);
        Ok(head)
    }

    fn publish_tenant(&self, tenant: &TenantId, head: &Head<TenantState>) {
        self.snapshot.rcu(|present| {
            let mut next = Snapshot::clone(present);
            let known = next.tenants.entry(tenant.clone()).or_default();
            *known = newer(known, head);
            next
        });
    }

    /// A tenant that is new comes with the next refresh, or with its first change.
    fn publish_system(&self, head: &Head<SystemState>) {
        self.snapshot.rcu(|present| present.merge(&Snapshot { system: head.clone(), ..Snapshot::clone(present) }));
    }
}

async fn proceed<S: State>(log: &Log<S>, known: Option<&Head<S>>) -> Result<Head<S>, StoreError> {
    match known {
        Some(head) => log.catch_up(head).await,
        None => log.load().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandmill_domain::control::Quotas;

    use crate::store::Entry;

    fn system(tenants: &[&str]) -> Head<SystemState> {
        let mut state = SystemState::default();
        let author = Author { by: "a".into(), from: String::new(), at_ms: 0 };
        for tenant in tenants {
            let tenant = TenantId::new(tenant).expect("a name");
            let change = SystemChange::TenantAdded { tenant, weight: 1, quotas: Quotas::default() };
            state.apply(&Entry::new(&author, change)).expect("it follows");
        }
        Head { revision: Revision(tenants.len() as u64), state: Arc::new(state) }
    }

    fn snapshot(tenants: &[&str], revisions: &[u64]) -> Snapshot {
        let head = |revision: &u64| Head { revision: Revision(*revision), state: Arc::default() };
        let names = tenants.iter().map(|tenant| TenantId::new(tenant).expect("a name"));
        let tenants_read = names.zip(revisions.iter().map(head)).collect();
        Snapshot { system: system(tenants), tenants: tenants_read, damaged: BTreeMap::new() }
    }

    #[test]
    fn of_two_snapshots_the_newer_of_each_log_counts() {
        // As when a change was made while a refresh was under way.
        let (changed, refreshed) = (snapshot(&["a", "b"], &[7, 2]), snapshot(&["a", "b", "c"], &[6, 3, 1]));
        for merged in [changed.merge(&refreshed), refreshed.merge(&changed)] {
            assert_eq!(merged.system.revision, Revision(3));
            assert_eq!(merged.tenants.values().map(|head| head.revision.0).collect::<Vec<_>>(), [7, 3, 1]);
        }
    }
}
