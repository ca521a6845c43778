//! Where everything lies in a store: the names of objects, in one place. A released layout never changes.

use object_store::path::Path;
use sandmill_domain::TenantId;

use super::ids::{Id, Place};
use super::records::BlobRef;

/// The schema of the whole store.
pub(super) const FORMAT: &str = "format.json";
/// Where a store is tried when it is opened.
pub(super) const PROBES: &str = "probe";

/// Whose log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The host's own matters.
    System,
    /// A tenant's.
    Tenant(TenantId),
}

impl Owner {
    fn root(&self) -> String {
        match self {
            Self::System => "system".into(),
            Self::Tenant(tenant) => format!("tenants/{tenant}"),
        }
    }

    pub(crate) fn log(&self) -> Path {
        Path::from(format!("{}/log", self.root()))
    }

    pub(crate) fn record(&self, number: u64) -> Path {
        Path::from(format!("{}/log/{number:016}.json", self.root()))
    }

    pub(crate) fn checkpoints(&self) -> Path {
        Path::from(format!("{}/checkpoints", self.root()))
    }

    pub(crate) fn checkpoint(&self, number: u64) -> Path {
        Path::from(format!("{}/checkpoints/{number:016}.json", self.root()))
    }
}

/// The number of a record or a checkpoint, by its object's name.
pub(super) fn number(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// All that is a tenant's.
pub(crate) fn tenant(tenant: &TenantId) -> Path {
    Path::from(format!("tenants/{tenant}"))
}

pub(crate) fn blobs(tenant: &TenantId) -> Path {
    Path::from(format!("tenants/{tenant}/blobs"))
}

pub(crate) fn blob(tenant: &TenantId, blob: &BlobRef) -> Path {
    Path::from(format!("tenants/{tenant}/blobs/{}/{}", blob.sha256, blob.place))
}

/// What a tenant has used.
pub(super) fn all_usage(tenant: &TenantId) -> Path {
    Path::from(format!("tenants/{tenant}/usage"))
}

/// The same in one hour since 1970, as one host saw it.
pub(super) fn usage(tenant: &TenantId, hour: u64, host: Id) -> Path {
    Path::from(format!("tenants/{tenant}/usage/{hour:010}/{host}.json"))
}

/// After all of one hour's, and before the next one's.
pub(super) fn usage_end(tenant: &TenantId, hour: u64) -> Path {
    Path::from(format!("tenants/{tenant}/usage/{hour:010}/z"))
}

/// The hour of an object below a tenant's usage.
pub(super) fn hour(path: &Path) -> Option<u64> {
    let parts: Vec<_> = path.parts().collect();
    parts.get(3)?.as_ref().parse().ok()
}

/// The place of an object below a tenant's blobs.
pub(crate) fn place(path: &Path) -> Option<Place> {
    Place::try_from(path.filename()?.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn the_layout_is_as_it_was_released() {
        let owner = Owner::Tenant(TenantId::local());
        assert_eq!(owner.record(7).to_string(), "tenants/default/log/0000000000000007.json");
        assert_eq!(owner.checkpoint(100).to_string(), "tenants/default/checkpoints/0000000000000100.json");
        assert_eq!(Owner::System.record(1).to_string(), "system/log/0000000000000001.json");
        assert_eq!(number(&owner.record(1_234_567_890_123_456)), Some(1_234_567_890_123_456));
        assert_eq!(number(&Path::from("system/log/1.json")), None);
        let of = BlobRef { sha256: Digest::of(b"abc"), len: 3, place: Place::of(1) };
        let path = blob(&TenantId::local(), &of);
        assert_eq!(
            path.to_string(),
            "tenants/default/blobs/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/00000000000000000000000000000001"
        );
        assert_eq!(place(&path), Some(of.place));
        let path = usage(&TenantId::local(), 12, Id::of(1));
        assert_eq!(path.to_string(), "tenants/default/usage/0000000012/00000000000000000000000000000001.json");
        assert_eq!(hour(&path), Some(12));
        assert!(usage_end(&TenantId::local(), 11) < path && path < usage_end(&TenantId::local(), 12));
    }
}
