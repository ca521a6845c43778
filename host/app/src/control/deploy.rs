//! A deployment, step by step: receive, read, load, store, publish. A failure at any step changes nothing and says which it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use sandmill_catalog::store::{
    Author, BlobRef, ChangeError, Function, Refusal, Release, Revision, StoreError, TenantChange, TenantState,
};
use sandmill_catalog::{ArchiveError, FunctionSpec};
use sandmill_domain::control::{Answer, Answered, Deployment, ModelDetail, Refused, Step, StepDetail};
use sandmill_domain::ports::Body;
use sandmill_domain::{Code, Fault, FunctionName, ReleaseNumber, TenantId};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

use super::ControlPlane;
use super::follow::Name;
use super::views::{refused, store_fault};
use crate::deploy::{Deployed, Place};
use crate::holdings::Held;

/// What is to be deployed, by whom.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) name: Name,
    pub(crate) dry_run: bool,
    pub(crate) revision: Option<Revision>,
    pub(crate) author: Author,
}

/// An upload on this host's disk; it goes when it is dropped.
pub(crate) struct Received {
    folder: TempDir,
    archive: PathBuf,
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
    /// Writes an upload to disk as it comes.
    pub(crate) async fn receive(&self, body: &mut dyn Body) -> Result<Received, Refused> {
        let at = |error: anyhow::Error| Refused::from(local_fault(&error)).at(Step::Receive);
        let folder = self.folders.make().map_err(at)?;
        let archive = folder.path().join("upload");
        let mut file = tokio::fs::File::create(&archive).await.map_err(|error| at(error.into()))?;
        while let Some(piece) = body.next().await.map_err(|fault| Refused::from(fault).at(Step::Receive))? {
            file.write_all(&piece).await.map_err(|error| at(error.into()))?;
        }
        file.flush().await.map_err(|error| at(error.into()))?;
        Ok(Received { folder, archive })
    }

    /// Makes a release of what was received, and has it answer.
    pub(crate) async fn deploy(&self, received: Received, wanted: Wanted, begun: Instant) -> Result<Answered, Refused> {
        let mut clock = Clock { steps: Vec::new(), since: begun };
        clock.step(Step::Receive);
        let (spec, folder) = self.read(received, &wanted.name.1).await?;
        clock.step(Step::Read);
        let _turn = self.following.turn(&wanted.name).await;
        let before = self.function(&wanted.name);
        if let Some(function) = before.as_ref().filter(|function| is_same(&function.current, &spec)) {
            return Ok(self.unchanged(&wanted, function, clock));
        }
        self.check_quotas(&wanted, &spec).map_err(|fault| Refused::from(fault).at(Step::Load))?;
        let files = named_files(&spec);
        let manifest = spec.manifest.0.clone();
        let held = self.load(&wanted.name, spec, folder).await?;
        clock.step(Step::Load);
        let mut deployment = describe(&wanted, before.as_ref(), &held.deployed);
        if wanted.dry_run {
            deployment.release = held.number().0.get();
            deployment.steps = clock.steps;
            self.drop_later(held);
            return Ok(self.answered(&wanted.name.0, Answer::Deployed(deployment)));
        }
        let published = self.store_and_publish(&wanted, manifest, &files, held, &mut clock).await?;
        deployment.release = published.0.get();
        deployment.steps = clock.steps;
        Ok(self.answered(&wanted.name.0, Answer::Deployed(deployment)))
    }

    async fn read(&self, received: Received, function: &FunctionName) -> Result<(FunctionSpec, TempDir), Refused> {
        let (limits, archive_limits, name) = (self.file_limits, self.archive_limits, function.clone());
        let reading = spawn_blocking(move || {
            let Received { folder, archive } = received;
            // A function is named by its folder, if its manifest does not say.
            let path = folder.path().join(name.as_str());
            fs::create_dir(&path).map_err(|error| local_fault(&error.into()))?;
            sandmill_catalog::unpack(&archive, &path, &archive_limits).map_err(archive_fault)?;
            fs::remove_file(&archive).map_err(|error| local_fault(&error.into()))?;
            let spec = sandmill_catalog::read_function(&path, &limits).map_err(|error| {
                // The folder is this host's own, and nobody else's matter.
                let text = error
                    .to_string()
                    .replace(&format!("{}/", path.display()), "")
                    .replace(&path.display().to_string(), "the archive");
                Fault::new(Code::Unprocessable, text)
            })?;
            if spec.name != name {
                let message = format!("the manifest names the function `{}`, and the request `{name}`: make them one", spec.name);
                return Err(Fault::new(Code::Unprocessable, message));
            }
            Ok((spec, folder))
        });
        let read = reading.await.unwrap_or_else(|error| Err(Fault::new(Code::Internal, "reading it was cut off").because(error)));
        read.map_err(|fault| Refused::from(fault).at(Step::Read))
    }

    async fn load(&self, name: &Name, spec: FunctionSpec, folder: TempDir) -> Result<Held, Refused> {
        let number = self.tenant(&name.0).next_number(&name.1);
        let place = Place { tenant: name.0.clone(), number, account: self.accounts.of(&name.0), journal: self.journal(name) };
        let holdings = Arc::clone(&self.holdings);
        let root = folder.path().join(name.1.as_str());
        let making = spawn_blocking(move || holdings.make(&spec, &place, Some(folder)));
        let made = making.await.context("it was cut off").and_then(|made| made);
        made.map_err(|error| {
            let text = format!("{error:#}");
            let text = text.replace(&format!("function `{}` ({}): ", name.1, root.display()), "");
            let text = text.replace(&format!("{}/", root.display()), "");
            Refused::from(Fault::new(Code::Unprocessable, text)).at(Step::Load)
        })
    }

