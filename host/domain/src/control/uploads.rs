//! What is told of plugins and models by themselves, and of their versions. Some of it is kept as it is here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FileDetail;
use crate::{FunctionName, Label};

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
