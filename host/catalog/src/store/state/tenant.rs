//! One tenant's state: its plugins, models, functions with their kept releases, keys and uploads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sandmill_domain::{FunctionName, ReleaseNumber};
use serde::{Deserialize, Serialize};

use super::bounds::{self, FUNCTION_NAMES_MAX, FUNCTIONS_MAX, PINS_MAX, RELEASES_KEPT, VERSIONS_MAX, room};
use super::ledger::Ledger;
use super::refusal::Refusal;
use super::{State, keys};
use crate::store::{BlobRef, Entry, Key, Label, Pin, TenantChange};

/// What a tenant's log says in all. Cheap to copy: releases are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantState {
    plugins: Versions<Plugin>,
    models: Versions<Model>,
    functions: BTreeMap<FunctionName, Function>,
    /// The last release of every name that a function has ever had.
    numbers: BTreeMap<FunctionName, ReleaseNumber>,
    keys: BTreeMap<Label, Key>,
    uploads: Ledger,
}

/// By name, then by version.
type Versions<T> = BTreeMap<Label, BTreeMap<Label, T>>;

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
    fn switch(&mut self, release: Arc<Release>) -> Option<Arc<Release>> {
        self.before.retain(|other| other.number != release.number);
        self.before.insert(0, std::mem::replace(&mut self.current, release));
        if self.before.len() < RELEASES_KEPT { None } else { self.before.pop() }
    }

    fn not_kept(&self, function: &FunctionName, number: ReleaseNumber) -> Refusal {
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

    /// Everything that kept releases, plugins and models name, each upload once.
    pub fn live_blobs(&self) -> impl Iterator<Item = &BlobRef> {
        self.uploads.live()
    }

    pub(crate) fn uploads(&self) -> &Ledger {
        &self.uploads
    }

    fn add_plugin(&mut self, name: &Label, version: &Label, plugin: Plugin) -> Result<(), Refusal> {
        bounds::about(&plugin.about)?;
        self.uploads.check([&plugin.blob])?;
        let blob = plugin.blob;
        insert(&mut self.plugins, "plugin", name, version, plugin)?;
        self.uploads.name([&blob]);
        Ok(())
    }

    fn add_model(&mut self, name: &Label, version: &Label, model: Model) -> Result<(), Refusal> {
        bounds::about(&model.about)?;
        bounds::files(&model.files)?;
        if model.files.is_empty() {
            return Err(bounds::malformed(format!("model `{name}`"), "it has a file"));
        }
        self.uploads.check(model.files.values())?;
        let files = model.files.clone();
        insert(&mut self.models, "model", name, version, model)?;
        self.uploads.name(files.values());
        Ok(())
    }

    fn remove_plugin(&mut self, name: &Label, version: &Label, at_ms: u64) -> Result<(), Refusal> {
        let pin = Pin::Plugin { name: name.clone(), version: version.clone() };
        self.check_unpinned(&pin)?;
        let plugin = remove(&mut self.plugins, name, version).ok_or_else(|| Refusal::Unknown(describe(&pin)))?;
        self.uploads.unname([&plugin.blob], at_ms);
        Ok(())
    }

    fn remove_model(&mut self, name: &Label, version: &Label, at_ms: u64) -> Result<(), Refusal> {
        let pin = Pin::Model { name: name.clone(), version: version.clone() };
        self.check_unpinned(&pin)?;
        let model = remove(&mut self.models, name, version).ok_or_else(|| Refusal::Unknown(describe(&pin)))?;
        self.uploads.unname(model.files.values(), at_ms);
        Ok(())
    }

    fn check_unpinned(&self, pin: &Pin) -> Result<(), Refusal> {
        for (function, releases) in &self.functions {
            if let Some(release) = releases.kept().find(|release| release.pins.contains(pin)) {
                let (what, number) = (describe(pin), release.number);
                return Err(Refusal::Pinned { what, function: function.clone(), number });
            }
        }
        Ok(())
    }

    fn has(&self, pin: &Pin) -> bool {
        match pin {
            Pin::Plugin { name, version } => self.plugins.get(name).is_some_and(|all| all.contains_key(version)),
            Pin::Model { name, version } => self.models.get(name).is_some_and(|all| all.contains_key(version)),
        }
    }

    fn release(&mut self, function: &FunctionName, release: Release) -> Result<(), Refusal> {
        self.check_release(function, &release)?;
        self.uploads.name(release.files.values());
        self.numbers.insert(function.clone(), release.number);
        let (at_ms, release) = (release.at_ms, Arc::new(release));
        match self.functions.get_mut(function) {
            Some(known) => {
                let gone = known.switch(release);
                self.uploads.unname(gone.iter().flat_map(|gone| gone.files.values()), at_ms);
            }
            None => {
                self.functions.insert(function.clone(), Function { current: release, before: Vec::new() });
            }
        }
        Ok(())
    }

    fn check_release(&self, function: &FunctionName, release: &Release) -> Result<(), Refusal> {
        let next = self.next_number(function);
        if release.number != next {
            return Err(Refusal::NotNext { function: function.clone(), number: release.number, next });
        }
        bounds::length("a manifest", &release.manifest, bounds::MANIFEST_BYTES_MAX)?;
        bounds::files(&release.files)?;
        bounds::at_most("versions that a release is made of", release.pins.len(), PINS_MAX)?;
        if let Some(pin) = release.pins.iter().find(|pin| !self.has(pin)) {
            return Err(Refusal::Unknown(describe(pin)));
        }
        if !self.functions.contains_key(function) {
            room("functions", self.functions.len(), FUNCTIONS_MAX)?;
        }
        if !self.numbers.contains_key(function) {
            room("names of functions", self.numbers.len(), FUNCTION_NAMES_MAX)?;
        }
        self.uploads.check(release.files.values())
    }

    fn roll_back(&mut self, name: &FunctionName, to: ReleaseNumber) -> Result<(), Refusal> {
        let function = self.functions.get_mut(name).ok_or_else(|| unknown(name))?;
        if function.current.number == to {
            return Err(Refusal::Current { function: name.clone(), number: to });
        }
        let release = function.before.iter().find(|release| release.number == to).cloned();
        let release = release.ok_or_else(|| function.not_kept(name, to))?;
        // Nothing falls out: it was among them.
        function.switch(release);
        Ok(())
    }

    fn delete(&mut self, name: &FunctionName, at_ms: u64) -> Result<(), Refusal> {
        let function = self.functions.remove(name).ok_or_else(|| unknown(name))?;
        self.uploads.unname(function.kept().flat_map(|release| release.files.values()), at_ms);
        Ok(())
    }
}

