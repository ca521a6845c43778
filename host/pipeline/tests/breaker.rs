//! The breaker of a release, seen through the ports: a model that does what the test wants, and a clock that stands still.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use sandmill_domain::ports::{BoxFuture, Form, Inference, Model, Service, Target, Ticket};
use sandmill_domain::{
    Advice, Axis, Blame, BreakerLimits, BreakerState, Buffer, Code, Dtype, Fault, FunctionLimits, FunctionName, Lender,
    ModelInfo, ReleaseNumber, Reply, Request, RequestHead, Signature, TenantId, TenantLimits, Tensor, TensorSpec, Urgency,
};
use sandmill_pipeline::{Account, Pipeline, Plugins, Release, ReleaseParts, Served};
use tokio::time::{advance, timeout};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const BODY: &[u8] = br#"{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[65]}]}"#;

/// What the model does when it is run.
#[derive(Clone, Copy)]
enum Mood {
    Works,
    Fails(Code, Blame),
    Hangs,
}

const FAILS: Mood = Mood::Fails(Code::ModelFailed, Blame::Model);

struct Moody {
    info: Arc<ModelInfo>,
    mood: Mutex<Mood>,
    runs: AtomicUsize,
}

impl Lender for Moody {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        Ok(Buffer::new(vec![0; capacity.div_ceil(8)], capacity, None))
    }
}

impl Model for Moody {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    fn lender(&self) -> &dyn Lender {
        self
    }

    fn infer(&self, inputs: Vec<Tensor>, _urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().expect("not poisoned");
        Box::pin(async move {
            match mood {
                Mood::Works => Ok(Inference { outputs: inputs, queued: Duration::ZERO, ran: Duration::ZERO, batch: None }),
                Mood::Fails(code, blame) => Err(Fault::new(code, "as the test wants").blaming(blame)),
                Mood::Hangs => std::future::pending().await,
            }
        })
    }
}

/// A function of such a model, and every state that its breaker came to.
struct Scene {
    model: Arc<Moody>,
    pipeline: Pipeline,
    moves: Arc<Mutex<Vec<BreakerState>>>,
}

impl Scene {
    fn new(mood: Mood) -> Self {
        Self::with(mood, BreakerLimits::default())
    }

    fn with(mood: Mood, breaker: BreakerLimits) -> Self {
        let axis = Axis::Dynamic { symbol: None, max: 8 };
        let spec = TensorSpec { name: "x".to_owned(), dtype: Dtype::Uint8, shape: vec![axis] };
        let signature = Signature { inputs: vec![spec.clone()], outputs: vec![spec] };
        let info = Arc::new(ModelInfo { name: "moody".to_owned(), signature, metadata: vec![] });
        let model = Arc::new(Moody { info, mood: Mutex::new(mood), runs: AtomicUsize::new(0) });
        let release = Release::new(ReleaseParts {
            journal: None,
            account: Account::new(TenantLimits { instances_max: 0, guest_memory_bytes_max: 0, ..TenantLimits::UNLIMITED }),
            tenant: TenantId::local(),
            function: target().function,
            number: ReleaseNumber::FIRST,
            methods: vec![Method::POST],
            limits: FunctionLimits { breaker, ..FunctionLimits::default() },
            model: Some(Arc::clone(&model) as Arc<dyn Model>),
            models: vec![Arc::clone(&model) as Arc<dyn Model>],
            plugins: Plugins::default(),
        });
        let moves: Arc<Mutex<Vec<BreakerState>>> = Arc::default();
        let seen = Arc::clone(&moves);
        release.watch_breaker(|at| assert_eq!(at, BreakerState::Closed), move |to| seen.lock().expect("not poisoned").push(to));
        let pipeline = Pipeline::default();
        pipeline.publish(Served::new(Arc::new(release)));
        Self { model, pipeline, moves }
    }

    fn becomes(&self, mood: Mood) {
        *self.model.mood.lock().expect("not poisoned") = mood;
    }

    fn admit(&self) -> Result<Box<dyn Ticket>, Fault> {
        self.pipeline.admit(&target(), &Method::POST, &HeaderMap::new())
    }

    /// A refusal at admission, and when to come again.
    fn refusal(&self) -> (Code, Option<Duration>) {
        let fault = self.admit().map(|_ticket| ()).expect_err("a refusal");
        match fault.advice {
            Some(Advice::RetryAfter(wait)) => (fault.code, Some(wait)),
            _ => (fault.code, None),
        }
    }

    async fn call(&self) -> Result<Reply, Fault> {
        call(self.admit()?, BODY).await
    }

    async fn calls(&self, count: usize) {
        for _ in 0..count {
            let fault = self.call().await.expect_err("a fault");
            assert_ne!(fault.code, Code::ModelUnhealthy, "{fault}");
        }
    }

    /// The model failed so often that the breaker has just opened.
    async fn opened() -> Self {
        let scene = Self::new(FAILS);
        scene.calls(5).await;
        scene
    }

    fn runs(&self) -> usize {
        self.model.runs.load(Ordering::Relaxed)
    }

    fn moves(&self) -> Vec<BreakerState> {
        self.moves.lock().expect("not poisoned").clone()
    }
}

fn target() -> Target {
    let function = FunctionName::new("moody").expect("a name");
    Target { tenant: TenantId::local(), function, release: None, form: Form::OpenInference }
}

async fn call(ticket: Box<dyn Ticket>, body: &'static [u8]) -> Result<Reply, Fault> {
    let head = RequestHead { method: Method::POST, path_rest: String::new(), query: None, headers: HeaderMap::new() };
    ticket.call(Request { head, body: Bytes::from_static(body) }).await.result
}

