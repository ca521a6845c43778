//! The sandbox and the plugins that are measured, and the model that a handler runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use sandmill_domain::ports::{BoxFuture, Inference, Model};
use sandmill_domain::{
    Asset, Axis, Buffer, Deadline, Dtype, Fault, FunctionLimits, Lender, ModelInfo, Request, RequestHead, Signature, Tensor,
    TensorSpec, Urgency,
};
use sandmill_sandbox::{CacheOptions, PluginOptions, Sandbox, SandboxOptions, WasmPlugin};

/// A sandbox over a cache of its own.
pub(crate) fn sandbox(folder: &Path, change: impl FnOnce(&mut SandboxOptions)) -> Result<Sandbox> {
    let cache = CacheOptions { folder: folder.join("cache"), key: folder.join("key"), bytes_max: 64 << 30 };
    let mut options = SandboxOptions { cache: Some(cache), ..SandboxOptions::default() };
    options.compiling.children_max = 2;
    change(&mut options);
    Sandbox::start(options).context("the sandbox")
}

pub(crate) fn component(root: &Path, path: &str) -> Result<Vec<u8>> {
    let file: PathBuf = root.join(path);
    std::fs::read(&file).with_context(|| format!("{} is missing: `make plugins` builds it", file.display()))
}

pub(crate) fn load(sandbox: &Sandbox, component: &[u8], change: impl FnOnce(&mut PluginOptions)) -> Result<WasmPlugin> {
    let mut options = PluginOptions::new("bench", &FunctionLimits::default());
    options.models = vec![Arc::new(Echo::new(Duration::ZERO))];
    change(&mut options);
    sandbox.load(component, options).context("a plugin")
}

/// A request as browsers and clients send them: a few headers, a body.
pub(crate) fn request(body: &Bytes) -> Request {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "127.0.0.1:8080"), ("content-type", "application/octet-stream"), ("accept", "*/*")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let head = RequestHead { method: Method::POST, path_rest: String::new(), query: None, headers };
    Request { head, body: body.clone() }
}

pub(crate) fn soon() -> Urgency {
    Deadline::after(Instant::now(), Duration::from_secs(60)).into()
}

pub(crate) fn asset(root: &Path, path: &str) -> Result<Asset> {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let data = std::fs::read(root.join(path)).with_context(|| format!("{path} is missing: `make setup` fetches it"))?;
    Ok(Asset { name, data: data.into() })
}

/// A model that gives one small tensor after a time.
pub(crate) struct Echo {
    info: Arc<ModelInfo>,
    takes: Duration,
}

impl Echo {
    pub(crate) fn new(takes: Duration) -> Self {
        let shape = vec![Axis::Dynamic { symbol: None, max: 1 << 30 }];
        let input = TensorSpec { name: "x".into(), dtype: Dtype::Uint8, shape };
        let signature = Signature { inputs: vec![input], outputs: vec![] };
        Self { info: Arc::new(ModelInfo { name: "model".into(), signature, metadata: vec![] }), takes }
    }
}

impl Lender for Echo {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        Ok(Buffer::new(vec![0; capacity.div_ceil(8)], capacity, None))
    }
}

impl Model for Echo {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    fn lender(&self) -> &dyn Lender {
        self
    }

    fn infer(&self, _inputs: Vec<Tensor>, _urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        Box::pin(async move {
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
            let small = Tensor { name: "y".into(), dtype: Dtype::Uint8, shape: vec![4], data: Bytes::from_static(b"echo") };
            Ok(Inference { outputs: vec![small], queued: Duration::ZERO, ran: self.takes, batch: None })
        })
    }
}
