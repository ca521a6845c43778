//! How many bytes of bodies, of requests and of answers, are held in all: by the host, and of those for one tenant. Counts only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Code, Fault};

/// An account of held bytes.
#[derive(Debug)]
pub struct Bodies {
    bytes_max: AtomicUsize,
    used: AtomicUsize,
    /// What is said at the bound.
    code: Code,
    whose: &'static str,
}

impl Bodies {
    /// The host's, of so many bytes.
    pub fn of_host(bytes_max: usize) -> Arc<Self> {
        Self::new(bytes_max, Code::Overloaded, "host")
    }

    /// A tenant's.
    pub fn of_tenant(bytes_max: usize) -> Arc<Self> {
        Self::new(bytes_max, Code::TooManyRequests, "tenant")
    }

    fn new(bytes_max: usize, code: Code, whose: &'static str) -> Arc<Self> {
        Arc::new(Self { bytes_max: AtomicUsize::new(bytes_max), used: AtomicUsize::new(0), code, whose })
    }

    /// It holds so many bytes from now on; what is held stays held.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// An empty share, which grows as bytes arrive: a client that only announces a body holds nothing. It counts for the tenant as
    /// well, if there is one.
    pub fn share(self: &Arc<Self>, tenant: Option<Arc<Self>>) -> BodyShare {
        BodyShare { of: Arc::clone(self), tenant, bytes: 0 }
    }

    /// Takes `bytes` in the place of `held`. Less is always taken, also of an account whose bound was lowered.
    fn replace(&self, held: usize, bytes: usize) -> Result<(), Fault> {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        // What is held is part of what is used.
        let fits = |used: usize| (used - held).checked_add(bytes).filter(|sum| *sum <= bytes_max || bytes <= held);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(drop).map_err(|_used| self.full())
    }

    fn has_room(&self, bytes: usize) -> Result<(), Fault> {
        let sum = self.used.load(Ordering::Relaxed).checked_add(bytes);
        if sum.is_some_and(|sum| sum <= self.bytes_max.load(Ordering::Relaxed)) { Ok(()) } else { Err(self.full()) }
    }

    fn full(&self) -> Fault {
        let (whose, bytes_max) = (self.whose, self.bytes_max.load(Ordering::Relaxed));
        let message =
            format!("the {whose} holds all the bodies it may, of requests and answers: {bytes_max} bytes (buffered_bytes_max)");
        Fault::new(self.code, message)
    }
}

/// One exchange's part: its request's body, then its answer's; given back on drop.
#[derive(Debug)]
pub struct BodyShare {
    of: Arc<Bodies>,
    tenant: Option<Arc<Bodies>>,
    bytes: usize,
}

impl BodyShare {
    /// Whether `bytes` more would fit now, without taking them.
    ///
    /// # Errors
    /// `TooManyRequests` at the tenant's bound, `Overloaded` at the host's.
    pub fn has_room(&self, bytes: usize) -> Result<(), Fault> {
        self.tenant.iter().chain([&self.of]).try_for_each(|account| account.has_room(bytes))
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    /// As [`BodyShare::has_room`]; then nothing is taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        self.resize(self.bytes.saturating_add(bytes))
    }

    /// Is `bytes` from now on: what was held before is gone.
    ///
    /// # Errors
    /// As [`BodyShare::has_room`]; then it is unchanged.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Fault> {
        if let Some(tenant) = &self.tenant {
            tenant.replace(self.bytes, bytes)?;
        }
        if let Err(full) = self.of.replace(self.bytes, bytes) {
            // It was more, or it had fitted: less is always taken.
            let _back = self.tenant.as_ref().map(|tenant| tenant.replace(bytes, self.bytes));
            return Err(full);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        for account in self.tenant.iter().chain([&self.of]) {
            account.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(taken: Result<(), Fault>) -> Option<Code> {
        taken.err().map(|fault| fault.code)
    }

    #[test]
    fn the_bound_is_met_exactly_and_given_back() {
        let bodies = Bodies::of_host(10);
        let (mut first, mut second) = (bodies.share(None), bodies.share(None));
        assert!(first.grow(7).is_ok());
        assert!(second.has_room(3).is_ok());
        assert!(second.has_room(4).is_err());
        assert!(second.grow(3).is_ok());
        assert_eq!(code(second.grow(1)), Some(Code::Overloaded));
        drop(first);
        assert!(second.grow(7).is_ok());
        assert!(second.grow(usize::MAX).is_err());
    }

    #[test]
    fn an_answer_takes_the_place_of_its_request() {
        let bodies = Bodies::of_host(10);
        let (mut first, mut second) = (bodies.share(None), bodies.share(None));
        assert!(first.grow(7).is_ok());
        assert!(first.resize(10).is_ok());
        assert!(first.resize(4).is_ok());
        assert!(second.grow(6).is_ok());
        assert_eq!(code(first.resize(5)), Some(Code::Overloaded));
        assert!(second.resize(usize::MAX).is_err());
        drop(first);
        assert!(second.resize(10).is_ok());
        drop(second);
        assert!(bodies.share(None).grow(10).is_ok());
    }

    #[test]
    fn a_tenant_at_its_bound_leaves_the_host_to_others_and_the_hosts_bound_takes_nothing_of_a_tenant() {
        let (host, tenant) = (Bodies::of_host(10), Bodies::of_tenant(6));
        let share = || host.share(Some(Arc::clone(&tenant)));
        let mut first = share();
        assert!(first.grow(6).is_ok());
        assert_eq!(code(share().has_room(1)), Some(Code::TooManyRequests));
        assert_eq!(code(share().grow(1)), Some(Code::TooManyRequests));
        let mut other = host.share(None);
        assert!(other.grow(4).is_ok());
        drop(first);
        let mut second = share();
        assert!(other.grow(2).is_ok());
        assert_eq!(code(second.grow(5)), Some(Code::Overloaded));
        assert_eq!(tenant.used.load(Ordering::Relaxed), 0);
        assert!(second.grow(4).is_ok());
        // Lowered below what is held: less is taken, and no more.
        tenant.set_bytes_max(1);
        assert!(second.resize(3).is_ok());
        assert_eq!(code(second.resize(4)), Some(Code::TooManyRequests));
        drop((second, other));
        assert_eq!((host.used.load(Ordering::Relaxed), tenant.used.load(Ordering::Relaxed)), (0, 0));
    }
}
