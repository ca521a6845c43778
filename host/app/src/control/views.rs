//! The catalog's state as the control plane tells it. Plain functions from data to data.

use std::collections::{BTreeMap, BTreeSet};

use sandmill_catalog::store::{BlobRef, Entry, Function, Key, Release, Revision, SystemChange, TenantChange};
use sandmill_domain::control::{AuditEntry, Difference, FileChange, FileDetail, HourUsage, KeyDetail, ReleaseDetail};
use sandmill_domain::{Code, Fault, FunctionName, ReleaseNumber, Usage};

/// One kept release; `loaded` are those that this host has.
pub(crate) fn release(release: &Release, loaded: &[ReleaseNumber]) -> ReleaseDetail {
    ReleaseDetail {
        release: release.number.0.get(),
        released_at_ms: release.at_ms,
        by: release.by.clone(),
        loaded: loaded.contains(&release.number),
        manifest: release.manifest.clone(),
        files: release.files.iter().map(|(path, blob)| (path.clone(), file(blob))).collect(),
    }
}

pub(crate) fn file(blob: &BlobRef) -> FileDetail {
    FileDetail { sha256: blob.sha256.to_string(), bytes: blob.len }
}

/// A kept release of a function.
pub(crate) fn kept<'a>(function: &'a Function, name: &FunctionName, number: ReleaseNumber) -> Result<&'a Release, Fault> {
    let found = function.kept().find(|release| release.number == number).map(|release| &**release);
    found.ok_or_else(|| {
        let kept: Vec<_> = function.kept().map(|release| release.number.to_string()).collect();
        Fault::new(Code::NotFound, format!("release {number} of `{name}` is not kept: there are {}", kept.join(", ")))
    })
}

/// What two releases differ in.
pub(crate) fn difference(name: &FunctionName, from: &Release, to: &Release) -> Difference {
    let paths: BTreeSet<_> = from.files.keys().chain(to.files.keys()).collect();
    let mut files = BTreeMap::new();
    for path in paths {
        let (before, after) = (from.files.get(path), to.files.get(path));
        if before.map(|blob| blob.sha256) != after.map(|blob| blob.sha256) {
            files.insert(path.clone(), FileChange { before: before.map(file), after: after.map(file) });
        }
    }
    let manifest = lines(&from.manifest, &to.manifest);
    Difference { function: name.clone(), from: from.number.0.get(), to: to.number.0.get(), manifest, files }
}

/// The lines that went and came, between those that both begin and end with.
pub(crate) fn lines(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let common = |(one, other): &(&&str, &&str)| one == other;
    let head = before.iter().zip(&after).take_while(common).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(common).count();
    let went = before[..before.len() - tail].iter().map(|line| format!("-{line}"));
    went.chain(after[..after.len() - tail].iter().map(|line| format!("+{line}"))).collect()
}

/// A key, without its secret.
pub(crate) fn key(key: &Key) -> KeyDetail {
    KeyDetail {
        key: key.id.as_str().to_owned(),
        label: key.label.clone(),
        scopes: key.scopes.iter().copied().collect(),
        expires_at_ms: key.expires_at_ms,
    }
}

/// What was used in one hour.
pub(crate) fn hour((hour, functions): (u64, BTreeMap<FunctionName, Usage>)) -> HourUsage {
    HourUsage { from_ms: hour * 3_600_000, functions }
}

/// A record of a tenant's log.
pub(crate) fn tenant_entry(revision: Revision, entry: &Entry<TenantChange>) -> AuditEntry {
    use TenantChange as Change;
    let (what, of) = match &entry.change {
        Change::PluginAdded { name, version, .. } => ("plugin_added", format!("{name} {version}")),
        Change::PluginRemoved { name, version } => ("plugin_removed", format!("{name} {version}")),
        Change::ModelAdded { name, version, .. } => ("model_added", format!("{name} {version}")),
        Change::ModelRemoved { name, version } => ("model_removed", format!("{name} {version}")),
        Change::Released { function, number, .. } => ("released", format!("{function} {number}")),
        Change::RolledBack { function, to } => ("rolled_back", format!("{function} {to}")),
        Change::FunctionDeleted { function } => ("function_deleted", function.to_string()),
        Change::KeyAdded(key) => ("key_added", key.id.to_string()),
        Change::KeyRevoked { id } => ("key_revoked", id.to_string()),
        Change::Condemned { places } => ("files_deleted", places.len().to_string()),
    };
    audit(revision, entry, what, of)
}

/// A record of the host's own log.
pub(crate) fn system_entry(revision: Revision, entry: &Entry<SystemChange>) -> AuditEntry {
    use SystemChange as Change;
    let (what, of) = match &entry.change {
        Change::TenantAdded { tenant, .. } => ("tenant_added", tenant.to_string()),
        Change::TenantChanged { tenant, .. } => ("tenant_changed", tenant.to_string()),
        Change::TenantRemoved { tenant } => ("tenant_removed", tenant.to_string()),
        Change::KeyAdded(key) => ("key_added", key.id.to_string()),
        Change::KeyRevoked { id } => ("key_revoked", id.to_string()),
    };
    audit(revision, entry, what, of)
}

fn audit<C>(revision: Revision, entry: &Entry<C>, what: &str, of: String) -> AuditEntry {
    let Entry { at_ms, by, from, .. } = entry;
    AuditEntry { revision: revision.0, at_ms: *at_ms, by: by.clone(), from: from.clone(), what: what.to_owned(), of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_went_and_came() {
        assert_eq!(lines("a\nb\nc", "a\nx\ny\nc"), ["-b", "+x", "+y"]);
        assert_eq!(lines("a", "a"), Vec::<String>::new());
        assert_eq!(lines("", "a\na"), ["+a", "+a"]);
        assert_eq!(lines("a\na", "a"), ["-a"]);
    }
}
