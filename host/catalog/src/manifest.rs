//! `function.toml` as it is written: its keys, their defaults and bounds. Opens no file.

mod axes;
mod bundle;
mod from;
mod grants;
mod limits;
mod providers;
mod sample;

use std::collections::BTreeMap;
use std::time::Duration;

use sandmill_domain::{AxisRule, Batching, FunctionName, NameError, Optimization, Provider};
use serde::Deserialize;

use crate::digest::Digest;
use crate::document::{Document, Problem};
use crate::quantity::Count;

use axes::AxisEntry;
pub(crate) use bundle::{AssetPaths, ConfigValue, FilePath};
pub(crate) use from::UPLOADS;
pub use from::{UploadKind, UploadName, is_upload};
pub(crate) use grants::GrantsTable;
pub(crate) use limits::{BreakerTable, InstancesTable, LimitsTable};
use providers::{OptimizationWord, Providers};
pub(crate) use sample::{Methods, SampleTable};

/// Up to the domain's `AXIS_MAX`.
type AxisBound = Count<1, { i32::MAX as usize }>;

const MODELS_MAX: usize = 16;

/// The whole file; without `Debug`, for its secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) name: Option<Name>,
    #[serde(default)]
    pub(crate) methods: Methods,
    pub(crate) assets: Option<AssetPaths>,
    pub(crate) model: Option<ModelTable>,
    pub(crate) models: Option<ModelTables>,
    pub(crate) plugin: Option<PluginTable>,
    pub(crate) preprocess: Option<PluginTable>,
    pub(crate) postprocess: Option<PluginTable>,
    #[serde(default)]
    pub(crate) config: BTreeMap<String, ConfigValue>,
    #[serde(default)]
    pub(crate) limits: LimitsTable,
    #[serde(default)]
    pub(crate) breaker: BreakerTable,
    #[serde(default)]
    pub(crate) instances: InstancesTable,
    #[serde(default)]
    pub(crate) grants: GrantsTable,
    pub(crate) sample: Option<SampleTable>,
}

/// `[models]`
#[derive(Deserialize)]
#[serde(try_from = "BTreeMap<PlainName, ModelTable>")]
pub(crate) struct ModelTables(BTreeMap<PlainName, ModelTable>);

/// `[model]`, or one of `[models]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    pub(crate) path: Option<FilePath>,
    pub(crate) from: Option<UploadName>,
    pub(crate) sha256: Option<Digest>,
    batch_max: Option<AxisBound>,
    axis_max: Option<AxisBound>,
    #[serde(default)]
    axes: BTreeMap<String, AxisEntry>,
    pub(crate) threads: Option<Count<1, 256>>,
    min: Option<Count<0, 1>>,
    queue_max: Option<Count<1, 65_536>>,
    #[serde(default)]
    batching: BatchingWord,
    batch_rows: Option<Count<1, 1024>>,
    batch_delay_us: Option<Count<0, 1_000_000>>,
    #[serde(default)]
    providers: Providers,
    #[serde(default)]
    pub(crate) fallback: bool,
    #[serde(default)]
    optimization: OptimizationWord,
}

/// `batching`
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BatchingWord {
    #[default]
    Auto,
    Off,
    Fixed,
}

/// `[plugin]`, `[preprocess]`, `[postprocess]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginTable {
    pub(crate) path: Option<FilePath>,
    pub(crate) from: Option<UploadName>,
    pub(crate) sha256: Option<Digest>,
}

impl ModelTable {
    pub(crate) fn batch_max(&self) -> i64 {
        self.batch_max.map_or(32, axis_bound)
    }

    pub(crate) fn axis_max(&self) -> i64 {
        self.axis_max.map_or(1024, axis_bound)
    }

    pub(crate) fn axes(&self) -> BTreeMap<String, AxisRule> {
        self.axes.iter().filter_map(|(symbol, entry)| Some((symbol.clone(), entry.rule().ok()?))).collect()
    }

    pub(crate) fn min(&self) -> usize {
        self.min.map_or(1, Count::get)
    }

    pub(crate) fn queue_max(&self) -> usize {
        self.queue_max.map_or(128, Count::get)
    }

    pub(crate) fn batching(&self) -> Batching {
        match self.batching {
            BatchingWord::Auto => Batching::Auto,
            BatchingWord::Off => Batching::Off,
            BatchingWord::Fixed => Batching::Fixed {
                rows: self.batch_rows.map_or(32, Count::get),
                delay: Duration::from_micros(self.batch_delay_us.map_or(0, |delay| delay.get() as u64)),
            },
        }
    }

    pub(crate) fn providers(&self) -> Vec<Provider> {
        self.providers.list()
    }

    pub(crate) fn optimization(&self) -> Optimization {
        self.optimization.into()
    }

    /// Keys that do not go together.
    fn check(&self, document: &Document<'_>, key: &[&str]) -> Vec<Problem> {
        let providers = [key, &["providers"]].concat();
        let none = document.is_empty(&providers).then(|| document.problem(&providers, "expected at least one provider"));
        let mut problems = self.check_batching(document, key);
        problems.extend(none);
        let axis = |(axis, entry): (&String, &AxisEntry)| entry.check(document, &[key, &["axes", axis]].concat());
        problems.extend(self.axes.iter().filter_map(axis));
        problems
    }

