//! How soon a call must be answered and before which others it goes, from its headers and its body to the model.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sandmill_domain::ports::{BoxFuture, Form, Inference, Model, Service, Target};
use sandmill_domain::{
    Axis, Blame, BreakerLimits, Buffer, Code, Dtype, Fault, FunctionLimits, FunctionName, Lender, ModelInfo, Priority,
    ReleaseNumber, Reply, Request, RequestHead, Signature, TenantId, TenantLimits, Tensor, TensorSpec, Urgency,
};
use sandmill_pipeline::{Account, Pipeline, Plugins, Release, ReleaseParts, Served};
use sandmill_protocol::{PRIORITY, TIMEOUT_MS};
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Is always late, and notes how urgent each call was.
struct Late {
    info: Arc<ModelInfo>,
    asked: Mutex<Vec<Urgency>>,
}

impl Lender for Late {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        Ok(Buffer::new(vec![0; capacity.div_ceil(8)], capacity, None))
    }
}

impl Model for Late {
    fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    fn lender(&self) -> &dyn Lender {
        self
    }

    fn infer(&self, _inputs: Vec<Tensor>, urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>> {
        self.asked.lock().expect("not poisoned").push(urgency);
        Box::pin(async { Err(Fault::new(Code::DeadlineExceeded, "late").blaming(Blame::Model)) })
    }
}

struct Scene {
    model: Arc<Late>,
    pipeline: Pipeline,
}

impl Scene {
    fn new() -> Self {
        let spec = TensorSpec { name: "x".to_owned(), dtype: Dtype::Uint8, shape: vec![Axis::Fixed(1)] };
        let signature = Signature { inputs: vec![spec], outputs: vec![] };
        let info = Arc::new(ModelInfo { name: "late".to_owned(), signature, metadata: vec![] });
        let model = Arc::new(Late { info, asked: Mutex::default() });
        let breaker = BreakerLimits { failures_max: 2, ..BreakerLimits::default() };
        let release = Release::new(ReleaseParts {
            journal: None,
            account: Account::new(TenantLimits { instances_max: 0, guest_memory_bytes_max: 0, ..TenantLimits::UNLIMITED }),
            tenant: TenantId::local(),
            function: function(),
            number: ReleaseNumber::FIRST,
            methods: vec![Method::POST],
            limits: FunctionLimits { breaker, timeout: TIMEOUT, ..FunctionLimits::default() },
            models: Vec::new(),
            model: Some(Arc::clone(&model) as Arc<dyn Model>),
            plugins: Plugins::default(),
        });
        let pipeline = Pipeline::default();
        pipeline.publish(Served::new(Arc::new(release)));
        Self { model, pipeline }
    }

    async fn call(&self, headers: &[(HeaderName, &'static str)], parameters: &str) -> Result<Reply, Fault> {
        let headers: HeaderMap = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let target = Target { tenant: TenantId::local(), function: function(), release: None, form: Form::OpenInference };
        let ticket = self.pipeline.admit(&target, &Method::POST, &headers)?;
        let head = RequestHead { method: Method::POST, path_rest: String::new(), query: None, headers };
        let input = r#"{"name":"x","shape":[1],"datatype":"UINT8","data":[65]}"#;
        let body = format!(r#"{{"inputs":[{input}],"parameters":{{{parameters}}}}}"#);
        ticket.call(Request { head, body: Bytes::from(body) }).await.result
    }

    /// How urgent the last run was: its time in milliseconds, which stands still, and its priority.
    fn last(&self) -> (u128, Priority) {
        let asked = self.model.asked.lock().expect("not poisoned");
        let last = asked.last().expect("a run");
        (last.deadline.remaining(Instant::now().into_std()).as_millis(), last.priority)
    }
}

fn function() -> FunctionName {
    FunctionName::new("late").expect("a name")
}

#[tokio::test(start_paused = true)]
async fn headers_and_parameters_reach_the_model() {
    use Priority::{High, Low, Normal};
    let cases = [
        (&[][..], "", 10_000, Normal),
        (&[(PRIORITY, "high"), (TIMEOUT_MS, "4000")], "", 4000, High),
        (&[(TIMEOUT_MS, "3600000")], "", 10_000, Normal),
        (&[], r#""priority":3,"timeout":2000000"#, 2000, Low),
        // What is in the body has the last word on the priority, and can only shorten the time.
        (&[(PRIORITY, "low"), (TIMEOUT_MS, "3000")], r#""priority":1,"timeout":5000000"#, 3000, High),
        (&[(PRIORITY, "low"), (TIMEOUT_MS, "3000")], r#""priority":0,"timeout":1000000"#, 1000, Low),
    ];
    for (headers, parameters, millis, priority) in cases {
        let scene = Scene::new();
        scene.call(headers, parameters).await.expect_err("it is late");
        assert_eq!(scene.last(), (millis, priority), "{headers:?} {parameters}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_makes_no_sense_is_refused_from_the_head() {
    let scene = Scene::new();
    for (name, value) in [(PRIORITY, "1"), (TIMEOUT_MS, "0")] {
        let fault = scene.call(&[(name.clone(), value)], "").await.expect_err("a refusal");
        assert_eq!((fault.code, fault.blame), (Code::InvalidInput, Blame::Caller));
        assert!(fault.message.starts_with(&format!("header {name} must be ")), "{fault}");
    }
    let fault = scene.call(&[], r#""priority":4"#).await.expect_err("a refusal");
    assert_eq!(fault.code, Code::InvalidInput);
    assert!(scene.model.asked.lock().expect("not poisoned").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_deadline_counts_against_nobody_else() {
    let scene = Scene::new();
    // Longer than half of the function's time: even that shows nothing of the model.
    for _ in 0..10 {
        for (headers, parameters) in [(&[(TIMEOUT_MS, "9999")][..], ""), (&[], r#""timeout":9999999"#)] {
            let fault = scene.call(headers, parameters).await.expect_err("it is late");
            assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Caller));
        }
    }
    for _ in 0..2 {
        let fault = scene.call(&[(TIMEOUT_MS, "10000")], "").await.expect_err("it is late");
        assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Model));
    }
    assert_eq!(scene.call(&[], "").await.expect_err("the breaker is open").code, Code::ModelUnhealthy);
}
