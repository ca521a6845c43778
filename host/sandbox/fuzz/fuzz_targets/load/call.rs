//! A small sandbox, and all that a host does with one plugin: load it, open instances, call what it exports, with every promise
//! checked that its answers are bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use sandmill_domain::ports::{BoxFuture, Guest, Inference, Model, Plugin, Prepared};
use sandmill_domain::{
    Asset, Axis, Buffer, Code, Deadline, Dtype, Fault, FunctionLimits, Grants, InstanceBudget, InstancePolicy, Lender, ModelInfo,
    PluginLimits, Reply, Request, RequestHead, Setting, Signature, Tensor, TensorSpec, Urgency,
};
use sandmill_sandbox::{LoadError, PluginOptions, Refusal, Sandbox, SandboxOptions, WasmPlugin};
use tokio::runtime::Runtime;

use crate::stats;

const BODY: &[u8] = b"a body of some bytes";
const TIMEOUT: Duration = Duration::from_millis(60);
/// A call that takes longer has held up its thread: twice the timeout, and what a busy machine may add.
const LATE: Duration = Duration::from_secs(2);

pub(crate) struct Host {
    sandbox: Sandbox,
    runtime: Runtime,
}

impl Host {
    pub(crate) fn start() -> Self {
        let mut options = SandboxOptions { instances_max: 2, ..SandboxOptions::default() };
        options.limits.memory_bytes_max = limits().memory_bytes_max;
        options.compiling.component_bytes_max = 1 << 20;
        let sandbox = Sandbox::start(options).expect("the sandbox starts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { sandbox, runtime }
    }

    /// Whether it is a component that can be compiled.
    pub(crate) fn load_and_call(&self, bytes: &[u8]) -> bool {
        stats::count(|| "runs".into());
        // An input is its bytes alone: their sum decides under which policy and with which grants they are tried.
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let options = options(sum & 1 != 0, sum & 2 != 0);
        match self.sandbox.load(bytes, options) {
            Ok(plugin) => {
                stats::count(|| format!("loaded: {}", first_word(&plugin.loaded().made.snapshot)));
                self.runtime.block_on(call(&plugin));
                true
            }
            Err(error) => {
                assert!(
                    !matches!(error, LoadError::Compiler(_) | LoadError::Limits { .. } | LoadError::Grants { .. }),
                    "{error}"
                );
                let refusal = if let LoadError::Refused(refusal) = &error { first_word(refusal) } else { first_word(&error) };
                stats::count(|| format!("refused: {refusal}"));
                !matches!(error, LoadError::Refused(Refusal::Invalid(_)) | LoadError::NotWasm | LoadError::CoreModule)
            }
        }
    }
}

/// Two rounds, the second of which finds an instance of the first if they are kept.
async fn call(plugin: &WasmPlugin) {
    for _ in 0..2 {
        let start = Instant::now();
        let result = request_through(plugin).await;
        stats::count(|| format!("called: {}", result.as_ref().err().map_or("well".into(), |fault| format!("{:?}", fault.code))));
        if let Err(fault) = &result {
            assert!(fault.code != Code::Internal && fault.code != Code::Overloaded, "the host failed: {}", fault.report());
        }
        assert!(start.elapsed() < LATE, "the calls took {:?}", start.elapsed());
    }
}

async fn request_through(plugin: &WasmPlugin) -> Result<(), Fault> {
    let mut guest = plugin.open(Deadline::after(Instant::now(), TIMEOUT).into()).await?;
    if plugin.handles() {
        check_reply(&guest.handle(request()).await?);
    }
    let mut outputs = vec![tensor("y", BODY)];
    if plugin.preprocesses() {
        match guest.preprocess(request()).await? {
            Prepared::Reply(reply) => check_reply(&reply),
            Prepared::Tensors(tensors) => {
                check_tensors(&tensors);
                outputs.extend(tensors);
            }
        }
    }
    // Whatever it answered: a host that asks in the wrong order is not the guest's to break.
    if plugin.postprocesses() {
        check_reply(&guest.postprocess(&request().head, outputs).await?);
    }
    check_usage(&*guest);
    Ok(())
}

fn check_reply(reply: &Reply) {
    assert!((200..600).contains(&reply.status.as_u16()), "{}", reply.status);
    assert!(reply.body.len() <= limits().output_bytes_max);
    let headers: usize = reply.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(headers <= limits().header_bytes_max);
}

fn check_tensors(tensors: &[Tensor]) {
    assert!(tensors.len() <= limits().tensors_max);
    assert!(tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>() <= limits().output_bytes_max);
    for tensor in tensors {
        assert!(tensor.data.len() <= limits().tensor_bytes_max);
        assert!(tensor.shape.iter().all(|axis| *axis >= 0));
    }
}

fn check_usage(guest: &dyn Guest) {
    assert!(guest.usage().memory_bytes <= limits().memory_bytes_max, "{:?}", guest.usage());
}

/// Small, so that one input is quickly done with.
fn limits() -> PluginLimits {
    PluginLimits {
        time: Duration::from_millis(10),
        memory_bytes_max: 8 << 20,
        table_elements_max: 10_000,
        tensors_max: 16,
        tensor_bytes_max: 256 << 10,
        output_bytes_max: 512 << 10,
        header_bytes_max: 4 << 10,
        log_lines_max: 50,
        log_bytes_max: 4 << 10,
        host_calls_max: 1000,
        init_time: Duration::from_millis(20),
        snapshot_bytes_max: 2 << 20,
    }
}

fn options(reuse: bool, granted: bool) -> PluginOptions {
    let mut options = PluginOptions::new("fuzzed", &FunctionLimits { plugin: limits(), ..FunctionLimits::default() });
    options.config = vec![
        Setting { key: "mode".into(), value: "fast".into(), secret: false },
        Setting { key: "token".into(), value: "secret".into(), secret: true },
    ];
    options.assets = vec![Asset { name: "labels.txt".into(), data: (&b"cats\ndogs"[..]).into() }];
    options.models = vec![Arc::new(Echo::new())];
    if reuse {
        options.instances =
            InstancePolicy::Reuse(InstanceBudget { requests_max: 3, age_max: Duration::from_secs(60), jitter_percent: 0 });
    }
    // No requests to other hosts: what a stranger's code would send must not leave this machine.
    if granted {
        options.grants = Grants {
            wall_clock: true,
            monotonic_clock: true,
            randomness: true,
            environment: vec![("LANG".into(), "C".into())],
            asset_files: true,
            http: Vec::new(),
        };
    }
    options
}

fn request() -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("x-other", HeaderValue::from_bytes(b"\xff").expect("any byte but control characters"));
    let head = RequestHead { method: Method::POST, path_rest: "/rest%20of".into(), query: Some("a=1&b".into()), headers };
    Request { head, body: Bytes::from_static(BODY) }
}

