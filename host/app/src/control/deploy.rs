//! A deployment, step by step: receive, read, load, store, publish. A failure at any step changes nothing and says which it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use sandmill_catalog::store::{Author, BlobRef, Function, Pin, Release, Revision, TenantChange, TenantState};
use sandmill_catalog::{FunctionSpec, NamedUpload};
use sandmill_domain::control::{Answer, Answered, Deployment, Form, ModelDetail, Refused, Step, StepDetail};
use sandmill_domain::ports::Body;
use sandmill_domain::{Code, Fault, FunctionName, ReleaseNumber};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

use super::faults::{archive_fault, load_fault, local_fault, read_fault, refusal_fault};
use super::follow::Name;
use super::record::{Blobs, Files, Writing, lengths};
use super::{ControlPlane, quotas};
use crate::deploy::{Deployed, Place};
use crate::holdings::Held;

/// What is to be deployed, by whom.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) name: Name,
    pub(crate) form: Form,
    pub(crate) dry_run: bool,
    pub(crate) revision: Option<Revision>,
    pub(crate) author: Author,
}

/// An upload on this host's disk; it goes when it is dropped.
pub(crate) struct Received {
    pub(crate) folder: TempDir,
    /// As it came.
    pub(crate) archive: PathBuf,
}

/// What is written down of a release.
struct Content {
    manifest: String,
    files: Files,
    pins: BTreeSet<Pin>,
}

/// How long each step took.
struct Clock {
    steps: Vec<StepDetail>,
    since: Instant,
}

impl Clock {
    fn step(&mut self, step: Step) {
        self.steps.push(StepDetail { step, ms: (self.since.elapsed().as_secs_f64() * 1e5).round() / 100.0 });
        self.since = Instant::now();
    }
}

impl ControlPlane {
    /// Writes an upload to disk as it comes, if it is no longer than this.
    pub(crate) async fn receive(&self, body: &mut dyn Body, bytes_max: Option<u64>) -> Result<Received, Refused> {
        let at = |error: anyhow::Error| Refused::from(local_fault(&error)).at(Step::Receive);
        let folder = self.folders.make().map_err(at)?;
        let archive = folder.path().join("upload");
        let mut file = tokio::fs::File::create(&archive).await.map_err(|error| at(error.into()))?;
        let mut bytes = 0;
        while let Some(piece) = body.next().await.map_err(|fault| Refused::from(fault).at(Step::Receive))? {
            bytes += piece.len() as u64;
            if let Some(max) = bytes_max.filter(|max| bytes > *max) {
                let message = format!("it is larger than {max} bytes, the tenant's quota (upload_bytes_max)");
                return Err(Refused::from(Fault::new(Code::TooLarge, message)).at(Step::Receive));
            }
            file.write_all(&piece).await.map_err(|error| at(error.into()))?;
        }
        file.flush().await.map_err(|error| at(error.into()))?;
        Ok(Received { folder, archive })
    }

    /// Makes a release of what was received, and has it answer.
    pub(crate) async fn deploy(&self, received: Received, wanted: Wanted, begun: Instant) -> Result<Answered, Refused> {
        let mut clock = Clock { steps: Vec::new(), since: begun };
        clock.step(Step::Receive);
        let (spec, folder, pins) = self.read(received, &wanted).await?;
        clock.step(Step::Read);
        let released = self.release(&wanted, spec, pins, clock).await;
        // What it had is in the store by now, and nobody's otherwise.
        drop(spawn_blocking(move || drop(folder)).await);
        released
    }

