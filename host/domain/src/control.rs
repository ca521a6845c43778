//! What can be asked of the control plane, and its answers, which are what a client sees as JSON, and reads again: a newer
//! server's may have fields that an older client passes over. How they travel is the edge's matter; how they come about, that of
//! whoever implements [`crate::ports::Control`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Caller, Fault, FunctionName, JournalLine, Label, ReleaseNumber, Scope, TenantId, Usage};

/// Something asked, by somebody, about one tenant's things unless [`Ask`] says otherwise.
#[derive(Clone, Debug)]
pub struct Asked {
    /// By whom; its scopes have been checked against [`Ask::scope`].
    pub caller: Caller,
    /// About whose; none for what is asked about all tenants.
    pub tenant: Option<TenantId>,
    /// The state that it rests on: with a newer one there, nothing is changed. None rests on whatever is there.
    pub revision: Option<u64>,
    /// What.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What the key is, and what it allows.
    WhoAmI,
    /// All functions, with the release of each that answers.
    Functions,
    /// One function, with its kept releases.
    Function(FunctionName),
    /// A release, made of the function folder or the manifest that the body is.
    Deploy {
        /// The function; the manifest's own name, if it has one, must be the same.
        function: FunctionName,
        /// What the body is: a folder, or a manifest alone.
        form: Form,
        /// Everything but the release itself.
        dry_run: bool,
    },
    /// A kept release answers again; without a number the one that answered last.
    RollBack {
        /// Whose.
        function: FunctionName,
        /// Which.
        to: Option<ReleaseNumber>,
    },
    /// What two kept releases differ in.
    Difference {
        /// Whose.
        function: FunctionName,
        /// The one,
        from: ReleaseNumber,
        /// and the other.
        to: ReleaseNumber,
    },
    /// A function is served no more, and its releases are gone.
    Delete(FunctionName),
    /// All plugins, with their versions.
    Plugins,
    /// One plugin, with what is known of each version.
    Plugin(Label),
    /// A version of a plugin, which is the body: a component.
    AddPlugin(Version),
    /// A version that no kept release is made of is gone.
    RemovePlugin(Version),
    /// All models, with their versions.
    Models,
    /// One model, with what is known of each version.
    Model(Label),
    /// A version of a model.
    AddModel {
        /// Which.
        version: Version,
        /// What the body is: an archive of the model and what belongs to it, or its ONNX file alone.
        form: Form,
    },
    /// A version that no kept release is made of is gone.
    RemoveModel(Version),
    /// The tenant's keys, or the operators' where none is named; without their secrets.
    Keys,
    /// A key, whose secret is told once.
    AddKey(NewKey),
    /// A key stops.
    RevokeKey(Label),
    /// Who changed what and when, the latest last.
    Audit {
        /// After this revision.
        after: u64,
    },
    /// What a function's plugins have said on this host.
    Logs {
        /// Whose.
        function: FunctionName,
        /// After this line.
        after: u64,
        /// How long to wait for one, if there is none yet, in milliseconds.
        wait_ms: u64,
    },
    /// What the tenant has used, hour by hour, of all hosts.
    Usage {
        /// The first hour, since 1970.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// All tenants.
    Tenants,
    /// A tenant.
    AddTenant(TenantTerms),
    /// What a tenant may use.
    ChangeTenant(TenantTerms),
    /// A tenant is served no more, and its name is never given again.
    RemoveTenant,
}

impl Ask {
    /// Whether anything of a tenant's is other than before when it is done.
    pub const fn changes(&self) -> bool {
        match self {
            Self::Deploy { dry_run, .. } => !*dry_run,
            Self::RollBack { .. }
            | Self::Delete(_)
            | Self::AddPlugin(_)
            | Self::RemovePlugin(_)
            | Self::AddModel { .. }
            | Self::RemoveModel(_)
            | Self::AddKey(_)
            | Self::RevokeKey(_)
            | Self::AddTenant(_)
            | Self::ChangeTenant(_)
            | Self::RemoveTenant => true,
            Self::WhoAmI
            | Self::Functions
            | Self::Function(_)
            | Self::Difference { .. }
            | Self::Plugins
            | Self::Plugin(_)
            | Self::Models
            | Self::Model(_)
            | Self::Keys
            | Self::Audit { .. }
            | Self::Logs { .. }
            | Self::Usage { .. }
            | Self::Tenants => false,
        }
    }

    /// What a key must allow for it.
    pub const fn scope(&self) -> Option<Scope> {
        match self {
            Self::WhoAmI => None,
            Self::Functions
            | Self::Logs { .. }
            | Self::Usage { .. }
            | Self::Function(_)
            | Self::Deploy { .. }
            | Self::RollBack { .. }
            | Self::Difference { .. }
            | Self::Delete(_)
            | Self::Plugins
            | Self::Plugin(_)
            | Self::AddPlugin(_)
            | Self::RemovePlugin(_)
            | Self::Models
            | Self::Model(_)
            | Self::AddModel { .. }
            | Self::RemoveModel(_) => Some(Scope::Deploy),
            Self::Keys | Self::AddKey(_) | Self::RevokeKey(_) | Self::Audit { .. } => Some(Scope::Admin),
            Self::Tenants | Self::AddTenant(_) | Self::ChangeTenant(_) | Self::RemoveTenant => Some(Scope::Admin),
        }
    }