#[tokio::test(start_paused = true)]
async fn a_model_that_only_fails_is_left_alone_and_then_tried() {
    use BreakerState::{Closed, HalfOpen, Open};
    let scene = Scene::opened().await;
    assert_eq!(scene.refusal(), (Code::ModelUnhealthy, Some(MINUTE)));
    advance(MINUTE - SECOND).await;
    assert_eq!(scene.refusal(), (Code::ModelUnhealthy, Some(SECOND)));
    assert_eq!((scene.runs(), scene.moves()), (5, vec![Open]));

    advance(SECOND).await;
    let fault = scene.call().await.expect_err("it still fails");
    assert_eq!(fault.code, Code::ModelFailed);
    assert_eq!(scene.refusal(), (Code::ModelUnhealthy, Some(MINUTE)));

    advance(MINUTE).await;
    scene.becomes(Mood::Works);
    assert!(scene.call().await.is_ok());
    let held = (scene.admit().expect("one"), scene.admit().expect("two"));
    assert_eq!((scene.runs(), scene.moves()), (7, vec![Open, HalfOpen, Open, HalfOpen, Closed]));

    drop(held);
    scene.becomes(FAILS);
    scene.calls(5).await;
    assert_eq!(scene.refusal().0, Code::ModelUnhealthy);
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_row() {
    let scene = Scene::new(FAILS);
    for _ in 0..3 {
        scene.becomes(FAILS);
        scene.calls(4).await;
        scene.becomes(Mood::Works);
        scene.call().await.expect("a reply");
    }
    assert_eq!(scene.moves(), []);
}

#[tokio::test(start_paused = true)]
async fn while_one_call_tries_the_model_the_others_are_refused() {
    let scene = Scene::opened().await;
    advance(MINUTE).await;
    scene.becomes(Mood::Hangs);
    let mut probe = Box::pin(scene.call());
    assert!(timeout(SECOND, &mut probe).await.is_err(), "it runs");
    assert_eq!(scene.refusal(), (Code::ModelUnhealthy, None));
    advance(MINUTE).await;
    assert_eq!(scene.refusal(), (Code::ModelUnhealthy, None));
    drop(probe);
    scene.becomes(Mood::Works);
    scene.call().await.expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn of_many_at_once_one_is_the_probe() {
    let scene = Scene::opened().await;
    advance(MINUTE).await;
    scene.becomes(Mood::Hangs);
    let tickets: Vec<_> = (0..4).map(|_| scene.admit().expect("none of them has a body yet")).collect();
    let mut calls: Vec<_> = tickets.into_iter().map(|ticket| Box::pin(call(ticket, BODY))).collect();
    let mut refused = 0;
    for call in &mut calls {
        if let Ok(answer) = timeout(SECOND, call).await {
            assert_eq!(answer.expect_err("a refusal").code, Code::ModelUnhealthy);
            refused += 1;
        }
    }
    assert_eq!((refused, scene.runs()), (3, 6));
    assert_eq!(scene.moves(), [BreakerState::Open, BreakerState::HalfOpen]);
}

/// Who holds a place for long before anything runs.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_keeps_nobody_from_trying() {
    let scene = Scene::opened().await;
    advance(MINUTE).await;
    let _slow = scene.admit().expect("its body is to come");
    scene.becomes(Mood::Works);
    scene.call().await.expect("a reply");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_came_to_a_run_gives_its_place_back() {
    let scene = Scene::opened().await;
    advance(MINUTE).await;
    drop(scene.admit().expect("the client goes away before its body"));

    scene.becomes(Mood::Hangs);
    let gone = timeout(SECOND, call(scene.admit().expect("the next"), BODY)).await;
    assert!(gone.is_err(), "the client goes away in the middle of the run");

    let fault = call(scene.admit().expect("the next"), b"no tensors").await.expect_err("a fault");
    assert_eq!(fault.code, Code::InvalidInput);

    scene.becomes(Mood::Fails(Code::Overloaded, Blame::Host));
    assert_eq!(call(scene.admit().expect("the next"), BODY).await.expect_err("a fault").code, Code::Overloaded);

    scene.becomes(Mood::Works);
    scene.call().await.expect("a reply");
    assert_eq!(scene.moves(), [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn who_came_in_before_it_opened_runs_nothing_after() {
    let scene = Scene::new(FAILS);
    let early = scene.admit().expect("closed");
    scene.calls(5).await;
    assert_eq!(call(early, BODY).await.expect_err("a refusal").code, Code::ModelUnhealthy);
    assert_eq!(scene.runs(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_models_fault_does_not_count() {
    let scene = Scene::new(Mood::Works);
    for (code, blame) in [
        (Code::InvalidInput, Blame::Caller),
        (Code::TooManyRequests, Blame::Caller),
        (Code::Overloaded, Blame::Host),
        (Code::NotReady, Blame::Host),
        (Code::DeadlineExceeded, Blame::Host),
        (Code::PluginFailed, Blame::Plugin),
    ] {
        scene.becomes(Mood::Fails(code, blame));
        scene.calls(10).await;
        assert_eq!(scene.moves(), [], "{code:?}");
    }
    for (code, blame) in [(Code::Internal, Blame::Host), (Code::DeadlineExceeded, Blame::Model)] {
        let scene = Scene::new(Mood::Fails(code, blame));
        scene.calls(5).await;
        assert_eq!(scene.moves(), [BreakerState::Open], "{code:?}");
    }
}

/// Who sends his body slowly leaves the model no time.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_the_caller_used_up_does_not_count() {
    let scene = Scene::new(Mood::Fails(Code::DeadlineExceeded, Blame::Model));
    for _ in 0..10 {
        let ticket = scene.admit().expect("closed");
        advance(FunctionLimits::default().timeout * 2 / 3).await;
        call(ticket, BODY).await.expect_err("a fault");
    }
    assert_eq!(scene.moves(), []);
}
