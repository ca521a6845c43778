//! From a function's folder to a release that may be served: its model loaded and warm, its plugins compiled, its sample
//! request answered. Blocking: `serve` and `check` run it on a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sandmill_catalog::{FileContent, FunctionSpec, ModelSpec, Plugins as PluginFiles, Sample};
use sandmill_domain::ports::{Model, Plugin};
use sandmill_domain::{FunctionLimits, ModelInfo, ReleaseNumber, TenantId};
use sandmill_engine::{Engine, LoadTimes, ModelOptions, ModelSource, OnnxModel};
use sandmill_pipeline::{Plugins, Release, ReleaseParts};
use sandmill_sandbox::{PluginOptions, Sandbox, WasmPlugin};
use tokio::runtime::Handle;

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

/// A release, and what was seen while it was made.
pub(crate) struct Deployed {
    pub(crate) release: Release,
    /// None without a model.
    pub(crate) times: Option<LoadTimes>,
    /// How the sample was answered, if there is one.
    pub(crate) sample: Option<SampleAnswer>,
}

/// How a function answered its sample request.
pub(crate) struct SampleAnswer {
    pub(crate) status: u16,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

impl Deployer {
    /// Makes a function's release. Every error names the function's folder and the file at fault.
    pub(crate) fn deploy(&self, spec: &FunctionSpec) -> Result<Deployed> {
        self.make(spec).with_context(|| format!("function `{}` ({})", spec.name, spec.folder.display()))
    }

    fn make(&self, spec: &FunctionSpec) -> Result<Deployed> {
        self.check_limits(&spec.limits)?;
        let model = spec.model.as_ref().map(|model| self.load_model(model)).transpose()?;
        let times = model.as_ref().map(OnnxModel::load_times);
        let info = model.as_ref().map(|model| Arc::clone(model.info()));
        let plugins = self.load_plugins(spec, info.as_ref())?;
        if model.is_none() && plugins.pre.is_none() {
            bail!("it has no model, and its plugin does not export `preprocess`: nothing could answer a request");
        }
        let release = Release::new(ReleaseParts {
            tenant: TenantId::local(),
            function: spec.name.clone(),
            number: ReleaseNumber::FIRST,
            methods: spec.methods.clone(),
            limits: spec.limits.clone(),
            model: model.map(|model| Arc::new(model) as Arc<dyn Model>),
            plugins,
        });
        let sample = spec.sample.as_ref().map(|sample| self.rehearse(&release, sample)).transpose()?;
        Ok(Deployed { release, times, sample })
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

    fn load_model(&self, model: &ModelSpec) -> Result<OnnxModel> {
        let source = ModelSource { name: "model".to_owned(), bytes: model.file.bytes.clone() };
        let defaults = self.model_options.clone();
        let options = ModelOptions {
            threads: model.threads.unwrap_or(defaults.threads),
            queue_max: model.queue_max,
            batch_max: model.batch_max,
            axis_max: model.axis_max,
            axes: model.axes.clone(),
            ..defaults
        };
        self.engine.load(source, &options).with_context(|| model.file.path.display().to_string())
    }

    fn load_plugins(&self, spec: &FunctionSpec, info: Option<&Arc<ModelInfo>>) -> Result<Plugins> {
        let load = |file: &FileContent| self.load_plugin(spec, file, info);
        match &spec.plugins {
            PluginFiles::One(file) => {
                let plugin = load(file)?;
                let pre = plugin.preprocesses().then(|| Arc::clone(&plugin));
                let post = plugin.postprocesses().then_some(plugin);
                Ok(Plugins { pre, post })
            }
            PluginFiles::Sides { preprocess, postprocess } => {
                let pre = preprocess.as_ref().map(load).transpose()?;
                let post = postprocess.as_ref().map(load).transpose()?;
                require(pre.as_deref().is_none_or(Plugin::preprocesses), preprocess.as_ref(), "preprocess")?;
                require(post.as_deref().is_none_or(Plugin::postprocesses), postprocess.as_ref(), "postprocess")?;
                Ok(Plugins { pre, post })
            }
        }
    }

    fn load_plugin(&self, spec: &FunctionSpec, file: &FileContent, info: Option<&Arc<ModelInfo>>) -> Result<Arc<dyn Plugin>> {
        let FunctionLimits { plugin_time, plugin_memory_bytes_max, plugin_output_bytes_max, .. } = spec.limits;
        let options = PluginOptions {
            name: spec.name.to_string(),
            config: spec.config.clone(),
            model: info.cloned(),
            plugin_time,
            memory_bytes_max: plugin_memory_bytes_max,
            output_bytes_max: plugin_output_bytes_max,
        };
        let plugin: WasmPlugin = self.sandbox.load(&file.bytes, options).with_context(|| file.path.display().to_string())?;
        Ok(Arc::new(plugin))
    }

    fn rehearse(&self, release: &Release, sample: &Sample) -> Result<SampleAnswer> {
        let start = std::time::Instant::now();
        let name = sample.file.as_deref().unwrap_or(Path::new("without a body")).display().to_string();
        let outcome = self.runtime.block_on(release.rehearse(sample.request.clone()));
        let reply = outcome
            .result
            .map_err(|fault| anyhow!("{}", fault.report()))
            .with_context(|| format!("the sample request ({name}) fails"))?;
        if reply.status.is_client_error() || reply.status.is_server_error() {
            let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(500)]).into_owned();
            bail!("the sample request ({name}) is answered with {}: {body}", reply.status);
        }
        Ok(SampleAnswer { status: reply.status.as_u16(), bytes: reply.body.len(), took: start.elapsed() })
    }
}

fn require(exported: bool, file: Option<&FileContent>, side: &str) -> Result<()> {
    match file {
        Some(file) if !exported => {
            bail!("{}: the component does not export `{side}`, but [{side}] names it", file.path.display())
        }
        _ => Ok(()),
    }
}
