//! Plugins and models by name: a version is received, tried, stored and recorded, in the steps of a deployment. A failure at any of
//! them changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use sandmill_catalog::store::{Author, BlobRef, FILES_MAX, Pin, Refusal, Revision, TenantChange, TenantState};
use sandmill_catalog::{Digest, NamedUpload, UploadKind};
use sandmill_domain::control::{Answer, Answered, Form, ModelAdded, PluginAdded, Quotas, Refused, Step, Version};
use sandmill_domain::{Code, Fault, TenantId};
use tokio::task::spawn_blocking;

use super::ControlPlane;
use super::deploy::{Received, on_disk};
use super::faults::{archive_fault, load_fault, local_fault, refusal_fault, refused, store_fault};
use super::record::{Blobs, Files, Writing, lengths};
use super::{quotas, versions};

/// A version that is to be added, by whom.
pub(crate) struct Adding {
    pub(crate) tenant: TenantId,
    pub(crate) version: Version,
    pub(crate) revision: Option<Revision>,
    pub(crate) author: Author,
}

impl Adding {
    fn writing<'a>(&'a self, files: &'a Files) -> Writing<'a> {
        Writing { tenant: &self.tenant, revision: self.revision, author: &self.author, files }
    }
}

impl ControlPlane {
    /// Adds a version of a plugin.
    pub(crate) async fn add_plugin(&self, received: Received, adding: Adding) -> Result<Answered, Refused> {
        let bytes_max = self.file_limits.component_bytes_max;
        let read = on_disk(move || {
            let bytes = whole(&received.archive, bytes_max, "component_bytes_max")?;
            let file = (received.archive.clone(), Digest::of(&bytes), bytes.len() as u64);
            let files = Files::from([(UploadKind::Plugin.file().to_owned(), file)]);
            Ok((files, bytes, received))
        });
        let (files, bytes, received) = read.await.map_err(|fault| Refused::from(fault).at(Step::Read))?;
        // Gone when this is over, off the threads that carry requests.
        let _received = Later(Some(received));
        if let Some(answer) = self.known_plugin(&adding, &files)? {
            return Ok(answer);
        }
        self.check_room(&adding, UploadKind::Plugin, &files)?;
        let (holdings, name) = (Arc::clone(&self.holdings), adding.version.to_string());
        let about = tried(move || Ok(versions::written(&holdings.deployer().inspect_plugin(&name, &bytes)?))).await?;
        let Version { name, version } = &adding.version;
        let quotas = self.quotas(&adding.tenant);
        let change = |state: &TenantState, blobs: &Blobs| {
            quotas::version(&quotas, state, UploadKind::Plugin)?;
            let (_file, blob) = blobs.first_key_value().expect("invariant: a plugin is one file");
            let (name, version, about) = (name.clone(), version.clone(), about.clone());
            Ok(TenantChange::PluginAdded { name, version, blob: *blob, about })
        };
        match self.write_down(adding.writing(&files), || (), change).await {
            Ok(()) => self.plugin_added(&adding, true),
            // Another host was first, perhaps with the same.
            Err(refused) => self.known_plugin(&adding, &files)?.ok_or(refused),
        }
    }

    /// Adds a version of a model.
    pub(crate) async fn add_model(&self, received: Received, form: Form, adding: Adding) -> Result<Answered, Refused> {
        let (bytes_max, limits) = (self.file_limits.model_bytes_max, self.archive_limits);
        let read = on_disk(move || {
            let folder = received.folder.path().join("model");
            fs::create_dir(&folder).map_err(|error| local_fault(&error.into()))?;
            let onnx = folder.join(UploadKind::Model.file());
            match form {
                Form::File => fs::rename(&received.archive, &onnx).map_err(|error| local_fault(&error.into()))?,
                Form::Archive => sandmill_catalog::unpack(&received.archive, &folder, &limits).map_err(archive_fault)?,
            }
            if !onnx.is_file() {
                let message = "the archive has no `model.onnx` at its top, which is the model itself";
                return Err(Fault::new(Code::Unprocessable, message));
            }
            let bytes = whole(&onnx, bytes_max, "model_bytes_max")?;
            Ok((files_below(&folder)?, bytes, received))
        });
        let (files, bytes, received) = read.await.map_err(|fault| Refused::from(fault).at(Step::Read))?;
        // Gone when this is over, off the threads that carry requests.
        let _received = Later(Some(received));
        if let Some(answer) = self.known_model(&adding, &files)? {
            return Ok(answer);
        }
        self.check_room(&adding, UploadKind::Model, &files)?;
        let (holdings, name, tenant) = (Arc::clone(&self.holdings), adding.version.to_string(), adding.tenant.clone());
        let about = tried(move || Ok(versions::model_about(holdings.deployer().inspect_model(&name, &tenant, bytes)?))).await?;
        let Version { name, version } = &adding.version;
        let quotas = self.quotas(&adding.tenant);
        let change = |state: &TenantState, files: &Blobs| {
            quotas::version(&quotas, state, UploadKind::Model)?;
            let (name, version, files, about) = (name.clone(), version.clone(), files.clone(), about.clone());
            Ok(TenantChange::ModelAdded { name, version, files, about })
        };
        match self.write_down(adding.writing(&files), || (), change).await {
            Ok(()) => self.model_added(&adding, true),
            Err(refused) => self.known_model(&adding, &files)?.ok_or(refused),
        }
    }

