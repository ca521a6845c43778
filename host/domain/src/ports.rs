//! Where the rooms meet: what the pipeline asks of a model and of a plugin, and what the edge asks of the pipeline.
//!
//! Ports are object-safe and called a handful of times per request.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::control::{Answered, Asked, Refused};
use crate::fair::Flow;
use crate::{
    Batch, Bodies, Caller, Deadline, Fault, FunctionName, Lender, ModelInfo, ModelStage, ModelState, ReleaseNumber, Reply,
    Request, RequestHead, TenantId, Tensor, Urgency,
};

pub use crate::buffer::Home;

/// A future behind a port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A loaded and warmed model. Implemented by the engine.
pub trait Model: Send + Sync {
    /// What it takes and gives.
    fn info(&self) -> &Arc<ModelInfo>;

    /// Where tensors for it are decoded.
    fn lender(&self) -> &dyn Lender;

    /// Runs it once on `inputs`, which the caller has checked with [`crate::Signature::check_inputs`]; the outputs come in
    /// the order of the signature. Of the calls that wait, those of a higher priority go first.
    ///
    /// Dropping the future ends a run that is under way or waiting.
    ///
    /// # Errors
    /// `Overloaded` when the queue is full, `DeadlineExceeded`, `ModelFailed`.
    fn infer(&self, inputs: Vec<Tensor>, urgency: Urgency) -> BoxFuture<'_, Result<Inference, Fault>>;

    /// Whether a call would be taken now, told before there are inputs; it may be refused all the same when there are.
    ///
    /// # Errors
    /// `Overloaded`, also if it would not be answered before its deadline; `NotReady`.
    fn check(&self, _urgency: Urgency) -> Result<(), Fault> {
        Ok(())
    }

    /// What is wrong with it, so that it should get no requests; none if it works, or would be there for its next call.
    fn ailing(&self) -> Option<String> {
        None
    }

    /// Whether it must always be warm and is not at the moment: then its host gets no requests.
    fn is_missed(&self) -> bool {
        false
    }

    /// Where it stands, for its operator.
    fn state(&self) -> ModelState {
        ModelState::default()
    }

    /// Replaces whatever it is made of at the next opportunity; calls go on meanwhile.
    fn recycle(&self) {}

    /// It is loaded at the next opportunity, if it is not there.
    fn load(&self) {}

    /// It goes as soon as nobody uses it, until its next call or [`Model::load`].
    fn unload(&self) {}

    /// Of a release that answers only when it is asked for by its number: it need not be warm, and goes when nobody has called it
    /// for so long, until its next call. With none, it is kept as its function says.
    fn spare(&self, _idle: Option<Duration>) {}
}

/// What somebody has of the processors beside others who want them, too. Implemented by the pipeline, for a tenant.
pub trait Share: Send + Sync {
    /// What it is beside the others: the same for all work of one.
    fn flow(&self) -> Flow;

    /// How much it gets: in proportion to this.
    fn weight(&self) -> NonZeroU32;

    /// The same work for a thread that carries requests, of which each poll waits for its turn among all such work.
    fn pace(self: Arc<Self>, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()>;
}

/// What one run gave.
#[derive(Debug)]
pub struct Inference {
    /// In the order of the signature.
    pub outputs: Vec<Tensor>,
    /// From the call to the start of the run.
    pub queued: Duration,
    /// The run itself, which may have been of several calls.
    pub ran: Duration,
    /// The run, told to the first of its calls alone.
    pub batch: Option<Batch>,
}

/// A loaded plugin. Implemented by the sandbox.
pub trait Plugin: Send + Sync {
    /// Whether it preprocesses.
    fn preprocesses(&self) -> bool;

    /// Whether it postprocesses.
    fn postprocesses(&self) -> bool;

    /// Whether it answers whole requests, and runs models itself.
    fn handles(&self) -> bool;

