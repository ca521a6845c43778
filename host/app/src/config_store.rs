//! `[store]`: where the catalog lasts, and how it is followed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sandmill_catalog::store::Grace;
use sandmill_catalog::{ArchiveLimits, ByteSize, Count};
use serde::Deserialize;

use crate::config::{GIB, Millis, Number, set};
use crate::config_sandbox::default_cache;

/// The longest that a file is kept for nobody.
const MONTH_MS: usize = 31 * 24 * 60 * 60 * 1000;

/// `[store]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    pub(crate) location: Option<String>,
    work: Option<PathBuf>,
    poll_ms: Option<Millis>,
    usage_ms: Option<Millis>,
    collect_ms: Option<Millis>,
    unnamed_ms: Option<Count<1, MONTH_MS>>,
    orphan_ms: Option<Count<1, MONTH_MS>>,
    pub(crate) warm_ms: Option<Millis>,
    deploys_max: Option<Count<1, 64>>,
    deploys_waiting_max: Option<Number>,
    changes_per_minute_max: Option<Count<1, 1_000_000>>,
    unpacked_bytes_max: Option<ByteSize<1, { 64 * GIB }>>,
    entries_max: Option<Number>,
}

/// What is done now and then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Books {
    pub(crate) usage: Duration,
    pub(crate) collect: Duration,
    /// How long files that nothing names stay.
    pub(crate) grace: Grace,
}

impl Store {
    /// Relative to this folder, if it is a folder at all.
    pub(crate) fn within(&mut self, folder: &Path) {
        if let Some(location) = self.location.take() {
            let is_url = location.contains("://") || location.starts_with("memory:");
            self.location = Some(if is_url { location } else { folder.join(location).display().to_string() });
        }
        self.work = self.work.take().map(|work| folder.join(work));
    }

    /// Where releases are unpacked.
    pub(crate) fn work(&self) -> PathBuf {
        self.work.clone().or_else(|| default_cache("releases")).unwrap_or_else(|| std::env::temp_dir().join("sandmill-releases"))
    }

    /// How often the store is asked for changes that other hosts made.
    pub(crate) fn poll(&self) -> Duration {
        self.poll_ms.map_or(Duration::from_secs(1), Count::as_millis)
    }

    /// How often the store is told of what was used, and rid of what nothing names.
    pub(crate) fn books(&self) -> Books {
        let mut grace = Grace::default();
        set(&mut grace.unnamed, self.unnamed_ms.map(Count::as_millis));
        set(&mut grace.orphan, self.orphan_ms.map(Count::as_millis));
        Books {
            grace,
            usage: self.usage_ms.map_or(Duration::from_secs(60), Count::as_millis),
            collect: self.collect_ms.map_or(Duration::from_secs(600), Count::as_millis),
        }
    }

    /// Deployments at work at once,
    pub(crate) fn deploys_max(&self) -> usize {
        self.deploys_max.map_or(2, Count::get)
    }

    /// and those that wait for them, in all.
    pub(crate) fn deploys_waiting_max(&self) -> usize {
        self.deploys_waiting_max.map_or(16, Count::get)
    }

    /// Changes of one tenant per minute.
    pub(crate) fn changes_per_minute_max(&self) -> usize {
        self.changes_per_minute_max.map_or(120, Count::get)
    }

    /// What an archive may hold.
    pub(crate) fn archive_limits(&self) -> ArchiveLimits {
        let mut limits = ArchiveLimits::default();
        set(&mut limits.bytes_max, self.unpacked_bytes_max.map(|size| size.get() as u64));
        set(&mut limits.entries_max, self.entries_max.map(Count::get));
        limits
    }
}
