//! From a manifest to a function: its files read, its secrets looked up, every problem collected. Blocking.

use std::collections::BTreeMap;
use std::env::{self, VarError};
use std::path::{Path, PathBuf};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use sandmill_domain::{Asset, FunctionLimits, FunctionName, Request, RequestHead, Setting};

use crate::digest::Digest;
use crate::document::{Document, Problem};
use crate::files::{FileError, Folder};
use crate::folder::{FileLimits, Uploads};
use crate::function::{FileContent, FunctionSpec, ManifestText, ModelSpec, NamedFile, Plugins, Sample};
use crate::manifest::{
    AssetPaths, ConfigValue, FilePath, Manifest, ModelTable, PluginTable, SampleTable, UploadKind, UploadName, is_upload,
};

/// Turns a manifest into a function; what it gives is of use only if it finds no problem.
pub(crate) struct Reader<'a> {
    folder: &'a Folder,
    document: &'a Document<'a>,
    limits: &'a FileLimits,
    /// Whether the manifest is right in itself: if not, its values may be defaults in the place of refused ones.
    sound: bool,
    files: BTreeMap<String, NamedFile>,
    problems: Vec<Problem>,
}

/// Where a plugin or a model comes from, and what it must be.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: Option<&'a FilePath>,
    from: Option<&'a UploadName>,
    sha256: Option<Digest>,
}

/// Begins the names of the environment variables that functions may read.
const SECRET_PREFIX: &str = "SANDMILL_SECRET_";

impl<'a> Reader<'a> {
    /// Begins with the problems of the manifest in itself.
    pub(crate) fn new(folder: &'a Folder, document: &'a Document<'a>, limits: &'a FileLimits, problems: Vec<Problem>) -> Self {
        Self { folder, document, limits, sound: problems.is_empty(), files: BTreeMap::new(), problems }
    }