    /// Whether only an operator may ask it.
    pub const fn is_for_operators(&self) -> bool {
        matches!(self, Self::Tenants | Self::AddTenant(_) | Self::ChangeTenant(_) | Self::RemoveTenant)
    }
}

/// What a large body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A tar archive, gzip-compressed or not.
    Archive,
    /// One file, as it is.
    File,
}

/// A version of a plugin or of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Whose.
    pub name: Label,
    /// Which.
    pub version: Label,
}

/// As a manifest names it: `name@version`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            let shown: String = text.chars().take(200).collect();
            format!("expected `name@version`, found {shown:?}")
        };
        let (name, version) = text.split_once('@').ok_or_else(expected)?;
        let label = |text: &str| Label::new(text).map_err(|error| error.to_string());
        Ok(Self { name: label(name)?, version: label(version)? })
    }
}

/// A key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it allows, at least one.
    pub scopes: Vec<Scope>,
    /// What people call it.
    #[serde(default)]
    pub label: String,
    /// For how long, in seconds; for ever without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// What a tenant may use; what is not given is as the host has it by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantTerms {
    /// Its share where tenants compete.
    pub weight: u32,
    /// Its bounds.
    pub quotas: Quotas,
}

impl Default for TenantTerms {
    fn default() -> Self {
        Self { weight: 1, quotas: Quotas::default() }
    }
}

/// Bounds of one tenant; what is not given is as the host has it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Requests begun per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second_max: Option<u64>,
    /// Requests under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_max: Option<u64>,
    /// Plugin instances alive at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u64>,
    /// The memory limits of those instances together, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_memory_bytes_max: Option<u64>,
    /// All bodies that are held, of requests and of answers, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffered_bytes_max: Option<u64>,
    /// Functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions_max: Option<u64>,
    /// Versions of plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins_max: Option<u64>,
    /// Versions of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models_max: Option<u64>,
    /// One upload, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_bytes_max: Option<u64>,
    /// All uploads together, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes_max: Option<u64>,
}

