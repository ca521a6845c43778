//! A service whose functions do what their names say. It has no pipeline, sandbox or engine behind it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use sandmill_domain::ports::{BoxFuture, Description, Outcome, RepositoryEntry, Service, Stages, Target, Ticket};
use sandmill_domain::{
    Advice, Bodies, Code, Deadline, Fault, FunctionName, ModelInfo, ModelStage, ModelState, ReleaseNumber, Reply, Request,
    TenantId,
};
use tokio::sync::Semaphore;

/// The largest body that its functions take.
pub(crate) const BODY_BYTES_MAX: usize = 1000;

/// What a function cannot say in its answer's headers, as `liar` does.
pub(crate) const FRAMING: [(&str, &str); 9] = [
    ("connection", "close, x-kept"),
    ("content-length", "9999"),
    ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("keep-alive", "timeout=1"),
    ("proxy-connection", "close"),
    ("te", "trailers"),
    ("trailer", "x-late"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
];

/// What the tests see and steer.
pub(crate) struct Fake {
    pub(crate) ready: AtomicBool,
    /// Calls admitted so far.
    pub(crate) admitted: AtomicUsize,
    /// Calls that run now.
    pub(crate) running: AtomicUsize,
    /// A call of `gate` takes one permit to be answered.
    pub(crate) gate: Arc<Semaphore>,
    /// The last call.
    pub(crate) last: Mutex<Option<(Target, Request)>>,
    pub(crate) body_bytes_max: AtomicUsize,
    pub(crate) timeout: Mutex<Duration>,
    /// What its tenant's bodies may be together.
    pub(crate) bodies: Arc<Bodies>,
    /// Whether its repository's model is.
    pub(crate) loaded: AtomicBool,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            ready: AtomicBool::new(true),
            admitted: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            gate: Arc::new(Semaphore::new(0)),
            last: Mutex::new(None),
            body_bytes_max: AtomicUsize::new(BODY_BYTES_MAX),
            timeout: Mutex::new(Duration::from_secs(20)),
            bodies: Bodies::of_tenant(usize::MAX),
            loaded: AtomicBool::new(true),
        })
    }

    /// A handle of the kind that the edge takes.
    pub(crate) fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(Handle(Arc::clone(self)))
    }

    pub(crate) fn admitted(&self) -> usize {
        self.admitted.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

struct Handle(Arc<Fake>);

impl Service for Handle {
    fn unready(&self) -> Option<String> {
        (!self.0.ready.load(Ordering::SeqCst)).then(|| "it is not".to_owned())
    }

    fn models(&self, _tenant: &TenantId, function: &FunctionName) -> Result<Vec<(String, ModelState)>, Fault> {
        match function.as_str() {
            "missing" => Err(Fault::new(Code::NotFound, "no function `missing`")),
            _ => Ok(vec![("model".to_owned(), ModelState::default())]),
        }
    }

    fn recycle(&self, _tenant: &TenantId, _function: &FunctionName, model: &str) -> Result<(), Fault> {
        if model == "model" { Ok(()) } else { Err(Fault::new(Code::NotFound, "no such model")) }
    }

    fn repository(&self, tenant: &TenantId) -> Vec<RepositoryEntry> {
        let function = FunctionName::new(&format!("of-{tenant}")).expect("a name");
        let stage = if self.0.loaded.load(Ordering::SeqCst) { ModelStage::Warm } else { ModelStage::Unloaded };
        vec![RepositoryEntry { function, release: ReleaseNumber::FIRST, stage, ailing: None }]
    }

    fn load(&self, _tenant: &TenantId, function: &FunctionName) -> BoxFuture<'_, Result<(), Fault>> {
        let loaded = self.models(&TenantId::local(), function).map(|_models| self.0.loaded.store(true, Ordering::SeqCst));
        Box::pin(async { loaded })
    }

    fn unload(&self, _tenant: &TenantId, function: &FunctionName) -> BoxFuture<'_, Result<(), Fault>> {
        let unloaded = self.models(&TenantId::local(), function).map(|_models| self.0.loaded.store(false, Ordering::SeqCst));
        Box::pin(async { unloaded })
    }

    fn admit(&self, target: &Target, method: &Method, headers: &HeaderMap) -> Result<Box<dyn Ticket>, Fault> {
        match target.function.as_str() {
            "missing" => return Err(Fault::new(Code::NotFound, "no function `missing`")),
            "busy" => {
                let wait = Advice::RetryAfter(Duration::from_millis(2500));
                return Err(Fault::new(Code::Overloaded, "too much to do").advising(wait));
            }
            "picky" => {
                let value = headers.get("sandmill-priority").and_then(|value| value.to_str().ok()).unwrap_or("nothing");
                return Err(Fault::new(Code::InvalidInput, format!("a priority of {value}")));
            }
            "panics-early" => panic!("no ticket today"),
            _ => {}
        }
        if *method == Method::DELETE {
            let allowed = Advice::Allow(vec!["GET".to_owned(), "POST".to_owned()]);
            return Err(Fault::new(Code::MethodNotAllowed, "no").advising(allowed));
        }
        self.0.admitted.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Admitted {
            fake: Arc::clone(&self.0),
            target: target.clone(),
            deadline: Deadline::after(Instant::now(), *self.0.timeout.lock().unwrap()),
        }))
    }

    fn describe(&self, target: &Target) -> Result<Description, Fault> {
        match target.function.as_str() {
            "missing" => Err(Fault::new(Code::NotFound, "no model `missing`")),
            name => Ok(Description {
                release: ReleaseNumber::FIRST,
                releases: vec![ReleaseNumber::FIRST],
                model: Arc::new(ModelInfo::default()),
                ready: name != "cold",
            }),
        }
    }
}