    fn check_room(&self, adding: &Adding, kind: UploadKind, files: &Files) -> Result<(), Refused> {
        let room = room(&self.quotas(&adding.tenant), &self.tenant(&adding.tenant), kind, files);
        room.map_err(|refusal| Refused::from(refusal_fault(&refusal)).at(Step::Load))
    }

    /// The answer for a version that is there with these bytes; none if it is not there.
    fn known_plugin(&self, adding: &Adding, files: &Files) -> Result<Option<Answered>, Refused> {
        let Version { name, version } = &adding.version;
        let state = self.tenant(&adding.tenant);
        let Some(plugin) = state.plugins().get(name).and_then(|versions| versions.get(version)) else { return Ok(None) };
        if files.values().any(|(_, sha256, _)| *sha256 != plugin.blob.sha256) {
            return Err(other_bytes(UploadKind::Plugin, &adding.version));
        }
        self.plugin_added(adding, false).map(Some)
    }

    fn known_model(&self, adding: &Adding, files: &Files) -> Result<Option<Answered>, Refused> {
        let Version { name, version } = &adding.version;
        let state = self.tenant(&adding.tenant);
        let Some(model) = state.models().get(name).and_then(|versions| versions.get(version)) else { return Ok(None) };
        let known = model.files.iter().map(|(path, blob)| (path, &blob.sha256));
        if !known.eq(files.iter().map(|(path, (_, sha256, _))| (path, sha256))) {
            return Err(other_bytes(UploadKind::Model, &adding.version));
        }
        self.model_added(adding, false).map(Some)
    }

    fn plugin_added(&self, adding: &Adding, added: bool) -> Result<Answered, Refused> {
        let Version { name, version } = &adding.version;
        let state = self.tenant(&adding.tenant);
        let Some(plugin) = state.plugins().get(name).and_then(|versions| versions.get(version)) else { return Err(gone()) };
        let difference = versions::difference(&state, &adding.version);
        let version = versions::plugin_version(&state, name, version, plugin);
        let answer = PluginAdded { plugin: name.clone(), version, added, difference };
        Ok(self.answered(&adding.tenant, Answer::PluginAdded(Box::new(answer))))
    }

    fn model_added(&self, adding: &Adding, added: bool) -> Result<Answered, Refused> {
        let Version { name, version } = &adding.version;
        let state = self.tenant(&adding.tenant);
        let Some(model) = state.models().get(name).and_then(|versions| versions.get(version)) else { return Err(gone()) };
        let version = versions::model_version(&state, name, version, model);
        let answer = ModelAdded { model: name.clone(), version, added };
        Ok(self.answered(&adding.tenant, Answer::ModelAdded(Box::new(answer))))
    }

    /// A version that no kept release is made of is gone.
    pub(crate) async fn remove_version(
        &self,
        tenant: &TenantId,
        kind: UploadKind,
        version: Version,
        revision: Option<Revision>,
        author: &Author,
    ) -> Result<Answer, Refused> {
        let Version { name, version } = version;
        let change = |_: &_| {
            let (name, version) = (name.clone(), version.clone());
            Ok(match kind {
                UploadKind::Plugin => TenantChange::PluginRemoved { name, version },
                UploadKind::Model => TenantChange::ModelRemoved { name, version },
            })
        };
        self.catalog.change_tenant(tenant, revision, author, change).await.map_err(refused)?;
        Ok(Answer::Gone {})
    }