/// An answer, and the state that it was true in.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The state after what was asked.
    pub revision: u64,
    /// What is told.
    pub answer: Answer,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Ask::WhoAmI`].
    Identity(Identity),
    /// To [`Ask::Functions`].
    Functions {
        /// By their names.
        functions: Vec<FunctionSummary>,
    },
    /// To [`Ask::Function`].
    Function(FunctionDetail),
    /// To [`Ask::Deploy`], also a dry one, and to [`Ask::RollBack`].
    Deployed(Deployment),
    /// To [`Ask::Difference`].
    Difference(Difference),
    /// To [`Ask::Plugins`].
    Plugins {
        /// By their names.
        plugins: Vec<PluginSummary>,
    },
    /// To [`Ask::Plugin`].
    Plugin {
        /// Its name.
        plugin: Label,
        /// The one that was added last first.
        versions: Vec<PluginVersion>,
    },
    /// To [`Ask::AddPlugin`].
    PluginAdded(Box<PluginAdded>),
    /// To [`Ask::Models`].
    Models {
        /// By their names.
        models: Vec<ModelSummary>,
    },
    /// To [`Ask::Model`].
    Model {
        /// Its name.
        model: Label,
        /// The one that was added last first.
        versions: Vec<ModelVersion>,
    },
    /// To [`Ask::AddModel`].
    ModelAdded(Box<ModelAdded>),
    /// To [`Ask::Keys`].
    Keys {
        /// By their ids.
        keys: Vec<KeyDetail>,
    },
    /// To [`Ask::AddKey`].
    KeyAdded {
        /// The key.
        #[serde(flatten)]
        key: KeyDetail,
        /// What its holder shows. Told here and nowhere else.
        secret: String,
    },
    /// To [`Ask::Audit`].
    Audit {
        /// The earliest first.
        entries: Vec<AuditEntry>,
        /// Whether there are more after the last of them.
        more: bool,
    },
    /// To [`Ask::Logs`].
    Logs {
        /// The earliest first.
        lines: Vec<JournalLine>,
    },
    /// To [`Ask::Usage`].
    Usage {
        /// The earliest first; hours without use are left out.
        hours: Vec<HourUsage>,
    },
    /// To [`Ask::Tenants`].
    Tenants {
        /// By their names.
        tenants: Vec<TenantDetail>,
    },
    /// To [`Ask::AddTenant`] and [`Ask::ChangeTenant`].
    Tenant(TenantDetail),
    /// It is gone, or was gone before.
    Gone {},
}

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

/// A plugin in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginSummary {
    /// Its name.
    pub plugin: Label,
    /// The one that was added last first.
    pub versions: Vec<VersionSummary>,
}

/// A model in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Its name.
    pub model: Label,
    /// The one that was added last first.
    pub versions: Vec<VersionSummary>,
}

/// A version in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSummary {
    /// Its name.
    pub version: Label,
    /// When it was added, in milliseconds since 1970.
    pub added_at_ms: u64,
    /// The component, or the ONNX file.
    #[serde(flatten)]
    pub file: FileDetail,
}

/// A version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersion {
    /// Its name.
    pub version: Label,
    /// When it was added, in milliseconds since 1970.
    pub added_at_ms: u64,
    /// The component.
    #[serde(flatten)]
    pub file: FileDetail,
    /// What was seen of it when it was added.
    #[serde(flatten)]
    pub about: PluginAbout,
    /// The functions that it cannot be deleted for: a kept release of each is made of it.
    pub used_by: Vec<FunctionName>,
}

/// What a component is, as it was seen when it was added. Kept as it is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginAbout {
    /// What it does: `preprocess` or `postprocess` or both, or `handler`.
    pub shape: Vec<String>,
    /// Whether its `init` ran.
    pub init: InitOutcome,
    /// Why it did not end well; null if it did, or if there is none.
    pub why_no_init: Option<String>,
    /// The grants, by their names in `[grants]`, without which something that it imports is refused or empty.
    pub grants: Vec<String>,
    /// The interfaces that it imports, in their order; the first of them, if there are very many.
    pub imports: Vec<String>,
    /// The interfaces that it exports, likewise.
    pub exports: Vec<String>,
}

/// What came of a component's `init`, without settings, assets and models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitOutcome {
    /// There is none.
    #[default]
    None,
    /// It ran, and every instance can begin with what it left.
    Snapshot,
    /// It ran, but runs in every instance anew.
    NoSnapshot,
    /// It refused or failed, which it need not with the settings, assets and models of a function.
    Failed,
}

/// A version of a plugin that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginAdded {
    /// Its plugin.
    pub plugin: Label,
    /// The version.
    #[serde(flatten)]
    pub version: PluginVersion,
    /// False if these bytes were there under this version.
    pub added: bool,
    /// What differs from the version that was added before it; null if there is none.
    pub difference: Option<PluginDifference>,
}

/// The interfaces in which two versions of a plugin differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginDifference {
    /// The other version.
    pub since: Label,
    /// Imports that it does not have,
    pub imports_came: Vec<String>,
    /// or that it alone has.
    pub imports_went: Vec<String>,
    /// Exports that it does not have,
    pub exports_came: Vec<String>,
    /// or that it alone has.
    pub exports_went: Vec<String>,
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// Its name.
    pub version: Label,
    /// When it was added, in milliseconds since 1970.
    pub added_at_ms: u64,
    /// All its files, by their paths; `model.onnx` is the model itself.
    pub files: BTreeMap<String, FileDetail>,
    /// What was seen of it when it was added.
    #[serde(flatten)]
    pub about: ModelAbout,
    /// The functions that it cannot be deleted for: a kept release of each is made of it.
    pub used_by: Vec<FunctionName>,
}

/// What a model is, as it was seen when it was added. Kept as it is here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelAbout {
    /// What it takes.
    pub inputs: Vec<TensorDetail>,
    /// What it gives.
    pub outputs: Vec<TensorDetail>,
    /// Inputs and outputs that are left out here, as they are very many.
    pub tensors_left_out: usize,
    /// What was measured on the host that took it, with default options; null if nothing could be.
    pub measured: Option<MeasuredDetail>,
}

/// A tensor that a model takes or gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorDetail {
    /// Its name.
    pub name: String,
    /// The element type, as in the Open Inference Protocol.
    pub datatype: String,
    /// One entry per axis; -1 for one that varies.
    pub shape: Vec<i64>,
    /// The model's symbols for these axes; null where it has none.
    pub axes: Vec<Option<String>>,
}

/// What was measured of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredDetail {
    /// How long it took to load, in milliseconds.
    pub load_ms: f64,
    /// One run of the smallest shapes, when it was warm, in milliseconds.
    pub run_ms: f64,
    /// What its session holds when it is warm, in bytes.
    pub memory_bytes: u64,
    /// The rows that run together at most.
    pub batch_rows_max: usize,
    /// Why calls share no run; null if they do.
    pub why_no_batches: Option<String>,
}

/// A version of a model that was added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelAdded {
    /// Its model.
    pub model: Label,
    /// The version.
    #[serde(flatten)]
    pub version: ModelVersion,
    /// False if these bytes were there under this version.
    pub added: bool,
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

/// Why something asked was not done: nothing has changed.
#[derive(Debug)]
pub struct Refused {
    /// What was wrong, as for any request.
    pub fault: Fault,
    /// Where a deployment was.
    pub step: Option<Step>,
    /// The state that is there, where that was not the expected one.
    pub revision: Option<u64>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, step: None, revision: None }
    }
}

impl Refused {
    /// The same, at this step of a deployment.
    #[must_use]
    pub fn at(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }
}
