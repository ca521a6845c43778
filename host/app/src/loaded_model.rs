//! A function's model as this host has it loaded. Releases that want the same one have it together: it goes with the last of them,
//! and so do the files that further sessions are read from.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Context, Result};
use bytes::Bytes;
use sandmill_catalog::{Digest, FileContent};
use sandmill_domain::ModelStage;
use sandmill_domain::ports::{Model, Share};
use sandmill_engine::{Engine, ModelOptions, ModelSource, OnnxModel};
use sandmill_pipeline::Release;
use tempfile::TempDir;

/// What a model is loaded from, and how it is run.
pub(crate) struct ModelWish<'a> {
    /// As its function calls it.
    pub(crate) name: &'a str,
    pub(crate) file: &'a FileContent,
    /// Of which the file is a part, if that is to go with the model; none for a folder that is not ours.
    pub(crate) folder: Option<Arc<TempDir>>,
    pub(crate) options: ModelOptions,
    pub(crate) share: Arc<dyn Share>,
}

/// A model that is loaded.
pub(crate) struct LoadedModel {
    pub(crate) model: Arc<OnnxModel>,
    file: Arc<ModelFile>,
    options: ModelOptions,
    /// Whose breakers open when a run of it does not end.
    releases: Mutex<Vec<Weak<Release>>>,
}

impl LoadedModel {
    /// Loads one, unless one of these, of the same function, is the same, warm and well. Blocking.
    pub(crate) fn of(wish: ModelWish<'_>, there: &[Arc<Self>], engine: &Engine) -> Result<Arc<Self>> {
        if let Some(same) = there.iter().find(|model| model.is(&wish) && model.is_well()) {
            return Ok(Arc::clone(same));
        }
        let ModelWish { name, file, folder, options, share } = wish;
        let context = || file.name.clone();
        let file = Arc::new(ModelFile::new(file, folder));
        let source = Arc::clone(&file);
        let source = ModelSource { name: name.to_owned(), read: Arc::new(move || source.read()), share: Some(share) };
        let model = Arc::new(engine.load(source, &options).with_context(context)?);
        Ok(Arc::new(Self { model, file, options, releases: Mutex::default() }))
    }

    fn is(&self, wish: &ModelWish<'_>) -> bool {
        self.model.info().name == wish.name && self.file.sha256 == wish.file.sha256 && self.options == wish.options
    }

    fn is_well(&self) -> bool {
        let state = self.model.state();
        state.stage == ModelStage::Warm && state.ailing.is_none()
    }

    /// From now on it is read from its file as that lies on disk.
    pub(crate) fn forget_file(&self) {
        *lock(&self.file.first) = None;
    }

    /// A release has it whose breaker is to open when a run of it does not end.
    pub(crate) fn join(&self, release: &Arc<Release>) {
        let mut releases = lock(&self.releases);
        releases.retain(|release| release.strong_count() > 0);
        releases.push(Arc::downgrade(release));
    }

    /// A run of it does not end.
    pub(crate) fn trip(&self) {
        let releases = lock(&self.releases).clone();
        releases.iter().filter_map(Weak::upgrade).for_each(|release| release.trip());
    }
}

/// A model's file: in memory until its function is made; then, for every further session, as it lies on disk, if it is still the same.
struct ModelFile {
    path: PathBuf,
    _folder: Option<Arc<TempDir>>,
    sha256: Digest,
    len: usize,
    first: Mutex<Option<Bytes>>,
}

impl ModelFile {
    fn new(file: &FileContent, folder: Option<Arc<TempDir>>) -> Self {
        let first = Mutex::new(file.bytes.clone());
        Self { path: file.path.clone(), _folder: folder, sha256: file.sha256, len: file.len, first }
    }

    fn read(&self) -> Result<Bytes, String> {
        let first = lock(&self.first).clone();
        first.map_or_else(|| FileContent::read_again(&self.path, self.sha256, self.len), Ok)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
