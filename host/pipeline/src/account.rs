//! What all functions of one tenant use together: requests, their bodies, plugin instances, also those that wait for a model, and
//! their memory. Taken with the ticket, before a body is read, so that a tenant at its bound costs the others nothing. Besides, the tenant's weight,
//! by which its calls take turns with those of others.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sandmill_domain::fair::Flow;
use sandmill_domain::ports::{BoxFuture, Share};
use sandmill_domain::{Advice, Bodies, Bucket, Code, Fault, TenantLimits};

use crate::clock::now;
use crate::turns::{Party, Turns};

/// One tenant's account.
#[derive(Debug)]
pub struct Account {
    book: Mutex<Book>,
    pub(crate) bodies: Arc<Bodies>,
    party: Party,
}

#[derive(Debug)]
struct Book {
    limits: TenantLimits,
    used: Used,
    bucket: Bucket,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    requests: usize,
    instances: usize,
    memory_bytes: usize,
}

/// A request, and, if plugins take part in it, an instance and its memory; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    account: Arc<Account>,
    /// None without plugins.
    memory_bytes: Option<usize>,
}

impl Account {
    /// An account that nothing has been taken from, of a tenant that takes turns with nobody.
    pub fn new(limits: TenantLimits) -> Arc<Self> {
        Self::sharing(limits, NonZeroU32::MIN, &Turns::new(1))
    }

    /// Of one that takes turns with all others of these turns: of a weight of 3, it has three times what one of a weight of 1 has.
    pub fn sharing(limits: TenantLimits, weight: NonZeroU32, turns: &Arc<Turns>) -> Arc<Self> {
        let bucket = Bucket::full(now());
        let book = Mutex::new(Book { limits, used: Used::default(), bucket });
        let bodies = Bodies::of_tenant(limits.buffered_bytes_max);
        Arc::new(Self { book, bodies, party: Party::new(turns, weight) })
    }

    /// Its bounds.
    pub fn limits(&self) -> TenantLimits {
        self.book().limits
    }

    /// It has these bounds from now on; what is taken stays taken.
    pub fn set_limits(&self, limits: TenantLimits) {
        self.book().limits = limits;
        self.bodies.set_bytes_max(limits.buffered_bytes_max);
    }

    /// It has this weight from now on, calls under way included.
    pub fn set_weight(&self, weight: NonZeroU32) {
        self.party.set_weight(weight);
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request, with an instance whose memory may grow to this much if plugins take part in it.
    ///
    /// # Errors
    /// `TooManyRequests`, naming the bound and when to come back.
    pub(crate) fn claim(self: &Arc<Self>, memory_bytes: Option<usize>) -> Result<Claim, Fault> {
        self.book().claim(memory_bytes, now())?;
        Ok(Claim { account: Arc::clone(self), memory_bytes })
    }
}

impl Share for Account {
    fn flow(&self) -> Flow {
        self.party.flow
    }

    fn weight(&self) -> NonZeroU32 {
        self.party.weight()
    }

    fn pace(self: Arc<Self>, mut work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.party.pace(Pin::new(&mut work)).await.0 })
    }
}

impl Claim {
    /// By what the call takes its turns.
    pub(crate) fn party(&self) -> &Party {
        &self.account.party
    }
}

impl Book {
    fn claim(&mut self, memory_bytes: Option<usize>, now: Instant) -> Result<(), Fault> {
        let (limits, used) = (&self.limits, &self.used);
        if used.requests >= limits.concurrency_max {
            return Err(full(&format!("has {} requests under way, its limit (concurrency_max)", limits.concurrency_max)));
        }
        let mut taken = Used { requests: used.requests + 1, ..*used };
        if let Some(bytes) = memory_bytes {
            if used.instances >= limits.instances_max {
                return Err(full(&format!("has {} plugin instances at work, its limit (instances_max)", limits.instances_max)));
            }
            taken = Used { instances: used.instances + 1, memory_bytes: used.memory_bytes.saturating_add(bytes), ..taken };
            if taken.memory_bytes > limits.guest_memory_bytes_max {
                let (bytes, max) = (taken.memory_bytes, limits.guest_memory_bytes_max);
                return Err(full(&format!(
                    "would have {bytes} bytes of plugin memory in use, beyond its limit of {max} (guest_memory_bytes_max)"
                )));
            }
        }
        // Last: whoever is refused for another reason has not used up a request.
        if let Some(rate) = limits.requests_per_second_max {
            self.bucket.take(f64::from(rate.get()), f64::from(rate.get()), now).map_err(|wait| {
                full(&format!("begins more than {rate} requests per second, its limit (requests_per_second_max)"))
                    .advising(Advice::RetryAfter(wait))
            })?;
        }
        self.used = taken;
        Ok(())
    }
}

fn full(what: &str) -> Fault {
    Fault::new(Code::TooManyRequests, format!("the tenant {what}"))
}

impl Drop for Claim {
    fn drop(&mut self) {
        let used = &mut self.account.book().used;
        used.requests -= 1;
        if let Some(bytes) = self.memory_bytes {
            used.instances -= 1;
            used.memory_bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn claims_are_bounded_and_come_back() {
        let plenty = TenantLimits::UNLIMITED;
        let account = Account::new(TenantLimits { instances_max: 2, guest_memory_bytes_max: 100, concurrency_max: 3, ..plenty });
        let refused = |bytes| account.claim(bytes).unwrap_err();
        let one = account.claim(Some(60)).unwrap();
        assert_eq!(refused(Some(50)).code, Code::TooManyRequests);
        assert!(refused(Some(50)).message.contains("guest_memory_bytes_max"));
        let two = account.claim(Some(40)).unwrap();
        assert!(refused(Some(0)).message.contains("instances_max"));
        let three = account.claim(None).unwrap();
        assert!(refused(None).message.contains("concurrency_max"));
        drop((one, two, three));
        assert_eq!(account.book().used, Used::default());
    }

    #[test]
    fn requests_come_at_their_rate_and_those_refused_use_up_none() {
        let rate = |rate: u32| TenantLimits { requests_per_second_max: rate.try_into().ok(), ..TenantLimits::UNLIMITED };
        let account = Account::new(rate(10));
        let begun = now();
        let begin = |ms| account.book().claim(None, begun + Duration::from_millis(ms));
        for _ in 0..10 {
            begin(0).unwrap();
        }
        for _ in 0..3 {
            let fault = begin(40).unwrap_err();
            assert!(fault.message.contains("requests_per_second_max"), "{fault}");
            let Some(Advice::RetryAfter(wait)) = fault.advice else { panic!("{fault:?}") };
            assert!((59..=61).contains(&wait.as_millis()), "{wait:?}");
        }
        begin(101).unwrap();
        assert!(begin(101).is_err());
        // A rest saves up a second's worth and no more.
        assert_eq!((0..20).filter(|_| begin(60_000).is_ok()).count(), 10);
        account.set_limits(rate(1));
        begin(61_000).unwrap();
        assert!(begin(61_000).is_err());
        account.set_limits(TenantLimits::UNLIMITED);
        begin(61_000).unwrap();
    }
}
