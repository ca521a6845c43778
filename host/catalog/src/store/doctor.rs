//! A whole store, looked through: every record, every checkpoint, every byte of every upload that is named. Changes nothing.

use futures_util::StreamExt;
use object_store::path::Path;
use sandmill_domain::TenantId;

use super::access::Store;
use super::error::StoreError;
use super::layout::{self, Owner};
use super::log::{Head, Log, Revision};
use super::records::BlobRef;
use super::state::{State, SystemState, TenantState};

/// Uploads read at once.
const BLOBS_IN_FLIGHT: usize = 4;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of each log, the host's own first, then the tenants' by name.
    pub logs: Vec<LogReport>,
}

/// What was found in one log, and in what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Whose.
    pub owner: Owner,
    /// How many records could be read in order.
    pub revision: Revision,
    /// How many checkpoints agree with the records.
    pub checkpoints: usize,
    /// How many uploads are named and whole.
    pub blobs: usize,
    /// Their size in all.
    pub blob_bytes: u64,
    /// What is wrong.
    pub troubles: Vec<Trouble>,
    /// Objects among the uploads that no state names: no trouble, but space; the collector's work.
    pub orphans: Vec<Orphan>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A record cannot be read or does not follow; what comes after it was not looked at.
    Record(StoreError),
    /// A checkpoint cannot be read. The log can be read without it.
    Checkpoint(StoreError),
    /// A checkpoint says other things than the records: starts that found it have believed it.
    Differs {
        /// Of the checkpoint.
        revision: Revision,
    },
    /// An upload that is named is missing or damaged.
    Blob(BlobRef, StoreError),
}

/// An object that no state names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name in the store.
    pub object: String,
    /// Its size.
    pub bytes: u64,
}

impl Report {
    /// Whether nothing is wrong; there may be orphans.
    pub fn is_clean(&self) -> bool {
        self.logs.iter().all(|log| log.troubles.is_empty())
    }
}

impl LogReport {
    fn new(owner: Owner) -> Self {
        let (troubles, orphans) = (Vec::new(), Vec::new());
        Self { owner, revision: Revision::default(), checkpoints: 0, blobs: 0, blob_bytes: 0, troubles, orphans }
    }
}

/// Looks through a store. Takes as long as reading all of it. Safe beside writers and to cancel.
///
/// # Errors
/// If the store cannot be read at all; what is wrong in it is in the report.
pub async fn doctor(store: &Store) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let mut own = LogReport::new(Owner::System);
    let system = examine_log::<SystemState>(store, &mut own).await?;
    report.logs.push(own);
    for tenant in system.state.tenants().keys() {
        let mut own = LogReport::new(Owner::Tenant(tenant.clone()));
        let listed = store.list(&layout::blobs(tenant), None).await?;
        let head = examine_log::<TenantState>(store, &mut own).await?;
        let orphans = listed.iter().filter(|object| is_orphan(&head.state, &object.location));
        own.orphans = orphans.map(|object| Orphan { object: object.location.to_string(), bytes: object.size }).collect();
        examine_blobs(store, tenant, &head, &mut own).await?;
        report.logs.push(own);
    }
    Ok(report)
}

fn is_orphan(state: &TenantState, path: &Path) -> bool {
    layout::place(path).is_none_or(|place| !state.uploads().is_known(place))
}

/// Reads a log from its first record on, and from each checkpoint: all must lead to the same.
async fn examine_log<S: State>(store: &Store, report: &mut LogReport) -> Result<Head<S>, StoreError> {
    let log = Log::<S>::new(store.clone(), report.owner.clone());
    // From the oldest on, so that the records are read once.
    let mut checkpoints = log.checkpoints().await?;
    checkpoints.reverse();
    let mut head = Head::default();
    for number in checkpoints {
        head = advance(&log, &head, Some(Revision(number)), report).await?;
        if head.revision == Revision(number) {
            examine_checkpoint(&log, &head, report).await?;
        }
    }
    let head = advance(&log, &head, None, report).await?;
    if report.troubles.iter().all(|trouble| !matches!(trouble, Trouble::Record(_)))
        && let Err(error) = log.check_end(&head).await
    {
        report.troubles.push(Trouble::Record(damage(error)?));
    }
    report.revision = head.revision;
    Ok(head)
}

async fn advance<S: State>(
    log: &Log<S>,
    head: &Head<S>,
    until: Option<Revision>,
    report: &mut LogReport,
) -> Result<Head<S>, StoreError> {
    let mut head = head.clone();
    if let Err(error) = log.advance(&mut head, until).await {
        let trouble = Trouble::Record(damage(error)?);
        if !report.troubles.contains(&trouble) {
            report.troubles.push(trouble);
        }
    }
    Ok(head)
}

async fn examine_checkpoint<S: State>(log: &Log<S>, head: &Head<S>, report: &mut LogReport) -> Result<(), StoreError> {
    match log.checkpoint(head.revision.0).await {
        Ok(Some(found)) if found == *head => report.checkpoints += 1,
        Ok(Some(_)) => report.troubles.push(Trouble::Differs { revision: head.revision }),
        // A writer has just removed it.
        Ok(None) => {}
        Err(error) => report.troubles.push(Trouble::Checkpoint(damage(error)?)),
    }
    Ok(())
}

async fn examine_blobs(
    store: &Store,
    tenant: &TenantId,
    head: &Head<TenantState>,
    report: &mut LogReport,
) -> Result<(), StoreError> {
    let blobs = store.blobs(tenant);
    let reads = head.state.live_blobs().map(|blob| async { (*blob, blobs.check(blob).await) });
    let reads: Vec<_> = reads.collect();
    let mut reads = futures_util::stream::iter(reads).buffered(BLOBS_IN_FLIGHT);
    let mut bad = Vec::new();
    while let Some((blob, read)) = reads.next().await {
        match read {
            Ok(()) => {
                report.blobs += 1;
                report.blob_bytes += blob.len;
            }
            Err(error) => bad.push((blob, damage(error)?)),
        }
    }
    if !bad.is_empty() {
        // A collector may have deleted since what is named no more.
        let now = store.tenant_log(tenant).catch_up(head).await.unwrap_or_else(|_| head.clone());
        bad.retain(|(blob, _)| now.state.uploads().is_live(blob.place));
    }
    report.troubles.extend(bad.into_iter().map(|(blob, error)| Trouble::Blob(blob, error)));
    Ok(())
}

/// What is wrong in the store, not with reaching it.
fn damage(error: StoreError) -> Result<StoreError, StoreError> {
    use StoreError::{Corrupt, Missing, Newer, TooLarge};
    match error {
        Corrupt { .. } | Missing { .. } | Newer { .. } | TooLarge { .. } => Ok(error),
        error => Err(error),
    }
}
