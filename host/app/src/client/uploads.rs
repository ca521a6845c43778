//! `sandmill plugins` and `sandmill models`: what is uploaded once, by name and version, and named by functions.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use hyper::Method;
use sandmill_domain::Label;
use sandmill_domain::control::{
    InitOutcome, ModelAdded, ModelSummary, ModelVersion, PluginAdded, PluginDifference, PluginSummary, PluginVersion,
    TensorDetail, Version, VersionSummary,
};
use serde::Deserialize;

use super::ask::{Plane, block_on};
use super::terminal::confirm;
use super::upload::{Parcel, send};
use super::words::{bytes, counted, moment, table, time};
use crate::cli::{RemoteOptions, UploadsCommand, UploadsOptions};

/// Models are tried and measured meanwhile.
const TIME: std::time::Duration = std::time::Duration::from_secs(1800);

/// Which of both.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Plugin,
    Model,
}

#[derive(Deserialize)]
struct Plugins {
    plugins: Vec<PluginSummary>,
}

#[derive(Deserialize)]
struct Models {
    models: Vec<ModelSummary>,
}

#[derive(Deserialize)]
struct Plugin {
    versions: Vec<PluginVersion>,
}

#[derive(Deserialize)]
struct Model {
    versions: Vec<ModelVersion>,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Model => "model",
        }
    }

    fn path(self, plane: &Plane, version: &Version) -> String {
        plane.path(&format!("{}s/{}/versions/{}", self.name(), version.name, version.version))
    }
}

/// `sandmill plugins`, `sandmill models`
pub(crate) fn run(kind: Kind, options: &UploadsOptions, json: bool) -> Result<()> {
    match &options.command {
        UploadsCommand::List { remote } => list(kind, remote, json),
        UploadsCommand::Show { name, remote } => show(kind, name, remote, json),
        UploadsCommand::Add { version, file, remote } => add(kind, version, file, remote, json),
        UploadsCommand::Remove { version, yes, remote } => remove(kind, version, *yes, remote, json),
    }
}

fn list(kind: Kind, remote: &RemoteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(remote, json)?;
    let told = block_on(plane.get(&plane.path(&format!("{}s", kind.name()))))?;
    match kind {
        Kind::Plugin => plane.show(&told, |list: Plugins| {
            in_a_table(kind, list.plugins.iter().map(|plugin| (&plugin.plugin, &plugin.versions[..])))
        }),
        Kind::Model => plane
            .show(&told, |list: Models| in_a_table(kind, list.models.iter().map(|model| (&model.model, &model.versions[..])))),
    }
}

fn in_a_table<'a>(kind: Kind, all: impl Iterator<Item = (&'a Label, &'a [VersionSummary])>) -> String {
    let row = |name: &Label, version: &VersionSummary| {
        let VersionSummary { version, added_at_ms, file } = version;
        [
            format!("{name}@{version}"),
            moment(*added_at_ms),
            bytes(file.bytes),
            file.sha256[..12.min(file.sha256.len())].to_owned(),
        ]
    };
    let rows: Vec<_> = all.flat_map(|(name, versions)| versions.iter().map(move |version| row(name, version))).collect();
    if rows.is_empty() {
        let kind = kind.name();
        return format!("no {kind}s yet; `sandmill {kind}s add NAME@VERSION FILE` adds one");
    }
    table([kind.name(), "added", "size", "sha256"], &rows)
}

fn show(kind: Kind, name: &Label, remote: &RemoteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(remote, json)?;
    let told = block_on(plane.get(&plane.path(&format!("{}s/{name}", kind.name()))))?;
    match kind {
        Kind::Plugin => plane.show(&told, |plugin: Plugin| {
            plugin.versions.iter().map(|version| of_plugin(name, version)).collect::<Vec<_>>().join("\n")
        }),
        Kind::Model => plane.show(&told, |model: Model| {
            model.versions.iter().map(|version| of_model(name, version)).collect::<Vec<_>>().join("\n")
        }),
    }
}

fn add(kind: Kind, version: &Version, file: &Path, remote: &RemoteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(remote, json)?.patient(remote, TIME);
    let media = match kind {
        Kind::Plugin => "application/wasm",
        Kind::Model => media_of_model(file)?,
    };
    let parcel = Parcel::of_file(file)?;
    let told = block_on(send(&plane, &kind.path(&plane, version), media, None, parcel))?;
    match kind {
        Kind::Plugin => plane.show(&told, |added: PluginAdded| {
            let differs = added.difference.as_ref().map(|difference| format!("\n{}", differs_in_words(difference)));
            let what = of_plugin(&added.plugin, &added.version);
            format!("{what}{}{}", differs.unwrap_or_default(), there_already(added.added))
        }),
        Kind::Model => plane
            .show(&told, |added: ModelAdded| format!("{}{}", of_model(&added.model, &added.version), there_already(added.added))),
    }
}

