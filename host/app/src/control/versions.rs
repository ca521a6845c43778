//! Versions of plugins and models as the control plane tells them. Plain functions from the catalog's state to data.

use std::collections::BTreeMap;

use sandmill_catalog::store::{ABOUT_BYTES_MAX, BlobRef, Model, Pin, Plugin, TenantState};
use sandmill_catalog::{UploadKind, UploadName};
use sandmill_domain::control::{
    Answer, FileDetail, ModelAbout, ModelSummary, ModelVersion, PluginAbout, PluginDifference, PluginSummary, PluginVersion,
    Version, VersionSummary,
};
use sandmill_domain::{Code, Fault, FunctionName, Label};
use serde::de::DeserializeOwned;

use super::views::file;

/// Names that are told where one is not there.
const NAMES_MAX: usize = 20;

/// All plugins.
pub(crate) fn plugins(state: &TenantState) -> Answer {
    let plugins = state.plugins().iter().map(|(name, versions)| {
        let versions = latest_first(versions, |plugin| plugin.at_ms);
        let versions = versions.into_iter().map(|(version, plugin)| summary(version, plugin.at_ms, file(&plugin.blob)));
        PluginSummary { plugin: name.clone(), versions: versions.collect() }
    });
    Answer::Plugins { plugins: plugins.collect() }
}

/// All models.
pub(crate) fn models(state: &TenantState) -> Answer {
    let models = state.models().iter().map(|(name, versions)| {
        let versions = latest_first(versions, |model| model.at_ms);
        let versions = versions.into_iter().filter_map(|(version, model)| {
            let onnx = model.files.get(UploadKind::Model.file())?;
            Some(summary(version, model.at_ms, file(onnx)))
        });
        ModelSummary { model: name.clone(), versions: versions.collect() }
    });
    Answer::Models { models: models.collect() }
}

/// One plugin.
pub(crate) fn plugin(state: &TenantState, name: Label) -> Result<Answer, Fault> {
    let Some(known) = state.plugins().get(&name) else { return Err(not_there(state, UploadKind::Plugin, &name, None)) };
    let known = latest_first(known, |plugin| plugin.at_ms);
    let versions = known.into_iter().map(|(version, plugin)| plugin_version(state, &name, version, plugin)).collect();
    Ok(Answer::Plugin { plugin: name, versions })
}

/// One model.
pub(crate) fn model(state: &TenantState, name: Label) -> Result<Answer, Fault> {
    let Some(known) = state.models().get(&name) else { return Err(not_there(state, UploadKind::Model, &name, None)) };
    let known = latest_first(known, |model| model.at_ms);
    let versions = known.into_iter().map(|(version, model)| model_version(state, &name, version, model)).collect();
    Ok(Answer::Model { model: name, versions })
}

/// One version of a plugin.
pub(crate) fn plugin_version(state: &TenantState, name: &Label, version: &Label, plugin: &Plugin) -> PluginVersion {
    PluginVersion {
        version: version.clone(),
        added_at_ms: plugin.at_ms,
        file: file(&plugin.blob),
        about: plugin_about(plugin),
        used_by: used_by(state, &Pin::Plugin { name: name.clone(), version: version.clone() }),
    }
}

/// One version of a model.
pub(crate) fn model_version(state: &TenantState, name: &Label, version: &Label, model: &Model) -> ModelVersion {
    ModelVersion {
        version: version.clone(),
        added_at_ms: model.at_ms,
        files: model.files.iter().map(|(path, blob)| (path.clone(), file(blob))).collect(),
        about: known::<ModelAbout>(&model.about),
        used_by: used_by(state, &Pin::Model { name: name.clone(), version: version.clone() }),
    }
}

