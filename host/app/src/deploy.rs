//! From a function's folder to a release that may be served: its model loaded and warm, its plugins compiled, its sample
//! request answered. Blocking: `serve` and `check` run it on a thread of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sandmill_catalog::{Digest, FileContent, FunctionSpec, ModelSpec, Plugins as PluginFiles, Sample};
use sandmill_domain::ports::{Model, Plugin};
use sandmill_domain::{
    Blame, Code, Fault, FunctionLimits, Journal, ModelProfile, ReleaseNumber, Request, RequestHead, TenantId, TenantLimits,
};
use sandmill_engine::{Engine, LoadTimes, ModelOptions, OnnxModel, Placement};
use sandmill_pipeline::{Account, Plugins, Release, ReleaseParts};
use sandmill_sandbox::{Loaded as PluginLoaded, PluginOptions, Sandbox, WasmPlugin};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::loaded_model::{LoadedModel, ModelWish};

/// How long a release that was deployed once may take for its sample request when it is loaded again: others wait.
const KNOWN_SAMPLE_TIME: Duration = Duration::from_secs(60);

/// Makes releases; holds what they share.
pub(crate) struct Deployer {
    pub(crate) engine: Engine,
    pub(crate) sandbox: Sandbox,
    /// Where sample requests run.
    pub(crate) runtime: Handle,
    /// How models are run, where their function does not say.
    pub(crate) model_options: ModelOptions,
    /// The largest body that the host as a whole can hold.
    pub(crate) body_bytes_max: usize,
}

/// Whose release it will be, and which.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) number: ReleaseNumber,
    /// Whether it was released before: its tenant's bounds, which may have been lowered since, are no reason not to load it, and its
    /// sample may not take long.
    pub(crate) known: bool,
    /// What its plugins take their instances from.
    pub(crate) account: Arc<Account>,
    /// Where its plugins' lines go besides the host's log.
    pub(crate) journal: Arc<Journal>,
    /// Where the files of its models are kept, as its folder goes; none for a folder that stays.
    pub(crate) keep_in: Option<PathBuf>,
    /// What is loaded of the function already, and may be used on.
    pub(crate) beside: Vec<Arc<LoadedModel>>,
}

/// The plugins of a function, and how each file came to be one.
struct Loaded {
    plugins: Plugins,
    loads: Vec<(PathBuf, PluginLoaded)>,
}

/// A release, and what was seen while it was made.
pub(crate) struct Deployed {
    pub(crate) release: Arc<Release>,
    /// All of them, a handler's too.
    pub(crate) models: Vec<Arc<LoadedModel>>,
    /// What was measured of each, in the same order.
    pub(crate) measured: Vec<Measured>,
    /// By the plugins' files.
    pub(crate) loads: Vec<(PathBuf, PluginLoaded)>,
    /// How the sample was answered, if there is one.
    pub(crate) sample: Option<SampleAnswer>,
}

/// What was measured of a model.
pub(crate) struct Measured {
    pub(crate) name: String,
    /// Whether another release that is loaded has it as well, so that it was not loaded again.
    pub(crate) kept: bool,
    pub(crate) times: LoadTimes,
    pub(crate) placement: Placement,
    pub(crate) profile: ModelProfile,
}

/// How a function answered its sample request.
pub(crate) struct SampleAnswer {
    pub(crate) status: u16,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

/// A sample request has no answer.
#[derive(Debug, Error)]
#[error("{}", .0.report())]
pub(crate) struct SampleFailed(Fault);

impl SampleFailed {
    /// Whether that says nothing of the function: the host, or a model that is in use, was too busy.
    pub(crate) fn is_passing(&self) -> bool {
        let is_host_late = self.0.code == Code::DeadlineExceeded && self.0.blame == Blame::Host;
        is_host_late || matches!(self.0.code, Code::Overloaded | Code::NotReady | Code::TooManyRequests)
    }
}

impl Deployer {
    /// Makes a function's release. Every error names the function's folder and the file at fault in it.
    pub(crate) fn deploy(&self, spec: &FunctionSpec, place: &Place) -> Result<Deployed> {
        self.make(spec, place).with_context(|| format!("function `{}` ({})", spec.name, spec.folder.display()))
    }

