//! `function.toml` as it is written: its keys, their defaults and bounds. Opens no file.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

use http::{HeaderValue, Method};
use sandmill_domain::{FunctionLimits, FunctionName, NameError};
use serde::Deserialize;

use crate::digest::Digest;
use crate::document::{Document, Problem};
use crate::quantity::{ByteSize, Count};

/// The methods that a function can answer.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The largest bound of an axis: sizes beyond it overflow somewhere in the runtime's kernels.
const AXIS_MAX: usize = i32::MAX as usize;

type AxisBound = Count<1, AXIS_MAX>;
/// Up to an hour.
type Millis = Count<1, 3_600_000>;
type BodySize = ByteSize<1, { 1 << 30 }>;
/// From one page of WebAssembly to all that 32 bits address.
type MemorySize = ByteSize<{ 64 << 10 }, { 4 << 30 }>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) name: Option<Name>,
    #[serde(default)]
    pub(crate) methods: Methods,
    pub(crate) model: Option<ModelTable>,
    pub(crate) plugin: Option<PluginTable>,
    pub(crate) preprocess: Option<PluginTable>,
    pub(crate) postprocess: Option<PluginTable>,
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) limits: LimitsTable,
    pub(crate) sample: Option<SampleTable>,
}

/// `[model]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    pub(crate) path: FilePath,
    pub(crate) sha256: Option<Digest>,
    batch_max: Option<AxisBound>,
    axis_max: Option<AxisBound>,
    #[serde(default)]
    axes: BTreeMap<String, AxisBound>,
    pub(crate) threads: Option<Count<1, 256>>,
    queue_max: Option<Count<1, 65_536>>,
}

/// `[plugin]`, `[preprocess]`, `[postprocess]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginTable {
    pub(crate) path: FilePath,
    pub(crate) sha256: Option<Digest>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsTable {
    timeout_ms: Option<Millis>,
    body_bytes_max: Option<BodySize>,
    concurrency_max: Option<Count<1, 65_536>>,
    plugin_time_ms: Option<Millis>,
    plugin_memory_bytes_max: Option<MemorySize>,
    plugin_output_bytes_max: Option<BodySize>,
}

/// `[sample]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleTable {
    pub(crate) method: Option<MethodName>,
    #[serde(default)]
    pub(crate) path: RequestPath,
    pub(crate) content_type: Option<MediaType>,
    pub(crate) body: Option<FilePath>,
}

impl ModelTable {
    pub(crate) fn batch_max(&self) -> i64 {
        self.batch_max.map_or(32, axis_bound)
    }

    pub(crate) fn axis_max(&self) -> i64 {
        self.axis_max.map_or(1024, axis_bound)
    }

    pub(crate) fn axes(&self) -> BTreeMap<String, i64> {
        self.axes.iter().map(|(symbol, max)| (symbol.clone(), axis_bound(*max))).collect()
    }

    pub(crate) fn queue_max(&self) -> usize {
        self.queue_max.map_or(128, Count::get)
    }
}

fn axis_bound(bound: AxisBound) -> i64 {
    i64::try_from(bound.get()).expect("invariant: a bound is at most `AXIS_MAX`")
}

impl From<&LimitsTable> for FunctionLimits {
    fn from(table: &LimitsTable) -> Self {
        let default = Self::default();
        Self {
            timeout: table.timeout_ms.map_or(default.timeout, Count::as_millis),
            body_bytes_max: table.body_bytes_max.map_or(default.body_bytes_max, ByteSize::get),
            concurrency_max: table.concurrency_max.map_or(default.concurrency_max, Count::get),
            plugin_time: table.plugin_time_ms.map_or(default.plugin_time, Count::as_millis),
            plugin_memory_bytes_max: table.plugin_memory_bytes_max.map_or(default.plugin_memory_bytes_max, ByteSize::get),
            plugin_output_bytes_max: table.plugin_output_bytes_max.map_or(default.plugin_output_bytes_max, ByteSize::get),
        }
    }
}

/// The rules on which tables go together; they look at what is written, be it right or wrong in itself.
pub(crate) fn check_tables(document: &Document<'_>) -> Vec<Problem> {
    let has = |table| document.contains(&[table]);
    let mut problems = Vec::new();
    if has("plugin") {
        for side in ["preprocess", "postprocess"].into_iter().filter(|side| has(side)) {
            problems.push(document.problem(&[side], "`[plugin]` already stands for both sides: leave out one of them"));
        }
    }
    if !has("model") && has("postprocess") {
        problems.push(document.problem(&["postprocess"], "there is no `[model]` whose outputs it could take"));
    } else if !has("model") && !has("plugin") && !has("preprocess") {
        let message = "a function needs a `[model]`, a `[plugin]` that answers by itself, or both";
        problems.push(document.problem(&[], message));
    }
    problems
}

/// A function's name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Name(pub(crate) FunctionName);

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        FunctionName::new(&text).map(Self)
    }
}

/// A file of the folder: a relative path without `..`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl TryFrom<String> for FilePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let named = path.file_name().is_some();
        if inside && named {
            Ok(Self(path))
        } else {
            Err(format!("expected a file of this folder, without `..`, found {path:?}"))
        }
    }
}

/// One of [`METHODS`].
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MethodName(pub(crate) Method);

impl TryFrom<String> for MethodName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let method = METHODS.into_iter().find(|method| method.as_str() == text);
        method.map(Self).ok_or_else(|| format!("expected one of {METHODS:?}, found {text:?}"))
    }
}

/// At least one method, none twice; `POST` by default.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<MethodName>")]
pub(crate) struct Methods(pub(crate) Vec<Method>);

impl Default for Methods {
    fn default() -> Self {
        Self(vec![Method::POST])
    }
}

impl TryFrom<Vec<MethodName>> for Methods {
    type Error = String;

    fn try_from(names: Vec<MethodName>) -> Result<Self, String> {
        let methods: Vec<_> = names.into_iter().map(|name| name.0).collect();
        let twice = methods.iter().enumerate().find(|(at, method)| methods[..*at].contains(method));
        match twice {
            Some((_, method)) => Err(format!("{method} is given twice")),
            None if methods.is_empty() => Err("expected at least one method".into()),
            None => Ok(Self(methods)),
        }
    }
}

/// What follows the function's name in the path, and the query.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RequestPath {
    pub(crate) rest: String,
    pub(crate) query: Option<String>,
}

impl TryFrom<String> for RequestPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !plain || !(text.is_empty() || text.starts_with(['/', '?'])) {
            return Err(format!("expected what follows the function's name, such as \"/part?key=value\", found {text:?}"));
        }
        Ok(match text.split_once('?') {
            Some((rest, query)) => Self { rest: rest.into(), query: Some(query.into()) },
            None => Self { rest: text, query: None },
        })
    }
}

/// The value of a `content-type` header.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct MediaType(pub(crate) HeaderValue);

impl TryFrom<String> for MediaType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        HeaderValue::try_from(&text).map(Self).map_err(|_| format!("expected a media type, found {text:?}"))
    }
}
