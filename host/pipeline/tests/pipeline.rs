//! The order of a request's life, seen through the ports: each test's model and plugin are small but real implementations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use sandmill_domain::ports::{BoxFuture, Form, Guest, Inference, Model, Outcome, Plugin, PluginUsage, Prepared, Service, Target};
use sandmill_domain::{
    Axis, Blame, Buffer, Code, Dtype, Fault, FunctionLimits, FunctionName, Lender, ModelInfo, ReleaseNumber, Reply, Request,
    RequestHead, Signature, TenantId, TenantLimits, Tensor, TensorSpec, Urgency,
};
use sandmill_pipeline::{Account, Pipeline, Plugins, Release, ReleaseParts, Served, Turns};

/// Gives its input back as its output, and counts its runs.
struct Echo {
    info: Arc<ModelInfo>,
    runs: AtomicUsize,
}

impl Echo {
    fn new() -> Arc<Self> {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            dtype: Dtype::Uint8,
            shape: vec![Axis::Dynamic { symbol: None, max: 8 }],
        };
        let signature = Signature { inputs: vec![spec("in")], outputs: vec![spec("out")] };
        let info = Arc::new(ModelInfo { name: "echo".to_owned(), signature, metadata: vec![] });
        Arc::new(Self { info, runs: AtomicUsize::new(0) })
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

    fn infer(&self, mut inputs: Vec<Tensor>, _urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        "out".clone_into(&mut inputs[0].name);
        if inputs[0].data == "wait" {
            return Box::pin(std::future::pending());
        }
        Box::pin(async { Ok(Inference { outputs: inputs, queued: Duration::ZERO, ran: Duration::from_millis(1), batch: None }) })
    }
}

/// Feeds the body to the model and answers with the outputs' bytes, then the number of calls that its instance has seen.
struct Through {
    pre: bool,
    post: bool,
    /// The name that it gives its tensor.
    tensor: &'static str,
    /// Answers at once instead.
    at_once: bool,
    opened: AtomicUsize,
}

impl Through {
    fn new() -> Self {
        Self { pre: true, post: true, tensor: "in", at_once: false, opened: AtomicUsize::new(0) }
    }
}

impl Plugin for Through {
    fn preprocesses(&self) -> bool {
        self.pre
    }

    fn postprocesses(&self) -> bool {
        self.post
    }

    fn handles(&self) -> bool {
        false
    }

    fn open(&self, _urgency: Urgency) -> BoxFuture<'_, Result<Box<dyn Guest>, Fault>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let guest = ThroughGuest { tensor: self.tensor, at_once: self.at_once, calls: 0 };
        Box::pin(async { Ok(Box::new(guest) as Box<dyn Guest>) })
    }
}

struct ThroughGuest {
    tensor: &'static str,
    at_once: bool,
    calls: u8,
}

const TICK: Duration = Duration::from_micros(1);

fn reply(body: impl Into<Bytes>) -> Reply {
    Reply { status: StatusCode::OK, headers: vec![], body: body.into() }
}

impl Guest for ThroughGuest {
    fn preprocess(&mut self, request: Request) -> BoxFuture<'_, Result<Prepared, Fault>> {
        self.calls += 1;
        let shape = vec![i64::try_from(request.body.len()).expect("short")];
        let tensor = Tensor { name: self.tensor.to_owned(), dtype: Dtype::Uint8, shape, data: request.body };
        let prepared = if self.at_once { Prepared::Reply(reply("at once")) } else { Prepared::Tensors(vec![tensor]) };
        Box::pin(async { Ok(prepared) })
    }

    fn postprocess<'a>(&'a mut self, head: &'a RequestHead, outputs: Vec<Tensor>) -> BoxFuture<'a, Result<Reply, Fault>> {
        self.calls += 1;
        let body = [&outputs[0].data[..], head.path_rest.as_bytes(), &[self.calls]].concat();
        Box::pin(async { Ok(reply(body)) })
    }

    fn handle(&mut self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
        self.calls += 1;
        Box::pin(async { Ok(reply(request.body)) })
    }

    fn usage(&self) -> PluginUsage {
        let calls = u32::from(self.calls);
        PluginUsage { running: Duration::from_millis(1) * calls, inferences: calls, queued: TICK, ..PluginUsage::default() }
    }
}

