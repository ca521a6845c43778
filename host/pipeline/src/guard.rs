//! A release's breaker at work: a lock around the machine, a pass for each call, and those who are told when it moves. When
//! it does is for the machine to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandmill_domain::ports::Inference;
use sandmill_domain::{Advice, Blame, BreakerLimits, BreakerState, Code, Fault, FunctionName, TenantId};

use crate::breaker::{self, Breaker, Refusal, Verdict};
use crate::clock::now;

/// The breaker of one release.
pub(crate) struct Guard {
    tenant: TenantId,
    function: FunctionName,
    inner: Mutex<Inner>,
}

struct Inner {
    breaker: Breaker,
    watch: Option<Watch>,
}

/// Whom to tell of each move.
type Watch = Box<dyn Fn(BreakerState) + Send>;

/// A call's leave to run the model. Dropped without a report it has shown nothing, and the place of a probe is free again.
pub(crate) struct Pass {
    guard: Arc<Guard>,
    /// None once it is given back.
    pass: Option<breaker::Pass>,
}

impl Guard {
    /// With a closed breaker.
    pub(crate) fn new(tenant: TenantId, function: FunctionName, limits: BreakerLimits) -> Arc<Self> {
        let inner = Inner { breaker: Breaker::new(limits), watch: None };
        Arc::new(Self { tenant, function, inner: Mutex::new(inner) })
    }

    /// Tells where the breaker stands, and of each move from now on, in place of whoever was told before. Called under the lock, so that
    /// the last that is told is where it stands.
    pub(crate) fn watch(&self, stands: impl FnOnce(BreakerState), watch: Watch) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        stands(inner.breaker.state());
        inner.watch = Some(watch);
    }

    /// Whether a call may come in, told from its head: who has yet to send a body, and runs nothing, does not try the model.
    ///
    /// # Errors
    /// `ModelUnhealthy`, with the time that is left.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let answer = self.step(|breaker| (breaker, breaker.check(now())));
        answer.map_err(|refusal| self.refuse(refusal))
    }

    /// Whether a call may run the model.
    ///
    /// # Errors
    /// As [`Guard::check`].
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Pass, Fault> {
        let answer = self.step(|breaker| breaker.admit(now()));
        let pass = answer.map_err(|refusal| self.refuse(refusal))?;
        Ok(Pass { guard: Arc::clone(self), pass: Some(pass) })
    }

    /// Opens at once.
    pub(crate) fn trip(&self) {
        self.step(|breaker| (breaker.trip(now()), ()));
    }

    fn step<T>(&self, step: impl FnOnce(Breaker) -> (Breaker, T)) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, answer) = step(inner.breaker);
        let has_moved = next.state() != inner.breaker.state();
        inner.breaker = next;
        if has_moved {
            self.log(next.state());
            inner.watch.iter().for_each(|watch| watch(next.state()));
        }
        answer
    }

    fn log(&self, state: BreakerState) {
        let (tenant, function) = (self.tenant.as_str(), self.function.as_str());
        match state {
            BreakerState::Open => tracing::warn!(tenant, function, "breaker open: the model only fails, calls are refused"),
            BreakerState::HalfOpen => tracing::info!(tenant, function, "breaker half-open: one call tries the model"),
            BreakerState::Closed => tracing::info!(tenant, function, "breaker closed: the model works again"),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Fault {
        let refused = |then: &str| {
            let message = format!("the model of function `{}` failed too often in a row: {then}", self.function);
            Fault::new(Code::ModelUnhealthy, message)
        };
        match refusal {
            Refusal::Open(left) => {
                let seconds = left.as_secs_f64().ceil();
                refused(&format!("it is tried again in {seconds} s")).advising(Advice::RetryAfter(left))
            }
            Refusal::Probing => refused("another request is trying it now"),
        }
    }
}

impl Pass {
    /// What the call has shown.
    pub(crate) fn report(mut self, verdict: Verdict) {
        self.end(verdict);
    }

    fn end(&mut self, verdict: Verdict) {
        if let Some(pass) = self.pass.take() {
            self.guard.step(|breaker| (breaker.end(pass, verdict, now()), ()));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.end(Verdict::Unknown);
    }
}

/// What a run shows of its model, which was asked when so much was left of the function's time. A refusal shows nothing, nor
/// does a deadline of which the caller, or the plugin, had used up more than half before.
pub(crate) fn judge(ran: &Result<Inference, Fault>, left: Duration, timeout: Duration) -> Verdict {
    let Err(fault) = ran else { return Verdict::Good };
    match (fault.code, fault.blame) {
        (Code::ModelFailed | Code::ModelOutOfMemory | Code::Internal, Blame::Model | Blame::Host) => Verdict::Bad,
        (Code::DeadlineExceeded, Blame::Model) if left >= timeout / 2 => Verdict::Bad,
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn whoever_watches_is_told_where_it_stands() {
        let guard = Guard::new(TenantId::local(), FunctionName::new("f").expect("a name"), BreakerLimits::default());
        let (sender, told) = channel();
        let stands = || {
            let (at, stands) = channel();
            let sender = sender.clone();
            let moved = move |state| sender.send(state).expect("it is heard");
            guard.watch(|state| at.send(state).expect("it is heard"), Box::new(moved));
            stands.try_recv()
        };
        assert_eq!(stands(), Ok(BreakerState::Closed));
        guard.trip();
        assert_eq!(told.try_recv(), Ok(BreakerState::Open));
        assert_eq!(stands(), Ok(BreakerState::Open));
        assert!(told.try_recv().is_err(), "that was no move");
    }

    #[test]
    fn what_counts_against_a_model() {
        let late = || Fault::new(Code::DeadlineExceeded, "x");
        let cases = [
            (Fault::new(Code::ModelFailed, "x"), 10, Verdict::Bad),
            (Fault::new(Code::ModelFailed, "x"), 0, Verdict::Bad),
            (Fault::new(Code::ModelOutOfMemory, "x"), 10, Verdict::Bad),
            (Fault::new(Code::ModelOutOfMemory, "x").blaming(Blame::Caller), 10, Verdict::Unknown),
            (Fault::new(Code::Internal, "x"), 10, Verdict::Bad),
            (Fault::new(Code::ModelFailed, "x").blaming(Blame::Caller), 10, Verdict::Unknown),
            (Fault::new(Code::InvalidInput, "x"), 10, Verdict::Unknown),
            (Fault::new(Code::Overloaded, "x"), 10, Verdict::Unknown),
            (Fault::new(Code::NotReady, "x"), 10, Verdict::Unknown),
            (Fault::new(Code::TooManyRequests, "x"), 10, Verdict::Unknown),
            (late().blaming(Blame::Model), 10, Verdict::Bad),
            (late().blaming(Blame::Model), 5, Verdict::Bad),
            (late().blaming(Blame::Model), 4, Verdict::Unknown),
            (late(), 10, Verdict::Unknown),
        ];
        for (fault, left, expected) in cases {
            let shown = format!("{fault:?}, {left} of 10 s");
            let verdict = judge(&Err(fault), Duration::from_secs(left), Duration::from_secs(10));
            assert_eq!(verdict, expected, "{shown}");
        }
    }
}