    /// An instance for one request; dropping it frees everything that the guest holds. Models that it runs by itself are asked
    /// with the request's urgency.
    ///
    /// # Errors
    /// `Overloaded` when no instance is free, or one of the plugin's faults when the guest's start fails.
    fn open(&self, urgency: Urgency) -> BoxFuture<'_, Result<Box<dyn Guest>, Fault>>;
}

/// A plugin's instance, for the length of one request. After a fault it is of no more use.
pub trait Guest: Send {
    /// From the request to the model's inputs, or an answer at once. The tensors are not checked against any signature.
    ///
    /// # Errors
    /// The plugin's own refusal with the code of its kind; `PluginTrapped`, `PluginTimeout`, `PluginOutOfMemory`,
    /// `PluginBadOutput`, `PluginForbidden`; `DeadlineExceeded` when the request's time is over.
    fn preprocess(&mut self, request: Request) -> BoxFuture<'_, Result<Prepared, Fault>>;

    /// From the model's outputs to the reply.
    ///
    /// # Errors
    /// As [`Guest::preprocess`].
    fn postprocess<'a>(&'a mut self, head: &'a RequestHead, outputs: Vec<Tensor>) -> BoxFuture<'a, Result<Reply, Fault>>;

    /// The whole of a request; the guest runs the function's models itself.
    ///
    /// # Errors
    /// As [`Guest::preprocess`].
    fn handle(&mut self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>>;

    /// What it has used so far.
    fn usage(&self) -> PluginUsage;
}

/// What the plugin's instances of one request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginUsage {
    /// For the instances to be there, the guest's own start included.
    pub instantiation: Duration,
    /// The guest's own running time, without that of the host's functions.
    pub running: Duration,
    /// The most linear memory that one instance had, in bytes.
    pub memory_bytes: usize,
    /// Of the runs that a handler asked for: from each call to the start of its run, added up.
    pub queued: Duration,
    /// The runs themselves, added up.
    pub inference: Duration,
    /// How many runs a handler asked for.
    pub inferences: u32,
}

impl PluginUsage {
    /// Of two instances one after the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            instantiation: self.instantiation + other.instantiation,
            running: self.running + other.running,
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            queued: self.queued + other.queued,
            inference: self.inference + other.inference,
            inferences: self.inferences + other.inferences,
        }
    }
}

/// What preprocessing made of a request.
#[derive(Debug)]
pub enum Prepared {
    /// Inputs for the model.
    Tensors(Vec<Tensor>),
    /// An answer at once: neither the model nor postprocessing runs.
    Reply(Reply),
}

/// Which function is called, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub function: FunctionName,
    /// A certain release, or the current one.
    pub release: Option<ReleaseNumber>,
    /// How it is called.
    pub form: Form,
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the function that it is: request → plugin → model → plugin → reply.
    Function,
    /// As an Open Inference Protocol model: tensors → model → tensors.
    OpenInference,
}

/// Everything that is served, as the edge sees it. Implemented by the pipeline.
pub trait Service: Send + Sync {
    /// Why no requests should be sent here; none when each function was loaded, could not be, or has had its time for it, nothing
    /// drains, and nothing else is wrong with the host.
    fn unready(&self) -> Option<String>;

    /// What its operator should know although requests may be sent here.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a request may come in, decided from its head, before its body is read.
    ///
    /// # Errors
    /// `InvalidInput`, `NotFound`, `MethodNotAllowed`, `Overloaded`, `NotReady`, `ModelUnhealthy`, `TooManyRequests`.
    fn admit(&self, target: &Target, method: &Method, headers: &HeaderMap) -> Result<Box<dyn Ticket>, Fault>;

    /// What there is to know of a function as an Open Inference Protocol model.
    ///
    /// # Errors
    /// `NotFound`.
    fn describe(&self, target: &Target) -> Result<Description, Fault>;

    /// Where a function's models stand, by their names.
    ///
    /// # Errors
    /// `NotFound`.
    fn models(&self, tenant: &TenantId, function: &FunctionName) -> Result<Vec<(String, ModelState)>, Fault>;

    /// All functions of a tenant that can be called as models, by their names.
    fn repository(&self, tenant: &TenantId) -> Vec<RepositoryEntry>;

    /// Has the model of a function's current release loaded, and waits for it.
    ///
    /// # Errors
    /// `NotFound`, or why it is not loaded.
    fn load(&self, tenant: &TenantId, function: &FunctionName) -> BoxFuture<'_, Result<(), Fault>>;

