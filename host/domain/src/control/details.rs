//! What is told of functions, releases, keys, tenants and their use, one by one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TenantTerms;
use crate::{FunctionName, Scope, TenantId, Usage};

/// A key as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The key's id.
    pub key: String,
    /// Whose; null for an operator's.
    pub tenant: Option<TenantId>,
    /// What it allows.
    pub scopes: Vec<Scope>,
}

/// A function in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSummary {
    /// Its name.
    pub function: FunctionName,
    /// The release that answers.
    pub release: u64,
    /// When that was made, in milliseconds since 1970.
    pub released_at_ms: u64,
    /// Whether this host serves that release.
    pub serving: bool,
}

/// A function with its releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDetail {
    /// Its name.
    pub function: FunctionName,
    /// The release that answers.
    pub release: u64,
    /// Those that are kept, the latest first.
    pub releases: Vec<ReleaseDetail>,
    /// Why this host does not serve the release that should answer; null if it does.
    pub trouble: Option<String>,
}

/// One kept release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDetail {
    /// Its number.
    pub release: u64,
    /// When it was made, in milliseconds since 1970.
    pub released_at_ms: u64,
    /// By whose key.
    pub by: String,
    /// Whether this host has it loaded, so that going back to it takes no time.
    pub loaded: bool,
    /// `function.toml`.
    pub manifest: String,
    /// Its other files, by their paths.
    pub files: BTreeMap<String, FileDetail>,
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDetail {
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What a deployment, or going back to a release, came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// The function.
    pub function: FunctionName,
    /// The release that answers now; after a dry run, the one that would.
    pub release: u64,
    /// The one that answered before; null if there was none.
    pub previous: Option<u64>,
    /// Whether nothing was released.
    pub dry_run: bool,
    /// What each step took, in milliseconds.
    pub steps: Vec<StepDetail>,
    /// What was measured of its models.
    pub models: Vec<ModelDetail>,
    /// The status that its sample request was answered with; null without a sample.
    pub sample: Option<u16>,
}

/// One step of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDetail {
    /// Its name.
    pub step: Step,
    /// What it took, in milliseconds.
    pub ms: f64,
}

/// The steps of a deployment, and of adding a plugin or a model, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The body arrives.
    Receive,
    /// An archive is unpacked; the manifest and the files and uploads that it names are read.
    Read,
    /// Quotas, signatures, grants; plugins are compiled, models are tried, loaded and warmed, the sample is answered.
    Load,
    /// Files go to the store.
    Store,
    /// The release, or the version, is written into the tenant's log; a release answers.
    Publish,
}

impl Step {
    /// In texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Read => "read",
            Self::Load => "load",
            Self::Store => "store",
            Self::Publish => "publish",
        }
    }
}

/// A model of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDetail {
    /// Its name.
    pub model: String,
    /// Whether another release of the function that is loaded has it as well, so that it was not loaded again.
    #[serde(default)]
    pub kept: bool,
    /// Who runs it.
    pub provider: String,
    /// The rows that run together at most.
    pub batch_rows_max: usize,
    /// Why calls share no run; null if they do.
    pub why_no_batches: Option<String>,
}

/// What two releases differ in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The function.
    pub function: FunctionName,
    /// From this release
    pub from: u64,
    /// to this.
    pub to: u64,
    /// The manifests' lines, those that went with `-` before them, those that came with `+`; empty if none did.
    pub manifest: Vec<String>,
    /// Files that came, went or changed, by their paths.
    pub files: BTreeMap<String, FileChange>,
}

/// A file that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Null if it came.
    pub before: Option<FileDetail>,
    /// Null if it went.
    pub after: Option<FileDetail>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDetail {
    /// Its id.
    pub key: String,
    /// What people call it.
    pub label: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it stops, in milliseconds since 1970; null for never.
    pub expires_at_ms: Option<u64>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The state that it made.
    pub revision: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// By whose key.
    pub by: String,
    /// From where; empty for the host's own.
    pub from: String,
    /// What: `released`, `rolled_back`, `key_added`, …
    pub what: String,
    /// Of what: a function, a key, ….
    pub of: String,
}

/// What was used in one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourUsage {
    /// Its beginning, in milliseconds since 1970.
    pub from_ms: u64,
    /// By function.
    pub functions: BTreeMap<FunctionName, Usage>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantDetail {
    /// Its name.
    pub tenant: TenantId,
    /// What it may use.
    #[serde(flatten)]
    pub terms: TenantTerms,
    /// How many functions it has.
    pub functions: usize,
}
