//! A function as it is served: its plugins, its model and its bounds, joined and immutable.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use sandmill_domain::ports::{Form, Model, Outcome, Plugin};
use sandmill_domain::{BreakerState, FunctionLimits, FunctionName, Journal, Priority, ReleaseNumber, Request, TenantId, Wish};
use tokio::sync::Semaphore;

use crate::account::Account;
use crate::call::Call;
use crate::clock::now;
use crate::guard::Guard;
use crate::terms::Terms;

/// What stands around the model.
#[derive(Clone, Default)]
pub struct Plugins {
    /// Before the model; without one the request is an Open Inference Protocol body.
    pub pre: Option<Arc<dyn Plugin>>,
    /// After the model; without one the reply is an Open Inference Protocol body.
    pub post: Option<Arc<dyn Plugin>>,
    /// In place of both, and of the model: a plugin that answers whole requests.
    pub handler: Option<Arc<dyn Plugin>>,
}

impl Plugins {
    /// Whether one component stands on both sides: then one instance serves both.
    pub(crate) fn are_one(&self) -> bool {
        matches!((&self.pre, &self.post), (Some(pre), Some(post)) if Arc::ptr_eq(pre, post))
    }

    /// Whether no plugin takes part at all.
    pub(crate) fn are_none(&self) -> bool {
        self.pre.is_none() && self.post.is_none() && self.handler.is_none()
    }
}

/// What a release is made of.
#[derive(Clone)]
pub struct ReleaseParts {
    /// Whose.
    pub tenant: TenantId,
    /// Which function.
    pub function: FunctionName,
    /// Which of its releases.
    pub number: ReleaseNumber,
    /// The methods that it answers as a function.
    pub methods: Vec<Method>,
    /// Its bounds.
    pub limits: FunctionLimits,
    /// What it takes its plugins' instances from.
    pub account: Arc<Account>,
    /// Its model; a function that always answers at once has none, nor has one whose plugin runs models itself.
    pub model: Option<Arc<dyn Model>>,
    /// All its models, those that its plugin runs included.
    pub models: Vec<Arc<dyn Model>>,
    /// Its plugins.
    pub plugins: Plugins,
    /// Where its owner reads why plugins failed; nowhere without.
    pub journal: Option<Arc<Journal>>,
}

/// A function as it is served.
pub struct Release {
    pub(crate) parts: ReleaseParts,
    /// One permit per request under way.
    pub(crate) permits: Arc<Semaphore>,
    /// Closed, unless its model only fails.
    pub(crate) guard: Arc<Guard>,
    /// Told of plugins' running time that no outcome tells of.
    pub(crate) cut_off: OnceLock<Box<CutOff>>,
}

/// Told of running time.
type CutOff = dyn Fn(Duration) + Send + Sync;

impl Release {
    /// Joins the parts.
    pub fn new(parts: ReleaseParts) -> Self {
        let permits = parts.limits.concurrency_max.min(Semaphore::MAX_PERMITS);
        let guard = Guard::new(parts.tenant.clone(), parts.function.clone(), parts.limits.breaker);
        Self { parts, permits: Arc::new(Semaphore::new(permits)), guard, cut_off: OnceLock::new() }
    }

    /// The same under another number, with permits and a breaker of its own.
    #[must_use]
    pub fn renumbered(&self, number: ReleaseNumber) -> Self {
        Self::new(ReleaseParts { number, ..self.parts.clone() })
    }

    /// Whose function it is.
    pub fn tenant(&self) -> &TenantId {
        &self.parts.tenant
    }

    /// Which function it is.
    pub fn function(&self) -> &FunctionName {
        &self.parts.function
    }

    /// Which of the function's releases it is.
    pub fn number(&self) -> ReleaseNumber {
        self.parts.number
    }

    /// Its model, if it has one.
    pub fn model(&self) -> Option<&Arc<dyn Model>> {
        self.parts.model.as_ref()
    }

    /// What stands around the model.
    pub fn plugins(&self) -> &Plugins {
        &self.parts.plugins
    }

    /// Tells where its breaker stands, and of each move from now on, in place of whoever was told before. Both must be quick: a call waits
    /// for them.
    pub fn watch_breaker(&self, stands: impl FnOnce(BreakerState), told: impl Fn(BreakerState) + Send + 'static) {
        self.guard.watch(stands, Box::new(told));
    }

    /// Tells of the time that plugins ran for calls that were cut off, and so have no outcome; the first who asks is told.
    pub fn watch_cut_off(&self, told: impl Fn(Duration) + Send + Sync + 'static) {
        drop(self.cut_off.set(Box::new(told)));
    }

    /// Opens its breaker, as if its model had only failed: a run of it does not end.
    pub fn trip(&self) {
        self.guard.trip();
    }

    /// Runs one request through the whole function, without admission and before those that wait: for the sample request that a release
    /// must answer before it is served, on models that may be in use.
    pub async fn rehearse(self: Arc<Self>, request: Request) -> Outcome {
        let wish = Wish { priority: Some(Priority::High), timeout: None };
        let terms = Terms::new(now(), self.parts.limits.timeout).with(wish);
        Call::new(&self, Form::Function, terms).run(request).await
    }
}
