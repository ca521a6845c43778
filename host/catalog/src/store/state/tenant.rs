//! One tenant's state: its plugins, models, functions with their kept releases, keys and uploads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sandmill_domain::{FunctionName, Label, ReleaseNumber};
use serde::{Deserialize, Serialize};

use super::bounds::RELEASES_KEPT;
use super::ledger::Ledger;
use super::refusal::Refusal;
use crate::store::{BlobRef, Key, Pin};

/// What a tenant's log says in all. Cheap to copy: releases are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantState {
    pub(super) plugins: Versions<Plugin>,
    pub(super) models: Versions<Model>,
    pub(super) functions: BTreeMap<FunctionName, Function>,
    /// The last release of every name that a function has ever had.
    pub(super) numbers: BTreeMap<FunctionName, ReleaseNumber>,
    pub(super) keys: BTreeMap<Label, Key>,
    pub(super) uploads: Ledger,
}

/// By name, then by version.
pub(super) type Versions<T> = BTreeMap<Label, BTreeMap<Label, T>>;

/// A version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// The component.
    pub blob: BlobRef,
    /// JSON, as it was given.
    pub about: Arc<str>,
    /// When it was added, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its files, by their paths relative to one another.
    pub files: BTreeMap<String, BlobRef>,
    /// JSON, as it was given.
    pub about: Arc<str>,
    /// When it was added, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A function's kept releases: the last ones that were current, each once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// The one that is served.
    pub current: Arc<Release>,
    /// Those before it, the one that was current last first.
    pub before: Vec<Arc<Release>>,
}

/// One release.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its number within the function.
    pub number: ReleaseNumber,
    /// `function.toml`.
    pub manifest: String,
    /// The files that it names, by their paths in the function's folder.
    pub files: BTreeMap<String, BlobRef>,
    /// What it is made of.
    pub pins: BTreeSet<Pin>,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who made it.
    pub by: String,
}

impl Function {
    /// All that are kept, the current one first.
    pub fn kept(&self) -> impl Iterator<Item = &Arc<Release>> {
        std::iter::once(&self.current).chain(&self.before)
    }

    /// Makes a release current; what falls out is given back.
    pub(super) fn switch(&mut self, release: Arc<Release>) -> Option<Arc<Release>> {
        self.before.retain(|other| other.number != release.number);
        self.before.insert(0, std::mem::replace(&mut self.current, release));
        if self.before.len() < RELEASES_KEPT { None } else { self.before.pop() }
    }

    pub(super) fn not_kept(&self, function: &FunctionName, number: ReleaseNumber) -> Refusal {
        let kept: Vec<_> = self.kept().map(|release| release.number.to_string()).collect();
        Refusal::NotKept { function: function.clone(), number, kept: kept.join(", ") }
    }
}

impl TenantState {
    /// Plugins, by name and version.
    pub fn plugins(&self) -> &BTreeMap<Label, BTreeMap<Label, Plugin>> {
        &self.plugins
    }

    /// Models, by name and version.
    pub fn models(&self) -> &BTreeMap<Label, BTreeMap<Label, Model>> {
        &self.models
    }

    /// Functions.
    pub fn functions(&self) -> &BTreeMap<FunctionName, Function> {
        &self.functions
    }

    /// The number that the next release of a function has, also of one that is not there yet or no more.
    pub fn next_number(&self, function: &FunctionName) -> ReleaseNumber {
        self.numbers.get(function).map_or(ReleaseNumber::FIRST, |last| last.next())
    }

    /// The tenant's.
    pub fn keys(&self) -> &BTreeMap<Label, Key> {
        &self.keys
    }

    /// The same, and what they have named and name no more, until it is deleted.
    pub fn stored_blobs(&self) -> impl Iterator<Item = &BlobRef> {
        self.uploads.live().chain(self.uploads.unnamed().map(|(blob, _since)| blob))
    }

    /// Everything that kept releases, plugins and models name, each upload once.
    pub fn live_blobs(&self) -> impl Iterator<Item = &BlobRef> {
        self.uploads.live()
    }

    pub(crate) fn uploads(&self) -> &Ledger {
        &self.uploads
    }
}