    /// The same, with errors for somebody who is not to know where the folder lies: they name files by their names in it.
    pub(crate) fn make(&self, spec: &FunctionSpec, place: &Place) -> Result<Deployed> {
        self.check_limits(&spec.limits)?;
        if !place.known {
            check_tenant_limits(&spec.limits, &place.account.limits())?;
        }
        let loaded = spec.models.iter().map(|model| self.load_model(model, spec, place)).collect::<Result<Vec<_>>>()?;
        let models: Vec<Arc<dyn Model>> = loaded.iter().map(|loaded| Arc::clone(&loaded.model) as Arc<dyn Model>).collect();
        let Loaded { plugins, loads } = self.load_plugins(spec, &models, place)?;
        let model = models.first().filter(|_| plugins.handler.is_none()).cloned();
        if model.is_none() && plugins.pre.is_none() && plugins.handler.is_none() {
            bail!("it has no model, and its plugin exports neither `preprocess` nor `handler`: nothing could answer a request");
        }
        let release = Arc::new(Release::new(ReleaseParts {
            tenant: place.tenant.clone(),
            function: spec.name.clone(),
            number: place.number,
            methods: spec.methods.clone(),
            limits: spec.limits.clone(),
            account: Arc::clone(&place.account),
            model,
            models,
            plugins,
            journal: Some(Arc::clone(&place.journal)),
        }));
        let sample = spec.sample.as_ref().map(|sample| self.rehearse(&release, sample, place.known)).transpose()?;
        // Of the shapes that the sample has brought.
        let is_kept = |loaded| place.beside.iter().any(|other| Arc::ptr_eq(other, loaded));
        let measured = loaded.iter().map(|loaded| measured(&loaded.model, is_kept(loaded))).collect();
        loaded.iter().for_each(|loaded| loaded.forget_file());
        Ok(Deployed { release, models: loaded, measured, loads, sample })
    }

    /// A body that could never be held would be refused for ever, as if it were for now.
    fn check_limits(&self, limits: &FunctionLimits) -> Result<()> {
        if limits.body_bytes_max > self.body_bytes_max {
            bail!(
                "its body_bytes_max is {} bytes, but the host holds {} at most (buffered_bytes_max): lower one or raise the other",
                limits.body_bytes_max,
                self.body_bytes_max
            );
        }
        Ok(())
    }

    fn load_model(&self, model: &ModelSpec, spec: &FunctionSpec, place: &Place) -> Result<Arc<LoadedModel>> {
        let defaults = self.model_options.clone();
        let options = ModelOptions {
            threads: model.threads.unwrap_or(defaults.threads),
            contexts_min: model.min,
            queue_max: model.queue_max,
            batching: model.batching,
            batch_max: model.batch_max,
            axis_max: model.axis_max,
            axes: model.axes.clone(),
            providers: model.providers.clone(),
            fallback: model.fallback,
            optimization: model.optimization,
            owner: place.tenant.to_string(),
            ..defaults
        };
        let wish = ModelWish {
            name: &model.name,
            file: &model.file,
            keep_in: place.keep_in.as_deref(),
            sample: spec.sample.as_ref().map(digest),
            options,
            share: Arc::clone(&place.account) as _,
        };
        LoadedModel::of(wish, &place.beside, &self.engine)
    }

    fn load_plugins(&self, spec: &FunctionSpec, models: &[Arc<dyn Model>], place: &Place) -> Result<Loaded> {
        let mut loads = Vec::new();
        let mut load = |file: &FileContent| -> Result<Arc<dyn Plugin>> {
            let plugin = self.load_plugin(spec, file, models, place)?;
            loads.push((file.path.clone(), plugin.loaded().clone()));
            Ok(Arc::new(plugin))
        };
        let plugins = match &spec.plugins {
            PluginFiles::One(file) => {
                let plugin = load(file)?;
                let pre = plugin.preprocesses().then(|| Arc::clone(&plugin));
                let post = plugin.postprocesses().then(|| Arc::clone(&plugin));
                let handler = plugin.handles().then_some(plugin);
                Plugins { pre, post, handler }
            }
            PluginFiles::Handler(file) => {
                let handler = load(file)?;
                if !handler.handles() {
                    bail!("{}: the component does not export `handler`, which [models] are for", file.name);
                }
                Plugins { handler: Some(handler), ..Plugins::default() }
            }
            PluginFiles::Sides { preprocess, postprocess } => {
                let pre = preprocess.as_ref().map(&mut load).transpose()?;
                let post = postprocess.as_ref().map(&mut load).transpose()?;
                require(pre.as_deref().is_none_or(Plugin::preprocesses), preprocess.as_ref(), "preprocess")?;
                require(post.as_deref().is_none_or(Plugin::postprocesses), postprocess.as_ref(), "postprocess")?;
                Plugins { pre, post, handler: None }
            }
        };
        Ok(Loaded { plugins, loads })
    }