fn target(form: Form) -> Target {
    let function = FunctionName::new("echo").expect("a name");
    Target { tenant: TenantId::local(), function, release: None, form }
}

fn pipeline(model: Option<Arc<Echo>>, plugins: Plugins) -> Pipeline {
    let plenty = TenantLimits::UNLIMITED;
    pipeline_of(model, plugins, &Account::new(plenty))
}

fn pipeline_of(model: Option<Arc<Echo>>, plugins: Plugins, account: &Arc<Account>) -> Pipeline {
    let pipeline = Pipeline::default();
    pipeline.publish(Served::new(release(1, model, plugins, account)));
    pipeline.set_ready(true);
    pipeline
}

fn number(number: u64) -> ReleaseNumber {
    ReleaseNumber(number.try_into().expect("not zero"))
}

fn release(version: u64, model: Option<Arc<Echo>>, plugins: Plugins, account: &Arc<Account>) -> Arc<Release> {
    Arc::new(Release::new(ReleaseParts {
        journal: None,
        account: Arc::clone(account),
        tenant: TenantId::local(),
        function: target(Form::Function).function,
        number: number(version),
        methods: vec![Method::POST],
        limits: FunctionLimits { concurrency_max: 2, ..FunctionLimits::default() },
        models: model.iter().map(|model| Arc::clone(model) as Arc<dyn Model>).collect(),
        model: model.map(|model| model as Arc<dyn Model>),
        plugins,
    }))
}

fn request(body: &'static [u8]) -> Request {
    let head = RequestHead { method: Method::POST, path_rest: "/p".to_owned(), query: None, headers: HeaderMap::new() };
    Request { head, body: Bytes::from_static(body) }
}

async fn call(pipeline: &Pipeline, form: Form, body: &'static [u8]) -> Outcome {
    pipeline.admit(&target(form), &Method::POST, &HeaderMap::new()).expect("admitted").call(request(body)).await
}