    /// Puts what a manifest names into its folder, each upload once; the versions that its release keeps from being deleted.
    pub(crate) async fn fetch_named(
        &self,
        tenant: &TenantId,
        folder: &Path,
        uploads: &[NamedUpload],
    ) -> Result<BTreeSet<Pin>, Fault> {
        let state = self.tenant(tenant);
        let blobs = self.catalog.store().blobs(tenant);
        let (mut pins, mut paths) = (BTreeSet::new(), BTreeMap::new());
        for upload in uploads {
            let refuse = |fault: Fault| Fault::new(Code::Unprocessable, upload.refuse(fault.message).to_string());
            let (files, pin) = versions::named(&state, upload.kind, &upload.name).map_err(refuse)?;
            pins.extend(pin);
            let below = folder.join(upload.name.folder(upload.kind));
            paths.extend(files.into_iter().map(|(path, blob)| (below.join(path), blob)));
        }
        let (bytes, max) = (paths.values().map(|blob: &BlobRef| blob.len).sum::<u64>(), self.archive_limits.bytes_max);
        if bytes > max {
            let message = format!("what it names with `from` has {bytes} bytes in all, more than the {max} of a function");
            return Err(Fault::new(Code::TooLarge, message));
        }
        for (path, blob) in paths {
            if let Some(parent) = path.parent() {
                tokio::fs::create_dir_all(parent).await.map_err(|error| local_fault(&error.into()))?;
            }
            blobs.fetch(&blob, &path).await.map_err(store_fault)?;
        }
        Ok(pins)
    }
}

/// The trial. It blocks for as long as that takes.
async fn tried<T: Send + 'static>(trial: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Result<T, Refused> {
    let tried = spawn_blocking(trial).await.context("it was cut off").and_then(|tried| tried);
    tried.map_err(|error| Refused::from(load_fault(&error)).at(Step::Load))
}

/// A file that may be as large as this setting says.
fn whole(path: &Path, bytes_max: u64, setting: &str) -> Result<Bytes, Fault> {
    let len = fs::metadata(path).map_err(|error| local_fault(&error.into()))?.len();
    if len > bytes_max {
        return Err(Fault::new(Code::TooLarge, format!("the file has {len} bytes; at most {bytes_max} are taken ({setting})")));
    }
    Ok(fs::read(path).map_err(|error| local_fault(&error.into()))?.into())
}

/// All files of an unpacked archive, by their paths.
fn files_below(folder: &Path) -> Result<Files, Fault> {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(|error| local_fault(&error.into()))? {
            let path = entry.map_err(|error| local_fault(&error.into()))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if files.len() == FILES_MAX {
                return Err(Fault::new(Code::Unprocessable, format!("the archive has more than {FILES_MAX} files")));
            }
            let (name, file) = file_of(folder, path)?;
            files.insert(name, file);
        }
    }
    Ok(files)
}

fn file_of(folder: &Path, path: PathBuf) -> Result<(String, (PathBuf, Digest, u64)), Fault> {
    let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
    let name = name.ok_or_else(|| local_fault(&anyhow!("{} is not below {}", path.display(), folder.display())))?.to_owned();
    let read = fs::File::open(&path).and_then(Digest::read);
    let (sha256, len) = read.map_err(|error| local_fault(&error.into()))?;
    Ok((name, (path, sha256, len)))
}

/// Dropped elsewhere: to delete a large file takes its time.
struct Later(Option<Received>);

impl Drop for Later {
    fn drop(&mut self) {
        let received = self.0.take();
        drop(spawn_blocking(move || drop(received)));
    }
}

fn room(quotas: &Quotas, state: &TenantState, kind: UploadKind, files: &Files) -> Result<(), Refusal> {
    quotas::version(quotas, state, kind)?;
    quotas::stored(quotas, state, lengths(files))
}

fn other_bytes(kind: UploadKind, version: &Version) -> Refused {
    let message = format!("{kind} `{version}` is there with other bytes: a version is never changed, give these another one");
    Refused::from(Fault::new(Code::Conflict, message)).at(Step::Read)
}

fn gone() -> Refused {
    Fault::new(Code::Conflict, "it was added, and somebody has removed it already").into()
}
