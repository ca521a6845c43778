//! `sandmill audit`.

use anyhow::Result;
use sandmill_domain::control::AuditEntry;
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::words::{moment, table};
use crate::cli::AuditOptions;

#[derive(Deserialize)]
struct Audit {
    entries: Vec<AuditEntry>,
    more: bool,
}

/// `sandmill audit`
pub(crate) fn run(options: &AuditOptions, json: bool) -> Result<()> {
    let plane = Plane::open_for(&options.owner, json)?;
    let told = block_on(plane.get(&plane.path(&format!("audit?after={}", options.after))))?;
    plane.show(&told, |audit: Audit| {
        let row = |entry: &AuditEntry| {
            let AuditEntry { revision, at_ms, by, from, what, of } = entry.clone();
            [revision.to_string(), moment(at_ms), what, of, by, from]
        };
        let rows: Vec<_> = audit.entries.iter().map(row).collect();
        let table = table(["revision", "at", "what", "of", "by key", "from"], &rows);
        match (audit.more, audit.entries.last()) {
            (true, Some(last)) => format!("{table}\nthere are more: --after {}", last.revision),
            _ => table,
        }
    })
}
