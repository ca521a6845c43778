//! What changes a tenant's state, and what does not follow from it. Each change is checked whole before anything of it is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandmill_domain::{FunctionName, Label, ReleaseNumber};

use super::bounds::{self, FUNCTION_NAMES_MAX, FUNCTIONS_MAX, PINS_MAX, VERSIONS_MAX, room};
use super::refusal::Refusal;
use super::tenant::{Function, Model, Plugin, Release, TenantState, Versions};
use super::{State, keys};
use crate::store::{Entry, Pin, TenantChange};

impl TenantState {
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
        let manifests = self.functions.values().flat_map(Function::kept).map(|kept| kept.manifest.len());
        bounds::at_most("bytes of manifests", manifests.sum::<usize>() + release.manifest.len(), bounds::MANIFESTS_BYTES_MAX)?;
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