    /// Keys that say how batches are made, where none are made so.
    fn check_batching(&self, document: &Document<'_>, key: &[&str]) -> Vec<Problem> {
        if self.batching == BatchingWord::Fixed {
            return Vec::new();
        }
        let written = |name: &&str| document.contains(&[key, &[*name]].concat());
        let names = ["batch_rows", "batch_delay_us"].into_iter().filter(written);
        names.map(|name| document.problem(&[key, &[name]].concat(), "it takes `batching = \"fixed\"`")).collect()
    }
}

fn axis_bound(bound: AxisBound) -> i64 {
    i64::try_from(bound.get()).expect("invariant: a bound is at most `AXIS_MAX`")
}

impl Manifest {
    /// Every table of a plugin or a model: its keys, what it is, and the upload that it names, if it does.
    pub(crate) fn tables(&self) -> Vec<(Vec<&str>, UploadKind, Option<&UploadName>)> {
        let plugins = [("plugin", &self.plugin), ("preprocess", &self.preprocess), ("postprocess", &self.postprocess)];
        let plugins = plugins.into_iter().filter_map(|(name, table)| Some((vec![name], table.as_ref()?)));
        let plugins = plugins.map(|(key, table)| (key, UploadKind::Plugin, table.from.as_ref()));
        let named = self.models.iter().flat_map(|models| &models.0).map(|(name, table)| (vec!["models", name.0.as_str()], table));
        let models = self.model.iter().map(|table| (vec!["model"], table)).chain(named);
        plugins.chain(models.map(|(key, table)| (key, UploadKind::Model, table.from.as_ref()))).collect()
    }

    /// What is wrong across keys: tables that do not go together, and values that rule each other out. It goes by what is
    /// written, be it right or wrong in itself.
    pub(crate) fn check(&self, document: &Document<'_>) -> Vec<Problem> {
        let mut problems = check_models(document);
        problems.extend(self.tables().into_iter().filter_map(|(key, ..)| from::check(document, &key)));
        problems.extend(self.model.iter().flat_map(|model| model.check(document, &["model"])));
        let models = self.models.iter().flat_map(|models| &models.0);
        problems.extend(models.flat_map(|(name, model)| model.check(document, &["models", &name.0])));
        problems.extend(self.instances.check(document));
        if self.grants.asset_files && (!document.contains(&["assets"]) || document.is_empty(&["assets"])) {
            problems.push(document.problem(&["grants", "asset_files"], "there are no `assets` to give"));
        }
        for key in self.config.keys().filter(|key| is_unclear(document, key)) {
            problems.push(document.problem(&["config", key], "expected either `secret` or `secret_env`"));
        }
        problems
    }
}

/// A table for a secret with nothing in it, or with two.
fn is_unclear(document: &Document<'_>, key: &str) -> bool {
    let has = |kind| document.contains(&["config", key, kind]);
    document.is_empty(&["config", key]) || (has("secret") && has("secret_env"))
}

fn check_models(document: &Document<'_>) -> Vec<Problem> {
    let has = |table: &&str| document.contains(&[table]);
    let sides: Vec<_> = ["preprocess", "postprocess"].into_iter().filter(has).collect();
    let mut problems = Vec::new();
    if has(&"plugin") {
        let message = "`[plugin]` already stands for both sides: leave out one of them";
        problems.extend(sides.iter().map(|side| document.problem(&[side], message)));
    }
    if document.is_empty(&["models"]) {
        problems.push(document.problem(&["models"], "expected at least one model"));
    }
    match (has(&"model"), has(&"models")) {
        (true, true) => {
            let message = "`[model]` and `[models]` exclude each other: leave out one of them";
            problems.push(document.problem(&["models"], message));
        }
        (false, true) if !has(&"plugin") => {
            let sides = sides.iter().map(|side| format!("`[{side}]`")).collect::<Vec<_>>().join(" and ");
            let instead = if sides.is_empty() { sides } else { format!(", instead of {sides}") };
            let message = format!("it takes a `[plugin]` that handles whole requests to run these{instead}");
            problems.push(document.problem(&["models"], message));
        }
        (false, false) if has(&"postprocess") => {
            problems.push(document.problem(&["postprocess"], "there is no `[model]` whose outputs it could take"));
        }
        (false, false) if !has(&"plugin") && !has(&"preprocess") => {
            let message = "a function needs a `[model]`, a `[plugin]` that answers by itself, or both";
            problems.push(document.problem(&[], message));
        }
        _ => {}
    }
    problems
}

impl ModelTables {
    /// The models in the order of the file.
    pub(crate) fn in_order(&self, document: &Document<'_>) -> Vec<(&str, &ModelTable)> {
        let mut models: Vec<_> = self.0.iter().map(|(name, table)| (name.0.as_str(), table)).collect();
        models.sort_by_key(|(name, _)| document.offset(&["models", name]));
        models
    }
}

impl TryFrom<BTreeMap<PlainName, ModelTable>> for ModelTables {
    type Error = String;

    fn try_from(models: BTreeMap<PlainName, ModelTable>) -> Result<Self, String> {
        match models.len() {
            0..=MODELS_MAX => Ok(Self(models)),
            count => Err(format!("expected at most {MODELS_MAX} models, found {count}")),
        }
    }
}

/// The name of one of several models, or of a provider.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct PlainName(String);

impl TryFrom<String> for PlainName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let fits = (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['-', '_']);
        if fits {
            return Ok(Self(name));
        }
        Err("expected a name of lower-case letters, digits, `-` and `_`, beginning with a letter or digit, 63 at most")
    }
}

/// A function's name.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Name(pub(crate) FunctionName);

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        FunctionName::new(&text).map(Self)
    }
}