/// What a version of a plugin differs in from the one that was added before it.
pub(crate) fn difference(state: &TenantState, of: &Version) -> Option<PluginDifference> {
    let versions = state.plugins().get(&of.name)?;
    let this = versions.get(&of.version)?;
    let others = versions.iter().filter(|(version, plugin)| **version != of.version && plugin.at_ms <= this.at_ms);
    let (since, before) = others.max_by_key(|(_, plugin)| plugin.at_ms)?;
    let (before, after) = (plugin_about(before), plugin_about(this));
    let beyond = |some: &[String], others: &[String]| some.iter().filter(|name| !others.contains(name)).cloned().collect();
    Some(PluginDifference {
        since: since.clone(),
        imports_came: beyond(&after.imports, &before.imports),
        imports_went: beyond(&before.imports, &after.imports),
        exports_came: beyond(&after.exports, &before.exports),
        exports_went: beyond(&before.exports, &after.exports),
    })
}

/// The files of what a manifest names, by their paths in its folder, and the version that it keeps from being deleted.
///
/// # Errors
/// If it is not there, with what is.
pub(crate) fn named(
    state: &TenantState,
    kind: UploadKind,
    name: &UploadName,
) -> Result<(BTreeMap<String, BlobRef>, Option<Pin>), Fault> {
    let one = |blob: &BlobRef| BTreeMap::from([(kind.file().to_owned(), *blob)]);
    let Version { name, version } = match name {
        UploadName::Version(version) => version.clone(),
        UploadName::Digest(digest) => {
            let blob = state.live_blobs().find(|blob| blob.sha256 == *digest);
            let missing = || Fault::new(Code::Unprocessable, "the tenant has no upload with this SHA-256");
            return Ok((one(blob.ok_or_else(missing)?), None));
        }
    };
    let missing = || not_there(state, kind, &name, Some(&version));
    match kind {
        UploadKind::Plugin => {
            let plugin = state.plugins().get(&name).and_then(|versions| versions.get(&version)).ok_or_else(missing)?;
            Ok((one(&plugin.blob), Some(Pin::Plugin { name, version })))
        }
        UploadKind::Model => {
            let model = state.models().get(&name).and_then(|versions| versions.get(&version)).ok_or_else(missing)?;
            Ok((model.files.clone(), Some(Pin::Model { name, version })))
        }
    }
}

/// As it is kept: what of a model's tensors does not fit into a record is left out.
pub(crate) fn model_about(mut about: ModelAbout) -> String {
    let mut text = written(&about);
    while text.len() > ABOUT_BYTES_MAX {
        let mut left = text.len();
        // Each is looked at once. Then what says how many are left out has become longer itself.
        while left > ABOUT_BYTES_MAX {
            let longer = if about.inputs.len() > about.outputs.len() { &mut about.inputs } else { &mut about.outputs };
            let Some(tensor) = longer.pop() else { return written(&ModelAbout::default()) };
            about.tensors_left_out += 1;
            left = left.saturating_sub(written(&tensor).len() + 1);
        }
        text = written(&about);
    }
    text
}

/// As it is kept.
pub(crate) fn written(about: &impl serde::Serialize) -> String {
    serde_json::to_string(about).expect("invariant: plain data can be written as JSON")
}

/// What another Sandmill wrote, and this one does not read, is not told.
fn known<T: DeserializeOwned + Default>(about: &str) -> T {
    serde_json::from_str(about).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was seen of an upload when it was added is not understood");
        T::default()
    })
}

fn plugin_about(plugin: &Plugin) -> PluginAbout {
    known(&plugin.about)
}

fn summary(version: &Label, added_at_ms: u64, file: FileDetail) -> VersionSummary {
    VersionSummary { version: version.clone(), added_at_ms, file }
}

fn latest_first<T>(versions: &BTreeMap<Label, T>, at_ms: impl Fn(&T) -> u64) -> Vec<(&Label, &T)> {
    let mut versions: Vec<_> = versions.iter().collect();
    versions.sort_by_key(|(_, version)| std::cmp::Reverse(at_ms(version)));
    versions
}

fn used_by(state: &TenantState, pin: &Pin) -> Vec<FunctionName> {
    let uses = state.functions().iter().filter(|(_, function)| function.kept().any(|release| release.pins.contains(pin)));
    uses.map(|(name, _)| name.clone()).collect()
}

