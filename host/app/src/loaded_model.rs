//! A function's model as this host has it loaded. Releases that want the same one have it together: it goes with the last of them,
//! and so does the file that further sessions are read from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context, Result};
use bytes::Bytes;
use sandmill_catalog::{Digest, FileContent};
use sandmill_domain::ports::{Model, Share};
use sandmill_engine::{Engine, ModelOptions, ModelSource, OnnxModel};
use sandmill_pipeline::Release;
use tempfile::{Builder, TempDir};
use thiserror::Error;

/// The name of a model's file in a folder of its own.
const KEPT: &str = "model.onnx";

/// What a model is loaded from, and how it is run.
pub(crate) struct ModelWish<'a> {
    /// As its function calls it.
    pub(crate) name: &'a str,
    pub(crate) file: &'a FileContent,
    /// Where the file is kept for as long as the model is there, on the disk that it is on; none if it stays where it is.
    pub(crate) keep_in: Option<&'a Path>,
    /// Of the request that it is measured with, if there is one.
    pub(crate) sample: Option<Digest>,
    pub(crate) options: ModelOptions,
    pub(crate) share: Arc<dyn Share>,
}

/// A model that is loaded.
pub(crate) struct LoadedModel {
    pub(crate) model: Arc<OnnxModel>,
    file: Arc<ModelFile>,
    sample: Option<Digest>,
    options: ModelOptions,
    releases: Arc<Releases>,
}

/// Those that have a model: their breakers open when a run of it does not end.
#[derive(Default)]
pub(crate) struct Releases(Mutex<Vec<Weak<Release>>>);

impl LoadedModel {
    /// Loads one, unless one of these, of the same function, is the same and as good. Blocking.
    pub(crate) fn of(wish: ModelWish<'_>, there: &[Arc<Self>], engine: &Engine) -> Result<Arc<Self>> {
        if let Some(same) = there.iter().find(|loaded| loaded.is(&wish) && loaded.model.is_as_new()) {
            return Ok(Arc::clone(same));
        }
        let ModelWish { name, file, keep_in, sample, options, share } = wish;
        let context = || file.name.clone();
        let file = Arc::new(ModelFile::new(file, keep_in).map_err(NotKept).with_context(context)?);
        let source = Arc::clone(&file);
        let source = ModelSource { name: name.to_owned(), read: Arc::new(move || source.read()), share: Some(share) };
        let model = Arc::new(engine.load(source, &options).with_context(context)?);
        Ok(Arc::new(Self { model, file, sample, options, releases: Arc::default() }))
    }

    fn is(&self, wish: &ModelWish<'_>) -> bool {
        let is_run_alike = self.options == wish.options && self.sample == wish.sample;
        is_run_alike && self.model.info().name == wish.name && self.file.sha256 == wish.file.sha256
    }

    /// From now on it is read from its file as that lies on disk.
    pub(crate) fn forget_file(&self) {
        *lock(&self.file.first) = None;
    }

    /// Those that have it, without it.
    pub(crate) fn releases(&self) -> &Arc<Releases> {
        &self.releases
    }
}

impl Releases {
    /// Another one has it.
    pub(crate) fn join(&self, release: &Arc<Release>) {
        let mut releases = lock(&self.0);
        releases.retain(|release| release.strong_count() > 0);
        releases.push(Arc::downgrade(release));
    }

    /// A run does not end.
    pub(crate) fn trip(&self) {
        let releases = lock(&self.0).clone();
        releases.iter().filter_map(Weak::upgrade).for_each(|release| release.trip());
    }
}

/// The disk has no room for a model's file, or fails.
#[derive(Debug, Error)]
#[error("this host cannot keep the file for further sessions")]
pub(crate) struct NotKept(#[source] io::Error);

/// A model's file: in memory until its function is made; then, for every further session, as it lies on disk, if it is still the same.
struct ModelFile {
    path: PathBuf,
    _kept: Option<TempDir>,
    sha256: Digest,
    len: usize,
    first: Mutex<Option<Bytes>>,
}

impl ModelFile {
    fn new(file: &FileContent, keep_in: Option<&Path>) -> io::Result<Self> {
        let kept = keep_in.map(|folder| keep(&file.path, folder)).transpose()?;
        let path = kept.as_ref().map_or_else(|| file.path.clone(), |kept| kept.path().join(KEPT));
        let first = Mutex::new(file.bytes.clone());
        Ok(Self { path, _kept: kept, sha256: file.sha256, len: file.len, first })
    }

    fn read(&self) -> Result<Bytes, String> {
        let first = lock(&self.first).clone();
        first.map_or_else(|| FileContent::read_again(&self.path, self.sha256, self.len), Ok)
    }
}

/// Without a second copy, where the disk can.
fn keep(file: &Path, folder: &Path) -> io::Result<TempDir> {
    let kept = Builder::new().prefix("model-").tempdir_in(folder)?;
    let path = kept.path().join(KEPT);
    fs::hard_link(file, &path).or_else(|_no_links| fs::copy(file, &path).map(|_bytes| ()))?;
    Ok(kept)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
