//! A function as its folder declares it: plain data, checked, with the contents of its files. What makes and runs it is elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use sandmill_domain::{
    Asset, AxisRule, Batching, FunctionLimits, FunctionName, Grants, InstancePolicy, Optimization, Provider, Request, Setting,
};

use crate::{Digest, files};

/// Everything there is to know of a function before it is made.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    /// Its name within the tenant.
    pub name: FunctionName,
    /// Where it was read from, as it was given.
    pub folder: PathBuf,
    /// The methods that it answers, at least one.
    pub methods: Vec<Method>,
    /// Its models, in the order of the file; more than one only with [`Plugins::Handler`], none only with a plugin that may
    /// answer by itself.
    pub models: Vec<ModelSpec>,
    /// What stands around the models.
    pub plugins: Plugins,
    /// The files that its plugins get, in the order of the file; no name twice.
    pub assets: Vec<Asset>,
    /// What its plugins are configured with, in the order of the keys.
    pub config: Vec<Setting>,
    /// The bounds of its requests; whether the host gives as much is not checked.
    pub limits: FunctionLimits,
    /// How long its plugins' instances live.
    pub instances: InstancePolicy,
    /// What its plugins may do; whether the host grants it is not checked.
    pub grants: Grants,
    /// A request that it must answer before it counts as ready.
    pub sample: Option<Sample>,
    /// The manifest as it was read.
    pub manifest: ManifestText,
    /// All files that the manifest names, by their paths in the folder, `/` between the parts.
    pub files: BTreeMap<String, NamedFile>,
}

/// The text of a `function.toml`; there may be secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ManifestText(pub String);

impl fmt::Debug for ManifestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// A file that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it was found, without symbolic links.
    pub path: PathBuf,
    /// Of its bytes.
    pub sha256: Digest,
    /// How many they are.
    pub len: u64,
}

/// A model and how it is to be run.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// What the function's plugins know it by: `[a-z0-9][a-z0-9_-]{0,62}`; `model` for the only one of a `[model]` table.
    pub name: String,
    /// The ONNX file.
    pub file: FileContent,
    /// The bound of the first axis, if it is dynamic: rows that run together.
    pub batch_max: i64,
    /// The bound of every other dynamic axis that `axes` does not name.
    pub axis_max: i64,
    /// The sizes of dynamic axes, by the model's symbol for them.
    pub axes: BTreeMap<String, AxisRule>,
    /// Threads that run it; none where the host is to choose.
    pub threads: Option<usize>,
    /// Contexts that must always be there: with 0 the model may be unloaded while nobody calls it.
    pub min: usize,
    /// Requests that may wait for it.
    pub queue_max: usize,
    /// Whether requests share runs.
    pub batching: Batching,
    /// Who runs it, in order of preference, at least one; whether the host has them, and takes their options, is not checked.
    pub providers: Vec<Provider>,
    /// Whether it may run elsewhere if they cannot.
    pub fallback: bool,
    /// How much is done to its graph first.
    pub optimization: Optimization,
}

/// The components around the models.
#[derive(Clone, Debug)]
pub enum Plugins {
    /// One component for whatever it exports, either side or whole requests: one instance serves both sides of a request.
    One(FileContent),
    /// One component that must handle whole requests: its function's models come from `[models]`.
    Handler(FileContent),
    /// A component of its own for each side, or none.
    Sides {
        /// Before the model.
        preprocess: Option<FileContent>,
        /// After the model.
        postprocess: Option<FileContent>,
    },
}

/// A request that the function must answer.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The request, within the function's methods and limits.
    pub request: Request,
    /// The file that its body was read from.
    pub file: Option<PathBuf>,
}

/// A file of the function's folder, which was read whole.
#[derive(Clone)]
pub struct FileContent {
    /// Its path in the folder, for messages.
    pub name: String,
    /// Where it was found: the content may have changed since.
    pub path: PathBuf,
    /// What it held; none where that was passed over, or was forgotten since.
    pub bytes: Option<Bytes>,
    /// Of what it held.
    pub sha256: Digest,
    /// How many bytes that was.
    pub len: usize,
}

impl FileContent {
    /// One that lies elsewhere.
    pub(crate) fn unread(name: String) -> Self {
        Self { path: PathBuf::from(&name), name, bytes: None, sha256: Digest::of(b""), len: 0 }
    }

    /// What it held, from the file if it was forgotten. Blocks.
    ///
    /// # Errors
    /// As [`FileContent::read_again`].
    pub fn read(&self) -> Result<Bytes, String> {
        self.bytes.clone().map_or_else(|| Self::read_again(&self.path, self.sha256, self.len), Ok)
    }

    /// The file once more, as it was: the bytes that are checked are the bytes that are given. What lies there now is no larger, and a
    /// plain file, or is not read. Blocks.
    ///
    /// # Errors
    /// In words, if it cannot be read or has changed since.
    pub fn read_again(path: &Path, sha256: Digest, bytes_max: usize) -> Result<Bytes, String> {
        // Its callers may be told, who are not to know where it lies.
        let name = path.file_name().unwrap_or_default().display();
        let found = files::read_plain(path, bytes_max as u64).map_err(|error| format!("{name}: {error}"))?;
        match Digest::of(&found) {
            digest if digest == sha256 => Ok(found),
            digest => Err(format!("{name} has changed since it was deployed: its SHA-256 is {digest}, not {sha256}")),
        }
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContent").field("path", &self.path).field("sha256", &self.sha256).finish_non_exhaustive()
    }
}