    /// Has it unloaded until its next call, and waits for that.
    ///
    /// # Errors
    /// `NotFound`, or why it is still there.
    fn unload(&self, tenant: &TenantId, function: &FunctionName) -> BoxFuture<'_, Result<(), Fault>>;

    /// Replaces a model's session at the next opportunity.
    ///
    /// # Errors
    /// `NotFound`.
    fn recycle(&self, tenant: &TenantId, function: &FunctionName, model: &str) -> Result<(), Fault>;
}

/// A function as an Open Inference Protocol model.
#[derive(Clone, Debug)]
pub struct Description {
    /// The release that answers.
    pub release: ReleaseNumber,
    /// All releases that can be asked for.
    pub releases: Vec<ReleaseNumber>,
    /// The model behind it.
    pub model: Arc<ModelInfo>,
    /// Whether it is warm.
    pub ready: bool,
}

/// One release of a function in a tenant's repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryEntry {
    /// The function.
    pub function: FunctionName,
    /// The release.
    pub release: ReleaseNumber,
    /// Where its model stands.
    pub stage: ModelStage,
    /// What is wrong with it; none if it works.
    pub ailing: Option<String>,
}

/// Tells callers by their keys. Implemented by whoever knows the catalog; asked at every request, it must be quick.
pub trait Keys: Send + Sync {
    /// Who shows this secret, without where the request came from; where there are no keys, whoever shows none.
    ///
    /// # Errors
    /// `Unauthorized`: the same for a secret that was never one, and for one that was revoked or has expired.
    fn holder(&self, secret: Option<&str>) -> Result<Caller, Fault>;

    /// Whether there are any. Where there are none nobody is asked for one, what callers show is not looked at, and everybody
    /// sees what an operator does.
    fn exist(&self) -> bool {
        true
    }
}

/// The control plane. Implemented where rooms are joined.
pub trait Control: Send + Sync {
    /// Does what is asked, with the body that belongs to it. Dropping the future leaves all as it was, or all done.
    ///
    /// # Errors
    /// Nothing has changed: what was wrong, at which step.
    fn ask<'a>(&'a self, asked: Asked, body: &'a mut dyn Body) -> BoxFuture<'a, Result<Answered, Refused>>;
}

/// A body that arrives piece by piece. Implemented by the edge.
pub trait Body: Send {
    /// The next piece; none when it is whole, which is also when it has been found to be what its sender said it is.
    ///
    /// # Errors
    /// `TooLarge`; `SlowRequest`; `InvalidInput` for one that ends early or has another digest; `Overloaded` if the host holds too
    /// much already. There is nothing more after any of them.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>>;
}

/// The right to make one call; its permits are given back when it, or the future of its call, is dropped.
pub trait Ticket: Send {
    /// The largest body, in bytes.
    fn body_bytes_max(&self) -> usize;

    /// What its bodies count for besides the host's account.
    fn bodies(&self) -> Arc<Bodies>;

    /// When the answer must be there; what is in the body may bring that nearer.
    fn deadline(&self) -> Deadline;

    /// The release that will answer.
    fn release(&self) -> ReleaseNumber;

    /// Makes the call.
    fn call(self: Box<Self>, request: Request) -> BoxFuture<'static, Outcome>;
}

/// How a call ended, and how long its stages took.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub result: Result<Reply, Fault>,
    /// The stages that ran.
    pub stages: Stages,
}

/// How long each stage of a call took, also one that failed; none for a stage that did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Waiting for the turns of other tenants' calls, all in all, a part of the other stages; none if there were no others.
    pub turns: Option<Duration>,
    /// The plugin's preprocessing, its fresh instance included; or the decoding of the protocol's tensors.
    pub preprocess: Option<Duration>,
    /// Waiting for the model.
    pub queue: Option<Duration>,
    /// The model's run.
    pub inference: Option<Duration>,
    /// That run, if this was the first of the calls in it; runs that a handler asks for are not told.
    pub batch: Option<Batch>,
    /// The plugin's postprocessing; or the encoding of the protocol's tensors.
    pub postprocess: Option<Duration>,
    /// A handler's whole work, its fresh instance and its models' runs included.
    pub handle: Option<Duration>,
    /// What plugins used; none if none ran.
    pub plugin: Option<PluginUsage>,
}