    /// Makes a release of a folder, which stays for as long as that takes.
    async fn release(
        &self,
        wanted: &Wanted,
        spec: FunctionSpec,
        pins: BTreeSet<Pin>,
        mut clock: Clock,
    ) -> Result<Answered, Refused> {
        let _turn = self.following.turn(&wanted.name).await;
        let before = self.function(&wanted.name);
        if let Some(function) = before.as_ref().filter(|function| is_same(&function.current, &spec)) {
            return Ok(self.unchanged(wanted, function, clock));
        }
        let content = Content { manifest: spec.manifest.0.clone(), files: named_files(&spec), pins };
        let (quotas, state) = (self.quotas(&wanted.name.0), self.tenant(&wanted.name.0));
        let room = quotas::function(&quotas, &state, &wanted.name.1);
        let room = room.and_then(|()| quotas::stored(&quotas, &state, lengths(&content.files)));
        room.map_err(|refusal| Refused::from(refusal_fault(&refusal)).at(Step::Load))?;
        let held = self.load(wanted, spec).await?;
        clock.step(Step::Load);
        let mut deployment = describe(wanted, before.as_ref(), &held.deployed);
        if wanted.dry_run {
            deployment.release = held.number().0.get();
            deployment.steps = clock.steps;
            self.drop_later(held);
            return Ok(self.answered(&wanted.name.0, Answer::Deployed(deployment)));
        }
        let published = self.store_and_publish(wanted, content, held, &mut clock).await?;
        deployment.release = published.0.get();
        deployment.steps = clock.steps;
        Ok(self.answered(&wanted.name.0, Answer::Deployed(deployment)))
    }

    /// With what the manifest names of the tenant's uploads, and the versions that are among it.
    async fn read(&self, received: Received, wanted: &Wanted) -> Result<(FunctionSpec, TempDir, BTreeSet<Pin>), Refused> {
        let (tenant, function) = &wanted.name;
        let at = |fault: Fault| Refused::from(fault).at(Step::Read);
        let (folder, uploads) = self.open(received, function, wanted.form).await.map_err(at)?;
        let path = folder.path().join(function.as_str());
        let pins = self.fetch_named(tenant, &path, &uploads).await.map_err(at)?;
        let (spec, folder) = self.read_folder(folder, function).await.map_err(at)?;
        Ok((spec, folder, pins))
    }

    /// Makes a function's folder of what was received, and looks for what it names of the tenant's uploads.
    async fn open(&self, received: Received, function: &FunctionName, form: Form) -> Result<(TempDir, Vec<NamedUpload>), Fault> {
        let (archive_limits, name) = (self.archive_limits, function.clone());
        on_disk(move || {
            let Received { folder, archive } = received;
            // A function is named by its folder, if its manifest does not say.
            let path = folder.path().join(name.as_str());
            fs::create_dir(&path).map_err(|error| local_fault(&error.into()))?;
            match form {
                Form::Archive => {
                    sandmill_catalog::unpack(&archive, &path, &archive_limits).map_err(archive_fault)?;
                    fs::remove_file(&archive)
                }
                Form::File => fs::rename(&archive, path.join("function.toml")),
            }
            .map_err(|error| local_fault(&error.into()))?;
            let uploads = sandmill_catalog::named_uploads(&path).map_err(|error| read_fault(&error))?;
            Ok((folder, uploads))
        })
        .await
    }

    async fn read_folder(&self, folder: TempDir, function: &FunctionName) -> Result<(FunctionSpec, TempDir), Fault> {
        let (limits, name) = (self.file_limits, function.clone());
        on_disk(move || {
            let path = folder.path().join(name.as_str());
            let spec = sandmill_catalog::read_function(&path, &limits).map_err(|error| read_fault(&error))?;
            if spec.name != name {
                let message = format!("the manifest names the function `{}`, and the request `{name}`: make them one", spec.name);
                return Err(Fault::new(Code::Unprocessable, message));
            }
            Ok((spec, folder))
        })
        .await
    }

    async fn load(&self, wanted: &Wanted, spec: FunctionSpec) -> Result<Held, Refused> {
        let name = &wanted.name;
        let number = self.tenant(&name.0).next_number(&name.1);
        let (account, journal) = (self.accounts.of(&name.0), self.journal(name));
        // A dry run tries all of it, and nothing that is in use.
        let beside = if wanted.dry_run { Vec::new() } else { self.holdings.models(&name.0, &name.1) };
        let keep_in = Some(self.folders.path().to_owned());
        let place = Place { tenant: name.0.clone(), number, known: false, account, journal, keep_in, beside };
        let holdings = Arc::clone(&self.holdings);
        let making = spawn_blocking(move || Ok(Held::new(holdings.deployer().make(&spec, &place)?)));
        let made = making.await.context("it was cut off").and_then(|made| made);
        made.map_err(|error| Refused::from(load_fault(&error)).at(Step::Load))
    }

