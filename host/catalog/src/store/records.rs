//! What is written into logs: one change each, with who made it and when. Plain data; what may follow what is the states' matter.
//!
//! Every type refuses fields that it does not know: what a later Sandmill wrote is not read by halves.

use std::collections::{BTreeMap, BTreeSet};

use sandmill_domain::control::Quotas;
use sandmill_domain::{FunctionName, Label, ReleaseNumber, Scope, TenantId};
use serde::{Deserialize, Serialize};

use super::ids::{Id, Place};
use crate::Digest;

/// The version of every persisted form that this code writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry<C> {
    /// [`SCHEMA`] of the code that wrote it.
    pub v: u32,
    /// Its own, by which a writer knows its record again.
    pub id: Id,
    /// When it was made, in milliseconds since 1970, by its writer's clock.
    pub at_ms: u64,
    /// Who made it: a key's id, or a word for the host itself.
    pub by: String,
    /// Where the request came from; empty for the host's own.
    pub from: String,
    /// What changed.
    pub change: C,
}

/// Who asks for a change, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// A key's id, or a word for the host itself.
    pub by: String,
    /// Where the request came from; empty for the host's own.
    pub from: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

impl<C> Entry<C> {
    /// A new record, with an id of its own.
    pub fn new(author: &Author, change: C) -> Self {
        let Author { by, from, at_ms } = author.clone();
        Self { v: SCHEMA, id: Id::random(), at_ms, by, from, change }
    }
}

/// An upload, and what its bytes must be. Belongs to the tenant in whose log it stands: there is no way to name another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// Of the bytes.
    pub sha256: Digest,
    /// How many they are.
    pub len: u64,
    /// Where they lie.
    pub place: Place,
}

/// A version of a plugin or of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Pin {
    /// A plugin's.
    Plugin {
        /// Whose.
        name: Label,
        /// Which.
        version: Label,
    },
    /// A model's.
    Model {
        /// Whose.
        name: Label,
        /// Which.
        version: Label,
    },
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What it is called by; no other key of its owner has it while this one is there.
    pub id: Label,
    /// What it allows, at least one.
    pub scopes: BTreeSet<Scope>,
    /// Of the secret, which is nowhere kept.
    pub sha256: Digest,
    /// What people call it.
    pub label: String,
    /// When it stops, in milliseconds since 1970; never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// What changes in a tenant's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TenantChange {
    /// A version of a plugin.
    PluginAdded {
        /// Whose.
        name: Label,
        /// Which; not taken.
        version: Label,
        /// The component.
        blob: BlobRef,
        /// What is known of it, its shape and imports: JSON, of no meaning here.
        about: String,
    },
    /// A version that no kept release is made of is gone.
    PluginRemoved {
        /// Whose.
        name: Label,
        /// Which.
        version: Label,
    },
    /// A version of a model.
    ModelAdded {
        /// Whose.
        name: Label,
        /// Which; not taken.
        version: Label,
        /// Its files, by their paths relative to one another.
        files: BTreeMap<String, BlobRef>,
        /// What is known of it: JSON, of no meaning here.
        about: String,
    },
    /// A version that no kept release is made of is gone.
    ModelRemoved {
        /// Whose.
        name: Label,
        /// Which.
        version: Label,
    },
    /// A function's next release, current from now on.
    Released {
        /// Whose.
        function: FunctionName,
        /// One more than that of its last release, deleted ones of the same name included.
        number: ReleaseNumber,
        /// `function.toml`.
        manifest: String,
        /// The files that the manifest names, by their paths in the function's folder.
        files: BTreeMap<String, BlobRef>,
        /// What it was made of.
        pins: BTreeSet<Pin>,
    },
    /// A kept release is current again.
    RolledBack {
        /// Whose.
        function: FunctionName,
        /// Which.
        to: ReleaseNumber,
    },
    /// A function is gone, with all its releases.
    FunctionDeleted {
        /// Which.
        function: FunctionName,
    },
    /// A key.
    KeyAdded(Key),
    /// A key is gone.
    KeyRevoked {
        /// Which.
        id: Label,
    },
    /// Uploads that nothing names, and that nothing may name from now on: they are being deleted.
    Condemned {
        /// Which.
        places: BTreeSet<Place>,
    },
}

/// What changes in the host's own log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SystemChange {
    /// A tenant, of a name that none has had.
    TenantAdded {
        /// Its name.
        tenant: TenantId,
        /// Its share where tenants compete, at least 1.
        weight: u32,
        /// What it may use.
        quotas: Quotas,
    },
    /// What it may use from now on.
    TenantChanged {
        /// Its name.
        tenant: TenantId,
        /// Its share where tenants compete, at least 1.
        weight: u32,
        /// What it may use.
        quotas: Quotas,
    },
    /// It is served no more. Its log stays, and its name with it.
    TenantRemoved {
        /// Its name.
        tenant: TenantId,
    },
    /// An operator's key.
    KeyAdded(Key),
    /// An operator's key is gone.
    KeyRevoked {
        /// Which.
        id: Label,
    },
}