fn tensor(name: &str, data: &'static [u8]) -> Tensor {
    let size = i64::try_from(data.len()).expect("small");
    Tensor { name: name.into(), dtype: Dtype::Uint8, shape: vec![size], data: Bytes::from_static(data) }
}

/// A model that gives back what it gets.
struct Echo(Arc<ModelInfo>);

impl Echo {
    fn new() -> Self {
        let input =
            TensorSpec { name: "x".into(), dtype: Dtype::Uint8, shape: vec![Axis::Dynamic { symbol: None, max: 1 << 30 }] };
        let signature = Signature { inputs: vec![input], outputs: vec![] };
        Self(Arc::new(ModelInfo { name: "echo".into(), signature, metadata: vec![] }))
    }
}

impl Lender for Echo {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        assert!(capacity <= limits().output_bytes_max, "a guest made the host lend {capacity} bytes");
        Ok(Buffer::new(vec![0; capacity.div_ceil(8)], capacity, None))
    }
}

impl Model for Echo {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.0
    }

    fn lender(&self) -> &dyn Lender {
        self
    }

    fn infer(&self, inputs: Vec<Tensor>, _urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        self.0.signature.check_inputs(&inputs).expect("the sandbox checks what it runs a model on");
        Box::pin(async { Ok(Inference { outputs: inputs, queued: Duration::ZERO, ran: Duration::ZERO, batch: None }) })
    }
}

/// The name of an enum's variant.
fn first_word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}