    /// All that were found.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(crate) fn read(&mut self, path: &Path, manifest: Manifest) -> Option<FunctionSpec> {
        let limits = manifest.limits.limits(&self.limits.plugin, &manifest.breaker);
        // All are read before the first that failed ends it: each has problems of its own to tell.
        let models = self.models(&manifest);
        let methods = manifest.methods.0;
        let name = manifest.name.map(|name| name.0).or_else(|| self.name_by_folder());
        let assets = manifest.assets.map(|paths| self.assets(&paths)).unwrap_or_default();
        let config = self.config(manifest.config);
        let handles = manifest.models.is_some();
        let plugin = manifest.plugin.map(|table| self.component("plugin", &table));
        let preprocess = manifest.preprocess.map(|table| self.component("preprocess", &table));
        let postprocess = manifest.postprocess.map(|table| self.component("postprocess", &table));
        let sample = manifest.sample.filter(|_| self.sound).map(|table| self.sample(table, &methods, &limits));
        let plugins = match plugin {
            Some(plugin) if handles => Plugins::Handler(plugin?),
            Some(plugin) => Plugins::One(plugin?),
            None => Plugins::Sides { preprocess: settle(preprocess)?, postprocess: settle(postprocess)? },
        };
        Some(FunctionSpec {
            name: name?,
            folder: path.to_owned(),
            methods,
            models,
            plugins,
            assets,
            config,
            limits,
            instances: manifest.instances.policy(),
            grants: manifest.grants.into(),
            sample: settle(sample)?,
            manifest: ManifestText(self.document.text().to_owned()),
            files: std::mem::take(&mut self.files),
        })
    }

    fn name_by_folder(&mut self) -> Option<FunctionName> {
        // One that is written and refused has been told of.
        if self.document.contains(&["name"]) {
            return None;
        }
        FunctionName::new(self.folder.name().unwrap_or_default())
            .map_err(|error| {
                let message = format!("not given, and the folder's own does not serve: {error}");
                self.problems.push(self.document.problem(&["name"], message));
            })
            .ok()
    }

    /// `[model]` is the model of that name.
    fn models(&mut self, manifest: &Manifest) -> Vec<ModelSpec> {
        let one = manifest.model.iter().filter_map(|table| self.model(&["model"], table)).collect();
        let Some(tables) = &manifest.models else { return one };
        let tables = tables.in_order(self.document).into_iter();
        tables.filter_map(|(name, table)| self.model(&["models", name], table)).collect()
    }

    fn model(&mut self, key: &[&str], table: &ModelTable) -> Option<ModelSpec> {
        let source = Source { path: table.path.as_ref(), from: table.from.as_ref(), sha256: table.sha256 };
        let file = self.content(key, UploadKind::Model, source, self.limits.model_bytes_max)?;
        Some(ModelSpec {
            name: key.last().copied()?.to_owned(),
            file,
            batch_max: table.batch_max(),
            axis_max: table.axis_max(),
            axes: table.axes(),
            threads: table.threads.map(crate::Count::get),
            min: table.min(),
            queue_max: table.queue_max(),
            batching: table.batching(),
            providers: table.providers(),
            fallback: table.fallback,
            optimization: table.optimization(),
        })
    }

    fn component(&mut self, side: &str, plugin: &PluginTable) -> Option<FileContent> {
        let source = Source { path: plugin.path.as_ref(), from: plugin.from.as_ref(), sha256: plugin.sha256 };
        self.content(&[side], UploadKind::Plugin, source, self.limits.component_bytes_max)
    }

    /// That neither or both are written has been told of.
    fn content(&mut self, table: &[&str], kind: UploadKind, source: Source<'_>, bytes_max: u64) -> Option<FileContent> {
        let from = [table, &["from"]].concat();
        let file = match (source.path, source.from) {
            (Some(path), _) => self.file(&[table, &["path"]].concat(), path, bytes_max)?,
            (None, Some(name)) => match self.limits.uploads {
                Uploads::Placed => self.file(&from, &name.path(kind), bytes_max)?,
                Uploads::Unread => return Some(FileContent::unread(name.path(kind).name())),
                Uploads::Unknown => {
                    let message = format!(
                        "it names a {kind} that was uploaded to a control plane, which alone can look it up: give its file with \
                         `path`, or deploy this function there"
                    );
                    self.problems.push(self.document.problem(&from, message));
                    return None;
                }
            },
            (None, None) => return None,
        };
        if let Some(pin) = source.sha256.filter(|pin| *pin != file.sha256) {
            let message = format!("the file has another SHA-256: {}, not {pin}", file.sha256);
            self.problems.push(self.document.problem(&[table, &["sha256"]].concat(), message));
        }
        Some(file)
    }

    fn assets(&mut self, paths: &AssetPaths) -> Vec<Asset> {
        let mut assets: Vec<Asset> = Vec::with_capacity(paths.0.len());
        let mut left = self.limits.assets_bytes_max;
        for (at, path) in paths.0.iter().enumerate() {
            let name = path.name();
            if paths.0[..at].iter().any(|other| other.name() == name) {
                self.problems.push(self.document.problem_of(&["assets"], at, format!("`{name}` is given twice")));
                continue;
            }
            if self.limits.uploads == Uploads::Unread && is_upload(&path.0) {
                continue;
            }
            match self.folder.read(&path.0, left) {
                Ok((found, data)) => {
                    left -= data.len() as u64;
                    self.keep(path, found, &data);
                    assets.push(Asset { name, data });
                }
                Err(error) => {
                    let message = format!("`{}`: {}", path.0.display(), self.tell_asset(&error, left));
                    self.problems.push(self.document.problem_of(&["assets"], at, message));
                }
            }
        }
        assets
    }

    fn tell_asset(&self, error: &FileError, left: u64) -> String {
        let max = self.limits.assets_bytes_max;
        match error {
            FileError::TooLarge { found, .. } if left < max => {
                format!("has {found} bytes, more than the {left} that the assets before it leave of {max}")
            }
            _ => error.to_string(),
        }
    }

    fn config(&mut self, table: BTreeMap<String, ConfigValue>) -> Vec<Setting> {
        table.into_iter().filter_map(|(key, value)| self.setting(key, value)).collect()
    }

    /// A secret that is neither written nor named has been told of.
    fn setting(&mut self, key: String, value: ConfigValue) -> Option<Setting> {
        let secret = match value {
            ConfigValue::Plain(value) => return Some(Setting { key, value, secret: false }),
            ConfigValue::Secret(table) => table,
        };
        let value = match (secret.secret, secret.secret_env) {
            (Some(value), _) => value,
            (None, name) => self.variable(&key, &name?.0)?,
        };
        Some(Setting { key, value, secret: true })
    }

    fn variable(&mut self, key: &str, name: &str) -> Option<String> {
        if !self.limits.environment {
            let message = "the server's environment is for its own function folders: give the secret itself";
            self.problems.push(self.document.problem(&["config", key, "secret_env"], message));
            return None;
        }
        // Of the server's variables a function may have those that are meant for functions, and no others.
        let name = format!("{SECRET_PREFIX}{name}");
        let message = match env::var(&name) {
            Ok(value) => return Some(value),
            Err(VarError::NotPresent) => format!("the server's environment has no variable {name:?}"),
            Err(VarError::NotUnicode(_)) => format!("the value of the server's environment variable {name:?} is not UTF-8"),
        };
        self.problems.push(self.document.problem(&["config", key, "secret_env"], message));
        None
    }

    fn sample(&mut self, table: SampleTable, methods: &[Method], limits: &FunctionLimits) -> Option<Sample> {
        let method = table.method.map(|name| name.0).or_else(|| methods.first().cloned())?;
        if !methods.contains(&method) {
            let message = format!("the function does not answer {method}: its methods are {methods:?}");
            self.problems.push(self.document.problem(&["sample", "method"], message));
        }
        let body = table.body.map(|path| self.file(&["sample", "body"], &path, limits.body_bytes_max as u64));
        let (file, body) = settle(body)?.map(|content| (content.path, content.bytes.unwrap_or_default())).unzip();
        let headers: HeaderMap = table.content_type.into_iter().map(|value| (CONTENT_TYPE, value.0)).collect();
        let head = RequestHead { method, path_rest: table.path.rest, query: table.path.query, headers };
        Some(Sample { request: Request { head, body: body.unwrap_or_default() }, file })
    }

    /// Remembers a file by the path that the manifest has for it.
    fn keep(&mut self, path: &FilePath, found: PathBuf, bytes: &[u8]) -> Digest {
        let sha256 = Digest::of(bytes);
        self.files.insert(path.name(), NamedFile { path: found, sha256, len: bytes.len() as u64 });
        sha256
    }

    fn file(&mut self, key: &[&str], path: &FilePath, bytes_max: u64) -> Option<FileContent> {
        match self.folder.read(&path.0, bytes_max) {
            Ok((found, bytes)) => {
                let sha256 = self.keep(path, found.clone(), &bytes);
                Some(FileContent { name: path.name(), path: found, sha256, len: bytes.len(), bytes: Some(bytes) })
            }
            Err(error) => {
                self.problems.push(self.document.problem(key, format!("`{}`: {error}", path.0.display())));
                None
            }
        }
    }
}

/// Nothing wanted is nothing found; something wanted and not found ends it.
fn settle<T>(wanted: Option<Option<T>>) -> Option<Option<T>> {
    wanted.map_or(Some(None), |found| found.map(Some))
}
