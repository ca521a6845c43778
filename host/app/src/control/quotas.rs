//! What a tenant may keep in its catalog: looked at before the work, and again in the very state that is changed, which another host
//! may have changed meanwhile.

use std::collections::BTreeMap;

use sandmill_catalog::store::{Refusal, TenantState};
use sandmill_catalog::{Digest, UploadKind};
use sandmill_domain::FunctionName;
use sandmill_domain::control::Quotas;

/// Room for one function more, if it is not there.
pub(crate) fn function(quotas: &Quotas, state: &TenantState, name: &FunctionName) -> Result<(), Refusal> {
    let there = state.functions();
    if there.contains_key(name) {
        return Ok(());
    }
    within(quotas.functions_max, there.len() as u64 + 1, "functions", "functions_max")
}

/// Room for one version more.
pub(crate) fn version(quotas: &Quotas, state: &TenantState, kind: UploadKind) -> Result<(), Refusal> {
    let (count, max, what, name) = match kind {
        UploadKind::Plugin => {
            let count: usize = state.plugins().values().map(BTreeMap::len).sum();
            (count, quotas.plugins_max, "versions of plugins", "plugins_max")
        }
        UploadKind::Model => {
            let count: usize = state.models().values().map(BTreeMap::len).sum();
            (count, quotas.models_max, "versions of models", "models_max")
        }
    };
    within(max, count as u64 + 1, what, name)
}

/// Room for these bytes, as far as the tenant does not have them. What is named no more counts until it is deleted.
pub(crate) fn stored(quotas: &Quotas, state: &TenantState, files: impl Iterator<Item = (Digest, u64)>) -> Result<(), Refusal> {
    let Some(max) = quotas.stored_bytes_max else { return Ok(()) };
    let stored: BTreeMap<_, _> = state.stored_blobs().map(|blob| (blob.sha256, blob.len)).chain(files).collect();
    within(Some(max), stored.values().fold(0, |sum, len| sum.saturating_add(*len)), "bytes in its store", "stored_bytes_max")
}

fn within(max: Option<u64>, count: u64, what: &str, name: &str) -> Result<(), Refusal> {
    match max {
        Some(max) if count > max => {
            Err(Refusal::Quota(format!("it would have {count} {what}, beyond its quota of {max} ({name}): delete some first")))
        }
        _ => Ok(()),
    }
}