    /// From here on it is written down; from the moment that it is, it answers.
    async fn store_and_publish(
        &self,
        wanted: &Wanted,
        manifest: String,
        files: &BTreeMap<String, (PathBuf, sandmill_catalog::Digest, u64)>,
        held: Held,
        clock: &mut Clock,
    ) -> Result<ReleaseNumber, Refused> {
        let (tenant, function) = &wanted.name;
        let mut again = true;
        let mut number = held.number();
        loop {
            let blobs = self.upload(tenant, files).await.map_err(|error| Refused::from(store_fault(error)).at(Step::Store))?;
            clock.step(Step::Store);
            let change = |state: &TenantState| {
                number = state.next_number(function);
                let (function, manifest, files) = (function.clone(), manifest.clone(), blobs.clone());
                Ok(TenantChange::Released { function, number, manifest, files, pins: BTreeSet::new() })
            };
            match self.catalog.change_tenant(tenant, wanted.revision, &wanted.author, change).await {
                Ok(_revision) => break,
                // What was there already was just being deleted.
                Err(ChangeError::Refused(Refusal::Condemned(_))) if again => again = false,
                Err(error) => return Err(refused(error).at(Step::Publish)),
            }
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

    /// What the tenant has already is not uploaded again.
    async fn upload(
        &self,
        tenant: &TenantId,
        files: &BTreeMap<String, (PathBuf, sandmill_catalog::Digest, u64)>,
    ) -> Result<BTreeMap<String, BlobRef>, StoreError> {
        let state = self.tenant(tenant);
        let mut known: BTreeMap<_, BlobRef> = state.live_blobs().map(|blob| (blob.sha256, *blob)).collect();
        let blobs = self.catalog.store().blobs(tenant);
        let mut uploaded = BTreeMap::new();
        for (name, (path, sha256, len)) in files {
            let blob = match known.get(sha256) {
                Some(blob) => *blob,
                None => blobs.put(path, *sha256, *len).await?,
            };
            known.insert(*sha256, blob);
            uploaded.insert(name.clone(), blob);
        }
        Ok(uploaded)
    }

    fn check_quotas(&self, wanted: &Wanted, spec: &FunctionSpec) -> Result<(), Fault> {
        let (tenant, function) = &wanted.name;
        let quotas = self.quotas(tenant);
        let state = self.tenant(tenant);
        let is_new = !state.functions().contains_key(function);
        let refuse = |what: String| Err(Fault::new(Code::TooManyRequests, what));
        if let Some(max) = quotas.functions_max.filter(|max| is_new && state.functions().len() as u64 >= *max) {
            return refuse(format!("the tenant has {max} functions, its quota (functions_max): delete one first"));
        }
        let stored: BTreeMap<_, _> = state.live_blobs().map(|blob| (blob.sha256, blob.len)).collect();
        let new: BTreeMap<_, _> = spec.files.values().map(|file| (file.sha256, file.len)).collect();
        let new: u64 = new.iter().filter(|(sha256, _)| !stored.contains_key(*sha256)).map(|(_, len)| len).sum();
        let all = stored.values().sum::<u64>().saturating_add(new);
        if let Some(max) = quotas.stored_bytes_max.filter(|max| all > *max) {
            return refuse(format!("the tenant would store {all} bytes, beyond its quota of {max} (stored_bytes_max)"));
        }
        Ok(())
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
            models: held.as_ref().map(|held| models(&held.deployed)).unwrap_or_default(),
            sample: held.and_then(|held| held.deployed.sample.as_ref().map(|sample| sample.status)),
        };
        self.answered(&wanted.name.0, Answer::Deployed(deployment))
    }

    /// Dropping a release waits for its models' threads.
    fn drop_later(&self, held: Held) {
        drop(spawn_blocking(move || drop(held)));
    }
}

fn is_same(release: &Release, spec: &FunctionSpec) -> bool {
    let digests = |blob: &BlobRef| blob.sha256;
    let known: BTreeMap<_, _> = release.files.iter().map(|(path, blob)| (path, digests(blob))).collect();
    let new: BTreeMap<_, _> = spec.files.iter().map(|(path, file)| (path, file.sha256)).collect();
    release.manifest == spec.manifest.0 && known == new
}

fn named_files(spec: &FunctionSpec) -> BTreeMap<String, (PathBuf, sandmill_catalog::Digest, u64)> {
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
        provider: measured.placement.provider.clone(),
        batch_rows_max: *measured.profile.batches.as_ref().unwrap_or(&1),
        why_no_batches: measured.profile.batches.as_ref().err().cloned(),
    };
    deployed.measured.iter().map(detail).collect()
}

fn archive_fault(error: ArchiveError) -> Fault {
    match &error {
        ArchiveError::File { .. } => local_fault(&anyhow!(error)),
        ArchiveError::TooLarge { .. } => Fault::new(Code::TooLarge, error.to_string()),
        ArchiveError::Broken(_) | ArchiveError::Entry { .. } => Fault::new(Code::InvalidInput, error.to_string()),
    }
}

/// This host's own disk.
fn local_fault(error: &anyhow::Error) -> Fault {
    let is_full = error.chain().any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    });
    match is_full {
        true => Fault::new(Code::StorageFull, "this host's disk is full: nothing was changed").because(format!("{error:#}")),
        false => Fault::new(Code::Internal, "this host's disk failed: nothing was changed").because(format!("{error:#}")),
    }
}