struct Admitted {
    fake: Arc<Fake>,
    target: Target,
    deadline: Deadline,
}

impl Ticket for Admitted {
    fn body_bytes_max(&self) -> usize {
        self.fake.body_bytes_max.load(Ordering::SeqCst)
    }

    fn bodies(&self) -> Arc<Bodies> {
        Arc::clone(&self.fake.bodies)
    }

    fn deadline(&self) -> Deadline {
        self.deadline
    }

    fn release(&self) -> ReleaseNumber {
        ReleaseNumber::FIRST
    }

    fn call(self: Box<Self>, request: Request) -> BoxFuture<'static, Outcome> {
        *self.fake.last.lock().unwrap() = Some((self.target.clone(), request.clone()));
        Box::pin(async move {
            let _running = Running::new(&self.fake);
            let result = run(&self.fake, self.target.function.as_str(), request).await;
            let stages = Stages { inference: Some(Duration::from_millis(1)), ..Stages::default() };
            Outcome { result, stages }
        })
    }
}

async fn run(fake: &Fake, function: &str, request: Request) -> Result<Reply, Fault> {
    match function {
        "echo" => Ok(reply(StatusCode::OK, request.body)),
        "gate" => {
            fake.gate.acquire().await.unwrap().forget();
            Ok(reply(StatusCode::OK, request.body))
        }
        "never" => std::future::pending().await,
        "large" => {
            let bytes = request.head.query.as_deref().unwrap_or("0").parse().unwrap();
            Ok(reply(StatusCode::OK, Bytes::from(vec![b'x'; bytes])))
        }
        "empty" | "reset" => {
            let status = if function == "empty" { StatusCode::NO_CONTENT } else { StatusCode::RESET_CONTENT };
            Ok(Reply { status, headers: Vec::new(), body: Bytes::from_static(b"not sent") })
        }
        "liar" => {
            let mut reply = reply(StatusCode::OK, Bytes::from_static(b"truth"));
            for (name, value) in FRAMING {
                reply.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
            }
            reply.headers.push((HeaderName::from_static("x-kept"), HeaderValue::from_static("1")));
            reply.headers.push((HeaderName::from_static("x-kept"), HeaderValue::from_static("2")));
            Ok(reply)
        }
        "panics" => panic!("no answer today"),
        "fails" => Err(Fault::new(Code::ModelFailed, "the model failed").because("secret")),
        other => unreachable!("the tests have no function `{other}`"),
    }
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    Reply { status, headers: vec![(CONTENT_TYPE, HeaderValue::from_static("text/plain"))], body }
}

struct Running(Arc<Fake>);

impl Running {
    fn new(fake: &Arc<Fake>) -> Self {
        fake.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(fake))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The headers of the last call, by name.
pub(crate) fn headers_of(request: &Request) -> BTreeMap<String, String> {
    request.head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}