fn unknown(function: &FunctionName) -> Refusal {
    Refusal::Unknown(format!("function `{function}`"))
}

fn describe(pin: &Pin) -> String {
    match pin {
        Pin::Plugin { name, version } => format!("plugin `{name}` {version}"),
        Pin::Model { name, version } => format!("model `{name}` {version}"),
    }
}

fn insert<T>(all: &mut Versions<T>, what: &'static str, name: &Label, version: &Label, item: T) -> Result<(), Refusal> {
    if all.get(name).is_some_and(|versions| versions.contains_key(version)) {
        return Err(Refusal::Taken(format!("{what} `{name}` {version}")));
    }
    room("versions", all.values().map(BTreeMap::len).sum(), VERSIONS_MAX)?;
    all.entry(name.clone()).or_default().insert(version.clone(), item);
    Ok(())
}

fn remove<T>(all: &mut Versions<T>, name: &Label, version: &Label) -> Option<T> {
    let versions = all.get_mut(name)?;
    let item = versions.remove(version)?;
    if versions.is_empty() {
        all.remove(name);
    }
    Some(item)
}

impl State for TenantState {
    type Change = TenantChange;

    fn apply(&mut self, entry: &Entry<TenantChange>) -> Result<(), Refusal> {
        bounds::check_entry(entry)?;
        let at_ms = entry.at_ms;
        match &entry.change {
            TenantChange::PluginAdded { name, version, blob, about } => {
                self.add_plugin(name, version, Plugin { blob: *blob, about: about.as_str().into(), at_ms })
            }
            TenantChange::PluginRemoved { name, version } => self.remove_plugin(name, version, at_ms),
            TenantChange::ModelAdded { name, version, files, about } => {
                self.add_model(name, version, Model { files: files.clone(), about: about.as_str().into(), at_ms })
            }
            TenantChange::ModelRemoved { name, version } => self.remove_model(name, version, at_ms),
            TenantChange::Released { function, number, manifest, files, pins } => {
                let (manifest, files, pins) = (manifest.clone(), files.clone(), pins.clone());
                self.release(function, Release { number: *number, manifest, files, pins, at_ms, by: entry.by.clone() })
            }
            TenantChange::RolledBack { function, to } => self.roll_back(function, *to),
            TenantChange::FunctionDeleted { function } => self.delete(function, at_ms),
            TenantChange::KeyAdded(key) => keys::add(&mut self.keys, key),
            TenantChange::KeyRevoked { id } => keys::revoke(&mut self.keys, id),
            TenantChange::Condemned { places } => self.uploads.condemn(places),
        }
    }
}