fn refusal(pipeline: &Pipeline, target: &Target, method: &Method) -> Fault {
    pipeline.admit(target, method, &HeaderMap::new()).map(|_ticket| ()).expect_err("a refusal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_component_on_both_sides_is_one_instance() {
    let plugin = Arc::new(Through::new());
    let side = || Some(Arc::clone(&plugin) as Arc<dyn Plugin>);
    let pipeline = pipeline(Some(Echo::new()), Plugins { pre: side(), post: side(), handler: None });
    let outcome = call(&pipeline, Form::Function, b"abc").await;
    assert_eq!(outcome.result.expect("a reply").body, &b"abc/p\x02"[..]);
    assert_eq!(plugin.opened.load(Ordering::Relaxed), 1);
    assert_eq!(outcome.stages.inference, Some(Duration::from_millis(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_components_are_two_instances() {
    let side = || Some(Arc::new(Through::new()) as Arc<dyn Plugin>);
    let pipeline = pipeline(Some(Echo::new()), Plugins { pre: side(), post: side(), handler: None });
    let outcome = call(&pipeline, Form::Function, b"abc").await;
    assert_eq!(outcome.result.expect("a reply").body, &b"abc/p\x01"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_at_once_runs_neither_model_nor_postprocess() {
    let model = Echo::new();
    let plugin: Arc<dyn Plugin> = Arc::new(Through { at_once: true, ..Through::new() });
    let pipeline =
        pipeline(Some(Arc::clone(&model)), Plugins { pre: Some(Arc::clone(&plugin)), post: Some(plugin), handler: None });
    let outcome = call(&pipeline, Form::Function, b"abc").await;
    assert_eq!(outcome.result.expect("a reply").body, "at once");
    assert_eq!(model.runs.load(Ordering::Relaxed), 0);
    assert_eq!((outcome.stages.inference, outcome.stages.postprocess), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tensors_of_a_plugin_that_do_not_fit_are_its_fault() {
    let model = Echo::new();
    let plugin: Arc<dyn Plugin> = Arc::new(Through { tensor: "wrong", ..Through::new() });
    let pipeline = pipeline(Some(Arc::clone(&model)), Plugins { pre: Some(plugin), ..Plugins::default() });
    let fault = call(&pipeline, Form::Function, b"abc").await.result.expect_err("a fault");
    assert_eq!((fault.code, fault.blame), (Code::PluginBadOutput, Blame::Plugin));
    assert!(fault.message.contains("`wrong`") && fault.message.contains("`in`"), "{fault}");
    assert_eq!(model.runs.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_side_speaks_the_protocol() {
    let pre: Arc<dyn Plugin> = Arc::new(Through { post: false, ..Through::new() });
    let outcome =
        call(&pipeline(Some(Echo::new()), Plugins { pre: Some(pre), ..Plugins::default() }), Form::Function, b"\x07").await;
    let body = String::from_utf8(outcome.result.expect("a reply").body.to_vec()).expect("text");
    assert!(body.contains(r#""outputs":[{"name":"out""#) && body.contains("[7]"), "{body}");

    let post: Arc<dyn Plugin> = Arc::new(Through { pre: false, ..Through::new() });
    let body = br#"{"inputs":[{"name":"in","shape":[1],"datatype":"UINT8","data":[65]}]}"#;
    let outcome =
        call(&pipeline(Some(Echo::new()), Plugins { post: Some(post), ..Plugins::default() }), Form::Function, body).await;
    assert_eq!(outcome.result.expect("a reply").body, &b"A/p\x01"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_protocol_passes_the_plugins_by() {
    let plugin = Arc::new(Through::new());
    let side = || Some(Arc::clone(&plugin) as Arc<dyn Plugin>);
    let pipeline = pipeline(Some(Echo::new()), Plugins { pre: side(), post: side(), handler: None });
    let body = br#"{"inputs":[{"name":"in","shape":[1],"datatype":"UINT8","data":[65]}]}"#;
    let outcome = call(&pipeline, Form::OpenInference, body).await;
    assert_eq!(outcome.result.expect("a reply").status, StatusCode::OK);
    assert_eq!(plugin.opened.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_function_without_a_model_is_no_model() {
    let plugin: Arc<dyn Plugin> = Arc::new(Through::new());
    let pipeline = pipeline(None, Plugins { pre: Some(plugin), ..Plugins::default() });
    assert_eq!(refusal(&pipeline, &target(Form::OpenInference), &Method::POST).code, Code::NotFound);
    assert_eq!(pipeline.describe(&target(Form::OpenInference)).expect_err("a refusal").code, Code::NotFound);
    let fault = call(&pipeline, Form::Function, b"abc").await.result.expect_err("a fault");
    assert_eq!(fault.code, Code::PluginBadOutput);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn permits_are_bounded_and_come_back() {
    let pipeline = pipeline(Some(Echo::new()), Plugins::default());
    let admit = || pipeline.admit(&target(Form::Function), &Method::POST, &HeaderMap::new());
    let held = (admit().expect("one"), admit().expect("two"));
    let fault = refusal(&pipeline, &target(Form::Function), &Method::POST);
    assert_eq!(fault.code, Code::TooManyRequests);
    assert!(fault.message.contains("concurrency_max"), "{fault:?}");
    drop(held);
    assert!(admit().is_ok());
}

#[test]
fn what_is_not_there_is_not_found() {
    let pipeline = pipeline(Some(Echo::new()), Plugins::default());
    let elsewhere = Target { function: FunctionName::new("other").expect("a name"), ..target(Form::Function) };
    let stranger = Target { tenant: TenantId::new("stranger").expect("a name"), ..target(Form::Function) };
    let later = Target { release: Some(number(2)), ..target(Form::OpenInference) };
    for target in [elsewhere, stranger, later] {
        assert_eq!(refusal(&pipeline, &target, &Method::POST).code, Code::NotFound, "{target:?}");
    }
    assert_eq!(refusal(&pipeline, &target(Form::Function), &Method::GET).code, Code::MethodNotAllowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_of_two_tenants_take_turns_and_say_how_long_they_waited() {
    let turns = Turns::new(1);
    let handled = || Plugins { handler: Some(Arc::new(Through::new())), ..Plugins::default() };
    let tenants = [1, 3].map(|weight: u32| {
        let account = Account::sharing(TenantLimits::UNLIMITED, weight.try_into().expect("not 0"), &turns);
        pipeline_of(None, handled(), &account)
    });
    let waited = async |tenant: &Pipeline| {
        let outcome = call(tenant, Form::Function, b"abc").await;
        outcome.result.expect("a reply");
        outcome.stages.turns
    };
    assert_eq!(waited(&tenants[0]).await, None, "it is alone");
    assert!(waited(&tenants[1]).await.is_some());
    assert!(waited(&tenants[0]).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn releases_are_swapped_whole_and_kept_ones_answer_by_their_number() {
    let plenty = Account::new(TenantLimits::UNLIMITED);
    let of = |version| release(version, Some(Echo::new()), Plugins::default(), &plenty);
    let (one, two, three) = (of(1), of(2), of(3));
    let pipeline = Pipeline::default();
    pipeline.set_ready(true);
    let asked = |number| Target { release: number, ..target(Form::OpenInference) };
    let admit = |number| pipeline.admit(&asked(number), &Method::POST, &HeaderMap::new());
    assert!(pipeline.publish(Served::new(Arc::clone(&one))).is_none());
    let old = admit(None).expect("the first release answers");
    let before = pipeline.publish(Served::new(Arc::clone(&two)).with(Arc::clone(&one))).expect("it was served before");
    assert!(Arc::ptr_eq(before.current(), &one));
    // What began with it ends with it.
    assert_eq!((old.release(), admit(None).expect("admitted").release()), (number(1), number(2)));
    assert!(old.call(request(b"")).await.result.is_err(), "it is run, on no inputs");
    assert_eq!(admit(Some(number(1))).expect("it is kept").release(), number(1));
    let described = pipeline.describe(&asked(Some(number(1)))).expect("it is kept");
    assert_eq!((described.release, described.releases), (number(1), vec![number(1), number(2)]));
    pipeline.publish(Served::new(Arc::clone(&two)).with(three));
    let fault = refusal(&pipeline, &asked(Some(number(1))), &Method::POST);
    assert_eq!((fault.code, fault.message.as_str()), (Code::NotFound, "function `echo` has no release 1; it serves 2, 3"));
    // Back again.
    pipeline.publish(Served::new(one).with(two));
    assert_eq!(admit(None).expect("admitted").release(), number(1));
    let Target { tenant, function, .. } = asked(None);
    assert_eq!(pipeline.withdraw(&tenant, &function).expect("it was served").releases().count(), 2);
    assert_eq!(refusal(&pipeline, &asked(None), &Method::POST).code, Code::NotFound);
    assert!(pipeline.withdraw(&tenant, &function).is_none());
}

#[test]
fn before_it_is_ready_nothing_is_missing() {
    let pipeline = Pipeline::default();
    assert_eq!(refusal(&pipeline, &target(Form::Function), &Method::POST).code, Code::NotReady);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_plugins_use_is_added_up_once() {
    let plugin: Arc<dyn Plugin> = Arc::new(Through::new());
    let other: Arc<dyn Plugin> = Arc::new(Through::new());
    let running = async |post: &Arc<dyn Plugin>| {
        let plugins = Plugins { pre: Some(Arc::clone(&plugin)), post: Some(Arc::clone(post)), handler: None };
        let outcome = call(&pipeline(Some(Echo::new()), plugins), Form::Function, b"abc").await;
        outcome.stages.plugin.expect("plugins ran").running
    };
    assert_eq!(running(&plugin).await, Duration::from_millis(2));
    assert_eq!(running(&other).await, Duration::from_millis(2));
    let outcome = call(&pipeline(Some(Echo::new()), Plugins::default()), Form::OpenInference, b"x").await;
    assert_eq!(outcome.stages.plugin, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_plugins_ran_for_a_call_that_is_cut_off_is_told() {
    let plugin: Arc<dyn Plugin> = Arc::new(Through::new());
    let plenty = Account::new(TenantLimits::UNLIMITED);
    let plugins = Plugins { pre: Some(Arc::clone(&plugin)), post: Some(plugin), handler: None };
    let release = release(1, Some(Echo::new()), plugins, &plenty);
    let (told, cut_off) = std::sync::mpsc::channel();
    release.watch_cut_off(move |running| told.send(running).expect("it is heard"));
    let pipeline = Pipeline::default();
    pipeline.publish(Served::new(release));
    pipeline.set_ready(true);
    let waiting = call(&pipeline, Form::Function, b"wait");
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err(), "the model never answers");
    assert_eq!(cut_off.try_recv().expect("it was told"), Duration::from_millis(1));
    call(&pipeline, Form::Function, b"abc").await.result.expect("a reply");
    assert!(cut_off.try_recv().is_err(), "the outcome tells of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_handler_answers_by_itself_and_is_no_model() {
    let handler: Arc<dyn Plugin> = Arc::new(Through::new());
    let pipeline = pipeline(None, Plugins { handler: Some(handler), ..Plugins::default() });
    let outcome = call(&pipeline, Form::Function, b"abc").await;
    assert_eq!(outcome.result.expect("a reply").body, "abc");
    assert_eq!((outcome.stages.queue, outcome.stages.inference), (Some(TICK), Some(Duration::ZERO)));
    assert!(outcome.stages.handle.is_some() && outcome.stages.preprocess.is_none());
    assert_eq!(refusal(&pipeline, &target(Form::OpenInference), &Method::POST).code, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tenants_bounds_are_taken_with_the_ticket() {
    let memory_bytes = FunctionLimits::default().plugin.memory_bytes_max;
    let side = || Some(Arc::new(Through::new()) as Arc<dyn Plugin>);
    for (limits, name) in [
        (TenantLimits { instances_max: 1, ..TenantLimits::UNLIMITED }, "instances_max"),
        (TenantLimits { guest_memory_bytes_max: memory_bytes, ..TenantLimits::UNLIMITED }, "guest_memory_bytes_max"),
    ] {
        let account = Account::new(limits);
        let plugins = || Plugins { pre: side(), ..Plugins::default() };
        let one = pipeline_of(Some(Echo::new()), plugins(), &account);
        let two = pipeline_of(Some(Echo::new()), plugins(), &account);
        let held = one.admit(&target(Form::Function), &Method::POST, &HeaderMap::new()).expect("the first");
        let fault = refusal(&two, &target(Form::Function), &Method::POST);
        assert_eq!((fault.code, fault.blame), (Code::TooManyRequests, Blame::Caller));
        assert!(fault.message.contains(name), "{fault}");
        assert!(two.admit(&target(Form::OpenInference), &Method::POST, &HeaderMap::new()).is_ok(), "no plugin takes part");
        drop(held);
        assert!(two.admit(&target(Form::Function), &Method::POST, &HeaderMap::new()).is_ok());
    }
}
