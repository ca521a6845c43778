//! Whether a request may come in, decided from its head alone; and the ticket that it then holds.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, Method};
use sandmill_domain::ports::{BoxFuture, Form, Outcome, Ticket};
use sandmill_domain::{Advice, Bodies, Code, Deadline, Fault, ReleaseNumber, Request};
use sandmill_protocol::wish;
use tokio::sync::OwnedSemaphorePermit;

use crate::account::Claim;
use crate::call::Call;
use crate::clock::now;
use crate::release::Release;
use crate::repository::no_model;
use crate::terms::Terms;

/// The right to one call of one release.
pub(crate) struct Admission {
    release: Arc<Release>,
    form: Form,
    terms: Terms,
    _permit: OwnedSemaphorePermit,
    claim: Claim,
}

impl Admission {
    /// Takes a permit, or says why not.
    pub(crate) fn grant(release: &Arc<Release>, form: Form, method: &Method, headers: &HeaderMap) -> Result<Self, Fault> {
        check_method(release, form, method)?;
        let wish = wish(headers)?;
        if form == Form::OpenInference && release.parts.model.is_none() {
            return Err(no_model(release));
        }
        release.guard.check()?;
        let terms = Terms::new(now(), release.parts.limits.timeout).with(wish);
        release.parts.model.iter().try_for_each(|model| model.check(terms.urgency()))?;
        let permit = Arc::clone(&release.permits).try_acquire_owned().map_err(|_none| full(release))?;
        let has_plugins = form == Form::Function && !release.parts.plugins.are_none();
        let claim = release.parts.account.claim(has_plugins.then_some(release.parts.limits.plugin.memory_bytes_max))?;
        Ok(Self { release: Arc::clone(release), form, terms, _permit: permit, claim })
    }
}

impl Ticket for Admission {
    fn body_bytes_max(&self) -> usize {
        self.release.parts.limits.body_bytes_max
    }

    fn bodies(&self) -> Arc<Bodies> {
        Arc::clone(&self.release.parts.account.bodies)
    }

    fn deadline(&self) -> Deadline {
        self.terms.urgency().deadline
    }

    fn release(&self) -> ReleaseNumber {
        self.release.parts.number
    }

    fn call(self: Box<Self>, request: Request) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let Self { release, form, terms, _permit, claim } = *self;
            let call = pin!(Call::new(&release, form, terms).run(request));
            let (mut outcome, waited) = claim.party().pace(call).await;
            outcome.stages.turns = waited;
            outcome
        })
    }
}

fn check_method(release: &Release, form: Form, method: &Method) -> Result<(), Fault> {
    let post = [Method::POST];
    let allowed = match form {
        Form::Function => &release.parts.methods[..],
        Form::OpenInference => &post,
    };
    if allowed.contains(method) {
        return Ok(());
    }
    let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    // A caller chooses the method, at any length.
    let given = method.as_str().get(..16).unwrap_or(method.as_str());
    let message = format!("function `{}` answers {}, not {given}", release.function(), names.join(", "));
    Err(Fault::new(Code::MethodNotAllowed, message).advising(Advice::Allow(names)))
}

fn full(release: &Release) -> Fault {
    let bound = release.parts.limits.concurrency_max;
    let message = format!("function `{}` has {bound} requests under way, its limit (concurrency_max)", release.function());
    Fault::new(Code::TooManyRequests, message)
}
