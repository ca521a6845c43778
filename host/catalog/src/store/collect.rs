//! Uploads that nothing names are deleted.
//!
//! Safe beside any writer on any host, without a clock: nothing is deleted but what a record in the log has condemned, and the log
//! has one order. A writer who names an upload either comes before that record, which then does not follow and is not written, or
//! after it, and then the writer's own does not follow. A place is never used twice, so a deletion that comes late hits nothing new.
//! The graces are only kindness: to uploads that are about to be named, and to hosts that still read what was named a moment ago.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::ObjectMeta;
use object_store::path::Path;
use sandmill_domain::TenantId;

use super::catalog::Catalog;
use super::error::StoreError;
use super::ids::Place;
use super::layout;
use super::log::ChangeError;
use super::records::{Author, TenantChange};
use super::state::{CONDEMNED_MAX, Refusal, TenantState};

/// How long uploads that nothing names are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Those that were named: hosts may still be reading them.
    pub unnamed: Duration,
    /// Those that never were: their record may be on its way. Longer than an upload takes, and what is made of it.
    pub orphan: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Self { unnamed: Duration::from_secs(3600), orphan: Duration::from_secs(24 * 3600) }
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Uploads that were condemned now.
    pub condemned: usize,
    /// Objects that were deleted; also some that an earlier collection had condemned, and did not get to.
    pub deleted: usize,
    /// Halves of objects whose writer was killed, in a store that is a folder.
    pub leftovers: usize,
}

impl Catalog {
    /// Deletes a tenant's uploads that no kept release, plugin or model names, and that have not been for as long as the grace. May be
    /// cancelled, and run on several hosts at once: what is left is found by the next.
    ///
    /// # Errors
    /// As [`Catalog::change_tenant`].
    pub async fn collect(&self, tenant: &TenantId, now: SystemTime, grace: Grace) -> Result<Collected, ChangeError> {
        // Listed first: what the state does not know then is no newer than the state.
        let listed = self.store().list(&layout::blobs(tenant), None).await?;
        let head = self.present(tenant).await?;
        let mut objects: BTreeMap<_, _> =
            listed.iter().filter_map(|object| Some((layout::place(&object.location)?, object))).collect();
        let dead: Vec<_> = objects.keys().copied().filter(|place| head.state.uploads().is_condemned(*place)).collect();
        let mut collected = Collected::default();
        let dead = dead.iter().filter_map(|place| objects.remove(place)).map(|object| object.location.clone()).collect();
        collected.deleted += self.remove(dead).await?;
        let due = due(tenant, &head.state, &objects, now, grace);
        let due: Vec<_> = due.into_iter().collect();
        for places in due.chunks(CONDEMNED_MAX) {
            self.condemn(tenant, places, now, &mut collected).await?;
        }
        collected.leftovers = self.sweep(tenant, now, grace.orphan).await?;
        Ok(collected)
    }

    /// Deletes what tenants that were removed have left but for their logs, once it is older than the grace: their names are never
    /// given again. How many objects it was. May be cancelled, and run on several hosts at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn collect_removed(&self, now: SystemTime, grace: Grace) -> Result<usize, StoreError> {
        let mut deleted = 0;
        let system = self.snapshot().system.state.clone();
        for tenant in system.removed() {
            for left in [layout::blobs(tenant), layout::all_usage(tenant)] {
                let listed = self.store().list(&left, None).await?;
                let due = listed.into_iter().filter(|object| age(now, object.last_modified.into()) >= grace.orphan);
                deleted += self.remove(due.map(|object| object.location).collect()).await?;
            }
        }
        Ok(deleted)
    }

    async fn condemn(
        &self,
        tenant: &TenantId,
        due: &[(Place, Path)],
        now: SystemTime,
        collected: &mut Collected,
    ) -> Result<(), ChangeError> {
        let author = Author { by: "collector".into(), from: String::new(), at_ms: millis(now) };
        let mut places = BTreeSet::new();
        let condemn = |state: &TenantState| {
            // Whatever was named since stays.
            places = due.iter().map(|(place, _)| *place).filter(|place| !state.uploads().is_live(*place)).collect();
            let some = places.first().is_some();
            if some { Ok(TenantChange::Condemned { places: places.clone() }) } else { Err(Refusal::InUse(due[0].0)) }
        };
        match self.change_tenant(tenant, None, &author, condemn).await {
            Ok(_) => {}
            Err(ChangeError::Refused(Refusal::InUse(_))) => return Ok(()),
            Err(error) => return Err(error),
        }
        collected.condemned += places.len();
        let dead = due.iter().filter(|(place, _)| places.contains(place)).map(|(_, path)| path.clone()).collect();
        collected.deleted += self.remove(dead).await?;
        Ok(())
    }

    async fn remove(&self, paths: Vec<Path>) -> Result<usize, StoreError> {
        let count = paths.len();
        self.store().delete_all(paths).await?;
        Ok(count)
    }

    /// A folder keeps the halves of what was being written when a process was killed, and lists them nowhere.
    async fn sweep(&self, tenant: &TenantId, now: SystemTime, grace: Duration) -> Result<usize, StoreError> {
        let Some(local) = self.store().0.local.clone() else { return Ok(0) };
        let prefix = layout::tenant(tenant);
        let fail = self.store().fail(&prefix);
        let sweep = move || {
            let mut count = 0;
            for (path, modified) in local.staged(&prefix)? {
                if age(now, modified) >= grace && fs::remove_file(path).is_ok() {
                    count += 1;
                }
            }
            Ok(count)
        };
        let swept = tokio::task::spawn_blocking(sweep).await.map_err(std::io::Error::other).flatten();
        swept.map_err(|error: std::io::Error| fail(error.into()))
    }
}

/// What has been without a name for long enough, with its object.
fn due(
    tenant: &TenantId,
    state: &TenantState,
    objects: &BTreeMap<Place, &ObjectMeta>,
    now: SystemTime,
    grace: Grace,
) -> BTreeMap<Place, Path> {
    let uploads = state.uploads();
    let stale = |since_ms| millis(now).saturating_sub(since_ms) >= whole_millis(grace.unnamed);
    let unnamed = uploads.unnamed().filter(|(_, since_ms)| stale(*since_ms));
    let unnamed = unnamed.map(|(blob, _)| (blob.place, layout::blob(tenant, blob)));
    let unknown = objects.iter().filter(|(place, _)| !uploads.is_known(**place));
    let orphans = unknown.filter(|(_, object)| age(now, object.last_modified.into()) >= grace.orphan);
    unnamed.chain(orphans.map(|(place, object)| (*place, object.location.clone()))).collect()
}

fn age(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn millis(time: SystemTime) -> u64 {
    whole_millis(age(time, UNIX_EPOCH))
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