/// With those that are.
fn not_there(state: &TenantState, kind: UploadKind, name: &Label, version: Option<&Label>) -> Fault {
    let (names, versions): (Vec<_>, Vec<_>) = match kind {
        UploadKind::Plugin => {
            (state.plugins().keys().collect(), state.plugins().get(name).map(|all| all.keys().collect()).unwrap_or_default())
        }
        UploadKind::Model => {
            (state.models().keys().collect(), state.models().get(name).map(|all| all.keys().collect()).unwrap_or_default())
        }
    };
    let what = version.map_or_else(|| format!("{kind} `{name}`"), |version| format!("{kind} `{name}@{version}`"));
    let there = match (&versions[..], &names[..]) {
        ([], []) => "there are none".to_owned(),
        ([], names) => format!("there are {}", listed(names, |name| format!("`{name}`"))),
        (versions, _) => format!("there are {}", listed(versions, |version| format!("`{name}@{version}`"))),
    };
    Fault::new(Code::NotFound, format!("no {what}: {there}"))
}

fn listed(names: &[&Label], show: impl Fn(&Label) -> String) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let names: Vec<_> = names.iter().take(NAMES_MAX).map(|name| show(name)).collect();
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use sandmill_domain::control::{InitOutcome, MeasuredDetail, TensorDetail};

    use super::*;

    /// What is in stores already.
    #[test]
    fn what_is_known_is_kept_as_it_is_here() {
        let plugin = PluginAbout {
            shape: vec!["preprocess".to_owned()],
            init: InitOutcome::NoSnapshot,
            why_no_init: Some("v128".to_owned()),
            grants: vec!["http".to_owned()],
            imports: vec!["a".to_owned()],
            exports: vec!["b".to_owned()],
        };
        let text = r#"{"shape":["preprocess"],"init":"no_snapshot","why_no_init":"v128","grants":["http"],"imports":["a"],"exports":["b"]}"#;
        assert_eq!(written(&plugin), text);
        let tensor =
            TensorDetail { name: "x".to_owned(), datatype: "FP32".to_owned(), shape: vec![-1], axes: vec![Some("n".to_owned())] };
        let measured = MeasuredDetail {
            load_ms: 1.5,
            run_ms: 0.25,
            memory_bytes: 7,
            batch_rows_max: 1,
            why_no_batches: Some("no".to_owned()),
        };
        let model = ModelAbout { inputs: vec![tensor], outputs: Vec::new(), tensors_left_out: 0, measured: Some(measured) };
        let text = concat!(
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"axes":["n"]}],"outputs":[],"tensors_left_out":0,"#,
            r#""measured":{"load_ms":1.5,"run_ms":0.25,"memory_bytes":7,"batch_rows_max":1,"why_no_batches":"no"}}"#
        );
        assert_eq!(model_about(model), text);
        // A later one's, with more, and an earlier one's, with less.
        assert_eq!(serde_json::from_str::<PluginAbout>(r#"{"new":1}"#).expect("it is read"), PluginAbout::default());
        assert_eq!(serde_json::from_str::<ModelAbout>("{}").expect("it is read"), ModelAbout::default());
    }

    #[test]
    fn what_of_a_model_does_not_fit_is_counted() {
        let tensor = |number: usize| TensorDetail {
            name: format!("past_key_values.{number}"),
            datatype: "FP32".to_owned(),
            shape: vec![-1, 8, -1, 64],
            axes: vec![Some("batch".to_owned()), None, Some("past".to_owned()), None],
        };
        let about = |count: usize| ModelAbout {
            inputs: (0..count).map(tensor).collect(),
            outputs: (0..count / 2).map(tensor).collect(),
            ..ModelAbout::default()
        };
        let read = |text: &str| serde_json::from_str::<ModelAbout>(text).expect("it is read again");
        assert_eq!(read(&model_about(about(4))), about(4));
        let text = model_about(about(1000));
        let kept = read(&text);
        assert!(text.len() <= ABOUT_BYTES_MAX && text.len() > ABOUT_BYTES_MAX - 200, "{}", text.len());
        assert_eq!(kept.inputs.len() + kept.outputs.len() + kept.tensors_left_out, 1500);
        assert!(kept.inputs.len().abs_diff(kept.outputs.len()) <= 1, "of either as much");
    }
}
