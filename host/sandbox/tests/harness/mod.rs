//! A small sandbox and short ways to call a plugin in it. Knows nothing of how guests are made.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use sandmill_domain::ports::{BoxFuture, Home, Inference, Model, Plugin, Prepared};
use sandmill_domain::{
    Axis, Buffer, Code, Deadline, Dtype, Fault, FunctionLimits, Lender, ModelInfo, Reply, Request, RequestHead, Setting,
    Signature, Tensor, TensorSpec, Urgency,
};
use sandmill_sandbox::{LoadError, PluginOptions, Sandbox, SandboxOptions, WasmPlugin};
use sandmill_worker::Program;

/// Places in the pool.
pub(crate) const INSTANCES: u32 = 4;
/// The host's bound on a plugin's memory.
pub(crate) const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Set in the environment of a child that is to be the quarantine.
pub(crate) const QUARANTINE: &str = "SANDMILL_TEST_QUARANTINE";

/// Longer than any test: for guests that must end for another reason.
const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Harness(pub(crate) Sandbox);

impl Harness {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut SandboxOptions)) -> Self {
        let mut options = SandboxOptions { instances_max: INSTANCES, ..SandboxOptions::default() };
        options.limits.memory_bytes_max = MEMORY_BYTES_MAX;
        options.compiling.program = quarantine();
        // A sanitizer maps terabytes for itself: `make asan`.
        if std::env::var_os("SANDMILL_TEST_ASAN").is_some() {
            options.compiling.quarantine.memory_bytes_max = 1 << 50;
        }
        change(&mut options);
        Self(Sandbox::start(options).expect("the sandbox starts"))
    }

    pub(crate) fn load(&self, component: &[u8]) -> WasmPlugin {
        self.load_with(component, |_| {})
    }

    pub(crate) fn load_with(&self, component: &[u8], change: impl FnOnce(&mut PluginOptions)) -> WasmPlugin {
        let mut options = options();
        change(&mut options);
        self.0.load(component, options).expect("the plugin loads")
    }

    pub(crate) fn refusal(&self, component: &[u8]) -> LoadError {
        self.0.load(component, options()).expect_err("the plugin is refused")
    }

    /// What `preprocess` answers at once.
    pub(crate) async fn answer(&self, plugin: &WasmPlugin, body: &[u8]) -> Reply {
        match call(plugin, body, soon()).await.expect("the plugin answers") {
            Prepared::Reply(reply) => reply,
            Prepared::Tensors(_) => panic!("the plugin gave tensors"),
        }
    }

    /// How `open` or `preprocess` fails.
    pub(crate) async fn fault(&self, plugin: &WasmPlugin, body: &[u8]) -> Fault {
        call(plugin, body, soon()).await.expect_err("the plugin fails")
    }
}

pub(crate) fn options() -> PluginOptions {
    let mut limits = FunctionLimits::default();
    limits.plugin.time = LONG;
    limits.plugin.memory_bytes_max = 16 << 20;
    PluginOptions::new("tested", &limits)
}

/// This test binary itself: [`crate::quarantine`] is where it comes out.
pub(crate) fn quarantine() -> Program {
    let mut program = Program::this(["--exact", "quarantine", "--nocapture"]);
    program.env.push((QUARANTINE.into(), "1".into()));
    program
}

pub(crate) async fn call(plugin: &WasmPlugin, body: &[u8], urgency: impl Into<Urgency>) -> Result<Prepared, Fault> {
    plugin.open(urgency.into()).await?.preprocess(request(body)).await
}

pub(crate) fn soon() -> Urgency {
    Deadline::after(Instant::now(), LONG).into()
}

pub(crate) fn request(body: &[u8]) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("x-other", HeaderValue::from_bytes(b"\xff").expect("any byte but control characters"));
    let head = RequestHead { method: Method::POST, path_rest: "/rest%20of".into(), query: Some("a=1&b".into()), headers };
    Request { head, body: Bytes::copy_from_slice(body) }
}

pub(crate) fn output(data: &[u8]) -> Tensor {
    let size = i64::try_from(data.len()).expect("small");
    Tensor { name: "y".into(), dtype: Dtype::Uint8, shape: vec![size], data: Bytes::copy_from_slice(data) }
}

pub(crate) fn body_of(reply: &Reply) -> Vec<u8> {
    reply.body.to_vec()
}

pub(crate) fn setting(key: &str, value: &str) -> Setting {
    Setting { key: key.into(), value: value.into(), secret: false }
}

/// What a model does with its inputs.
type Work = dyn Fn(Vec<Tensor>) -> BoxFuture<'static, Result<Vec<Tensor>, Fault>> + Send + Sync;

/// A model that takes any number of bytes as `input`, and lends memory that it spoils when it comes back.
pub(crate) struct TestModel {
    info: Arc<ModelInfo>,
    shelf: Arc<Shelf>,
    /// With which urgency it was asked, run by run.
    pub(crate) asked: Mutex<Vec<Urgency>>,
    work: Box<Work>,
}

/// Takes memory back and spoils it, so that whoever still looks at it sees that.
#[derive(Default)]
pub(crate) struct Shelf {
    returned: Mutex<Vec<Vec<u64>>>,
}

impl Home for Shelf {
    fn take_back(&self, mut words: Vec<u64>) {
        words.fill(u64::MAX);
        self.returned.lock().expect("no panic under the lock").push(words);
    }
}

impl TestModel {
    pub(crate) fn new(
        name: &str,
        input: &str,
        work: impl Fn(Vec<Tensor>) -> BoxFuture<'static, Result<Vec<Tensor>, Fault>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let shape = vec![Axis::Dynamic { symbol: None, max: 1 << 30 }];
        let input = TensorSpec { name: input.into(), dtype: Dtype::Uint8, shape };
        let signature = Signature { inputs: vec![input], outputs: vec![] };
        let info = ModelInfo { name: name.into(), signature, metadata: vec![] };
        Arc::new(Self { info: Arc::new(info), shelf: Arc::default(), asked: Mutex::default(), work: Box::new(work) })
    }

    /// Buffers that have come back.
    pub(crate) fn returned(&self) -> usize {
        self.shelf.returned.lock().expect("no panic under the lock").len()
    }
}

impl Lender for TestModel {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        let home = Arc::clone(&self.shelf) as Arc<dyn Home>;
        Ok(Buffer::new(vec![0; capacity.div_ceil(8)], capacity, Some(home)))
    }
}

impl Model for TestModel {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    fn lender(&self) -> &dyn Lender {
        self
    }

    fn infer(&self, inputs: Vec<Tensor>, urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        self.asked.lock().expect("no panic under the lock").push(urgency);
        let work = (self.work)(inputs);
        Box::pin(async move {
            let late = || Fault::new(Code::DeadlineExceeded, "the model did not answer in time");
            let outputs = tokio::time::timeout_at(urgency.deadline.instant().into(), work).await.map_err(|_| late())??;
            Ok(Inference { outputs, queued: Duration::from_millis(1), ran: Duration::from_millis(2), batch: None })
        })
    }
}

/// What is logged on this thread while `future` runs, one line for each event.
pub(crate) async fn logged<T>(future: impl Future<Output = T>) -> String {
    let lines = Shared::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_max_level(tracing::Level::INFO);
    let guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    future.await;
    drop(guard);
    let bytes = lines.0.lock().expect("no panic under the lock").clone();
    String::from_utf8(bytes).expect("logs are text")
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic under the lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