const fn there_already(added: bool) -> &'static str {
    if added { "" } else { "\n  it was there already, with the same bytes" }
}

fn remove(kind: Kind, version: &Version, yes: bool, remote: &RemoteOptions, json: bool) -> Result<()> {
    let plane = Plane::open(remote, json)?;
    let kind_name = kind.name();
    confirm(&format!("delete {kind_name} `{version}`?"), yes)?;
    block_on(plane.ask(Method::DELETE, &kind.path(&plane, version)))?;
    plane.show_done(&format!("{kind_name} `{version}` is deleted"));
    Ok(())
}

/// An archive is known by how it begins.
fn media_of_model(file: &Path) -> Result<&'static str> {
    let mut head = Vec::new();
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    opened.take(262).read_to_end(&mut head).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(match head {
        _ if head.starts_with(&[0x1f, 0x8b]) => "application/gzip",
        _ if head.get(257..262) == Some(b"ustar") => "application/x-tar",
        _ => "application/octet-stream",
    })
}

fn of_plugin(name: &Label, version: &PluginVersion) -> String {
    let about = &version.about;
    let init = match about.init {
        InitOutcome::None => None,
        InitOutcome::Snapshot => Some("its `init` ran, and every instance begins with what it left".to_owned()),
        InitOutcome::NoSnapshot => Some("its `init` runs in every instance".to_owned()),
        InitOutcome::Failed => Some("its `init` failed here, where it has no settings, assets and models".to_owned()),
    };
    let init = init.map(|init| about.why_no_init.iter().fold(init, |init, why| format!("{init}: {why}")));
    let grants = (!about.grants.is_empty()).then(|| format!("wants the grants {}", about.grants.join(", ")));
    let head = format!("plugin `{name}@{}`: {}, {}", version.version, about.shape.join(" and "), bytes(version.file.bytes));
    lines(head, [grants, init, used(&version.used_by)])
}

fn of_model(name: &Label, version: &ModelVersion) -> String {
    let about = &version.about;
    let size: u64 = version.files.values().map(|file| file.bytes).sum();
    let tensors = |what: &str, tensors: &[TensorDetail]| {
        let shown = tensors.iter().map(|tensor| {
            let axes = tensor.shape.iter().map(|size| if *size < 0 { "?".to_owned() } else { size.to_string() });
            format!("{} {}[{}]", tensor.name, tensor.datatype, axes.collect::<Vec<_>>().join(","))
        });
        (!tensors.is_empty()).then(|| format!("{what} {}", shown.collect::<Vec<_>>().join(", ")))
    };
    let measured = about.measured.as_ref().map(|measured| {
        let batches = match &measured.why_no_batches {
            None => format!("up to {} rows run together", measured.batch_rows_max),
            Some(why) => format!("calls share no runs: {why}"),
        };
        let (load, run, memory) = (time(measured.load_ms), time(measured.run_ms), bytes(measured.memory_bytes));
        format!("loaded in {load}, then {run} a run, with {memory}; {batches}")
    });
    let left_out = (about.tensors_left_out > 0).then(|| format!("and {}", counted(about.tensors_left_out, "further tensor")));
    let head = format!("model `{name}@{}`: {}, {}", version.version, counted(version.files.len(), "file"), bytes(size));
    lines(head, [tensors("takes", &about.inputs), tensors("gives", &about.outputs), left_out, measured, used(&version.used_by)])
}

fn used(by: &[sandmill_domain::FunctionName]) -> Option<String> {
    let names: Vec<_> = by.iter().map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| format!("used by {}", names.join(", ")))
}

fn lines<const N: usize>(head: String, more: [Option<String>; N]) -> String {
    std::iter::once(head).chain(more.into_iter().flatten().map(|line| format!("  {line}"))).collect::<Vec<_>>().join("\n")
}

fn differs_in_words(difference: &PluginDifference) -> String {
    let since = &difference.since;
    let parts = [
        ("imports", '+', &difference.imports_came),
        ("imports", '-', &difference.imports_went),
        ("exports", '+', &difference.exports_came),
        ("exports", '-', &difference.exports_went),
    ];
    let lines = parts.iter().flat_map(|(what, sign, names)| names.iter().map(move |name| format!("    {sign}{what} {name}")));
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return format!("  it imports and exports what version {since} does");
    }
    format!("  after version {since}:\n{}", lines.join("\n"))
}
