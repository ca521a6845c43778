//! From here on a change is written down: its files go to the store, and then the tenant's log names them. What went there for nothing
//! is deleted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sandmill_catalog::Digest;
use sandmill_catalog::store::{Author, BlobRef, ChangeError, Refusal, Revision, StoreError, TenantChange, TenantState};
use sandmill_domain::control::{Refused, Step};
use sandmill_domain::{Code, Fault, TenantId};

use super::faults::{refused, store_fault};
use super::{ControlPlane, quotas};

/// Files on this host's disk, by their paths in a folder, with what their bytes are.
pub(crate) type Files = BTreeMap<String, (PathBuf, Digest, u64)>;

/// The same in the store.
pub(crate) type Blobs = BTreeMap<String, BlobRef>;

/// What is to be written, for whom.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) revision: Option<Revision>,
    pub(crate) author: &'a Author,
    pub(crate) files: &'a Files,
}

/// What the files are, for a quota.
pub(crate) fn lengths(files: &Files) -> impl Iterator<Item = (Digest, u64)> {
    files.values().map(|(_, sha256, len)| (*sha256, *len))
}

impl ControlPlane {
    /// Stores the files, of which what the tenant has already is not stored again, says so by `stored`, and makes the change.
    pub(crate) async fn write_down(
        &self,
        writing: Writing<'_>,
        mut stored: impl FnMut() + Send,
        mut change: impl FnMut(&TenantState, &Blobs) -> Result<TenantChange, Refusal> + Send,
    ) -> Result<(), Refused> {
        let Writing { tenant, revision, author, files } = writing;
        let mut again = true;
        loop {
            let mut new = Vec::new();
            let uploaded = self.upload(tenant, files, &mut new).await;
            let blobs = uploaded.map_err(|error| Refused::from(store_fault(error)).at(Step::Store))?;
            stored();
            let quotas = self.quotas(tenant);
            let make = |state: &TenantState| {
                quotas::stored(&quotas, state, lengths(files))?;
                change(state, &blobs)
            };
            let Err(error) = self.catalog.change_tenant(tenant, revision, author, make).await else { return Ok(()) };
            if matches!(error, ChangeError::Refused(_) | ChangeError::Store(StoreError::Conflict { .. })) {
                // Nothing names them, and nothing will: whoever comes again stores them again.
                self.catalog.store().blobs(tenant).discard(&new).await;
            }
            return Err(match error {
                // What was there already was just being deleted.
                ChangeError::Refused(Refusal::Condemned(_)) if again => {
                    again = false;
                    continue;
                }
                // A version that it names was there when it was read.
                ChangeError::Refused(refusal @ Refusal::Unknown(_)) => {
                    Fault::new(Code::Conflict, format!("{refusal} any more: it was removed meanwhile")).into()
                }
                error => refused(error),
            }
            .at(Step::Publish));
        }
    }

    /// `new` are those that were not there before, also if this fails.
    async fn upload(&self, tenant: &TenantId, files: &Files, new: &mut Vec<BlobRef>) -> Result<Blobs, StoreError> {
        let state = self.tenant(tenant);
        let mut known: BTreeMap<_, BlobRef> = state.live_blobs().map(|blob| (blob.sha256, *blob)).collect();
        let blobs = self.catalog.store().blobs(tenant);
        let mut uploaded = BTreeMap::new();
        for (name, (path, sha256, len)) in files {
            let blob = match known.get(sha256) {
                Some(blob) => *blob,
                None => {
                    let blob = blobs.put(path, *sha256, *len).await?;
                    new.push(blob);
                    blob
                }
            };
            known.insert(*sha256, blob);
            uploaded.insert(name.clone(), blob);
        }
        Ok(uploaded)
    }
}