    /// From here on it is written down; from the moment that it is, it answers.
    async fn store_and_publish(
        &self,
        wanted: &Wanted,
        content: Content,
        held: Held,
        clock: &mut Clock,
    ) -> Result<ReleaseNumber, Refused> {
        let (tenant, function) = &wanted.name;
        let Content { manifest, files, pins } = content;
        let mut number = held.number();
        let quotas = self.quotas(tenant);
        let writing = Writing { tenant, revision: wanted.revision, author: &wanted.author, files: &files };
        let change = |state: &TenantState, blobs: &Blobs| {
            quotas::function(&quotas, state, function)?;
            number = state.next_number(function);
            let (function, manifest, files, pins) = (function.clone(), manifest.clone(), blobs.clone(), pins.clone());
            Ok(TenantChange::Released { function, number, manifest, files, pins })
        };
        if let Err(refused) = self.write_down(writing, || clock.step(Step::Store), change).await {
            self.drop_later(held);
            return Err(refused);
        }
        match self.function(&wanted.name).filter(|now| now.current.number == number) {
            Some(now) => {
                let held = if number == held.number() { held } else { held.renumbered(number) };
                self.serve(&wanted.name, &now, Arc::new(held)).await;
            }
            // Another host has released it again since, or taken it back: it is followed.
            None => {
                self.drop_later(held);
                self.settle_function(&wanted.name).await;
            }
        }
        clock.step(Step::Publish);
        Ok(number)
    }

    /// It answers already.
    fn unchanged(&self, wanted: &Wanted, function: &Function, clock: Clock) -> Answered {
        let held = self.holdings.current(&wanted.name.0, &wanted.name.1);
        let release = function.current.number.0.get();
        let deployment = Deployment {
            function: wanted.name.1.clone(),
            release,
            previous: Some(release),
            dry_run: wanted.dry_run,
            steps: clock.steps,
            models: held
                .iter()
                .flat_map(|held| models(&held.deployed))
                .map(|model| ModelDetail { kept: true, ..model })
                .collect(),
            sample: held.and_then(|held| held.deployed.sample.as_ref().map(|sample| sample.status)),
        };
        self.answered(&wanted.name.0, Answer::Deployed(deployment))
    }

    /// Dropping a release waits for its models' threads.
    fn drop_later(&self, held: Held) {
        drop(spawn_blocking(move || drop(held)));
    }
}

/// What reads this host's own disk, off the threads that carry requests.
pub(crate) async fn on_disk<T: Send + 'static>(read: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let read = spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(Fault::new(Code::Internal, "reading it was cut off").because(error)))
}

fn is_same(release: &Release, spec: &FunctionSpec) -> bool {
    let digests = |blob: &BlobRef| blob.sha256;
    let known: BTreeMap<_, _> = release.files.iter().map(|(path, blob)| (path, digests(blob))).collect();
    let new: BTreeMap<_, _> = spec.files.iter().map(|(path, file)| (path, file.sha256)).collect();
    release.manifest == spec.manifest.0 && known == new
}

fn named_files(spec: &FunctionSpec) -> Files {
    spec.files.iter().map(|(name, file)| (name.clone(), (file.path.clone(), file.sha256, file.len))).collect()
}

fn describe(wanted: &Wanted, before: Option<&Function>, deployed: &Deployed) -> Deployment {
    Deployment {
        function: wanted.name.1.clone(),
        release: 0,
        previous: before.map(|function| function.current.number.0.get()),
        dry_run: wanted.dry_run,
        steps: Vec::new(),
        models: models(deployed),
        sample: deployed.sample.as_ref().map(|sample| sample.status),
    }
}

fn models(deployed: &Deployed) -> Vec<ModelDetail> {
    let detail = |measured: &crate::deploy::Measured| ModelDetail {
        model: measured.name.clone(),
        kept: measured.kept,
        provider: measured.placement.provider.clone(),
        batch_rows_max: *measured.profile.batches.as_ref().unwrap_or(&1),
        why_no_batches: measured.profile.batches.as_ref().err().cloned(),
    };
    deployed.measured.iter().map(detail).collect()
}
