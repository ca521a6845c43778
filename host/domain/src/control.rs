//! What can be asked of the control plane, and its answers, which are what a client sees as JSON, and reads again: a newer
//! server's may have fields that an older client passes over. How they travel is the edge's matter; how they come about, that of
//! whoever implements [`crate::ports::Control`].

mod details;
mod uploads;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::details::{
    AuditEntry, Deployment, Difference, FileChange, FileDetail, FunctionDetail, FunctionSummary, HourUsage, Identity, KeyDetail,
    ModelDetail, ReleaseDetail, Step, StepDetail, TenantDetail,
};
pub use self::uploads::{
    InitOutcome, MeasuredDetail, ModelAbout, ModelAdded, ModelSummary, ModelVersion, PluginAbout, PluginAdded, PluginDifference,
    PluginSummary, PluginVersion, TensorDetail, VersionSummary,
};
use crate::{Caller, Fault, FunctionName, JournalLine, Label, ReleaseNumber, Scope, TenantId};

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