    fn load_plugin(
        &self,
        spec: &FunctionSpec,
        file: &FileContent,
        models: &[Arc<dyn Model>],
        place: &Place,
    ) -> Result<WasmPlugin> {
        let options = PluginOptions {
            name: spec.name.to_string(),
            owner: place.tenant.to_string(),
            journal: Some(Arc::clone(&place.journal)),
            config: spec.config.clone(),
            assets: spec.assets.clone(),
            models: models.to_vec(),
            share: Some(Arc::clone(&place.account) as _),
            limits: spec.limits.plugin,
            grants: spec.grants.clone(),
            instances: spec.instances,
        };
        let component = file.read().map_err(|error| anyhow!(error))?;
        self.sandbox.load(&component, options).with_context(|| file.name.clone())
    }

    fn rehearse(&self, release: &Arc<Release>, sample: &Sample, known: bool) -> Result<SampleAnswer> {
        let start = std::time::Instant::now();
        let name = sample.file.as_deref().and_then(Path::file_name).map_or("without a body".into(), OsStr::to_string_lossy);
        // As a task of the runtime's, which ends with it: here, it would go on while the runtime goes away.
        let mut task = self.runtime.spawn(Arc::clone(release).rehearse(sample.request.clone()));
        let time = if known { KNOWN_SAMPLE_TIME } else { Duration::MAX };
        let ended = self.runtime.block_on(async { timeout(time, &mut task).await });
        let Ok(ended) = ended else {
            task.abort();
            let message =
                format!("the sample request ({name}), which was answered when it was deployed, takes more than {time:?}");
            return Err(SampleFailed(Fault::new(Code::DeadlineExceeded, message).blaming(Blame::Host)).into());
        };
        let outcome = ended.context("the sample request was cut off")?;
        let reply = outcome.result.map_err(SampleFailed).with_context(|| format!("the sample request ({name}) fails"))?;
        if reply.status.is_client_error() || reply.status.is_server_error() {
            let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(500)]).into_owned();
            bail!("the sample request ({name}) is answered with {}: {body}", reply.status);
        }
        Ok(SampleAnswer { status: reply.status.as_u16(), bytes: reply.body.len(), took: start.elapsed() })
    }
}

fn digest(sample: &Sample) -> Digest {
    let Request { head: RequestHead { method, path_rest, query, headers }, body } = &sample.request;
    let head = format!("{method} {path_rest:?} {query:?} {headers:?}");
    Digest::of(&[head.as_bytes(), body].concat())
}

/// Likewise what could never run, or never be held, within what its tenant has.
fn check_tenant_limits(limits: &FunctionLimits, tenant: &TenantLimits) -> Result<()> {
    let (memory, body) = (limits.plugin.memory_bytes_max, limits.body_bytes_max);
    if body > tenant.buffered_bytes_max {
        bail!("its body_bytes_max is {body} bytes, but its tenant has {} in all (buffered_bytes_max)", tenant.buffered_bytes_max);
    }
    if memory > tenant.guest_memory_bytes_max {
        let max = tenant.guest_memory_bytes_max;
        bail!("its plugin_memory_bytes_max is {memory} bytes, but its tenant has {max} in all (guest_memory_bytes_max)");
    }
    Ok(())
}

fn measured(model: &OnnxModel, kept: bool) -> Measured {
    Measured {
        name: model.info().name.clone(),
        kept,
        times: model.load_times(),
        placement: model.placement().clone(),
        profile: model.measure().clone(),
    }
}

fn require(exported: bool, file: Option<&FileContent>, side: &str) -> Result<()> {
    match file {
        Some(file) if !exported => {
            bail!("{}: the component does not export `{side}`, but [{side}] names it", file.name)
        }
        _ => Ok(()),
    }
}
