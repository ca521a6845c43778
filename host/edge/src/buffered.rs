//! How many bytes of bodies, of requests and of answers, the host holds in all. Counts only; knows no sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandmill_domain::{Code, Fault};

/// The host's account of buffered bytes.
#[derive(Debug)]
pub(crate) struct Buffered {
    bytes_max: usize,
    used: AtomicUsize,
}

impl Buffered {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, used: AtomicUsize::new(0) })
    }

    /// An empty share, which grows as bytes arrive: a client that only announces a body holds nothing.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { of: Arc::clone(self), bytes: 0 }
    }
}

/// One exchange's part: its request's body, then its answer's; given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Buffered>,
    bytes: usize,
}

impl Share {
    /// Whether `bytes` more would fit now, without taking them.
    pub(crate) fn has_room(&self, bytes: usize) -> Result<(), Fault> {
        let used = self.of.used.load(Ordering::Relaxed);
        if self.fits(used, bytes).is_some() { Ok(()) } else { Err(self.full()) }
    }

    /// Takes `bytes` more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        let taken = self.of.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| self.fits(used, bytes));
        taken.map_err(|_full| self.full())?;
        self.bytes += bytes;
        Ok(())
    }

    /// Is `bytes` from now on: what was held before is gone. Unchanged if that does not fit.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Fault> {
        let held = self.bytes;
        // What is held is part of what is used.
        let taken = self.of.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| self.fits(used - held, bytes));
        taken.map_err(|_full| self.full())?;
        self.bytes = bytes;
        Ok(())
    }

    fn fits(&self, used: usize, bytes: usize) -> Option<usize> {
        used.checked_add(bytes).filter(|sum| *sum <= self.of.bytes_max)
    }

    fn full(&self) -> Fault {
        let bytes_max = self.of.bytes_max;
        let message =
            format!("the host holds all the bodies it may, of requests and answers: {bytes_max} bytes (buffered_bytes_max)");
        Fault::new(Code::Overloaded, message)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_met_exactly_and_given_back() {
        let buffered = Buffered::new(10);
        let (mut first, mut second) = (buffered.share(), buffered.share());
        assert!(first.grow(7).is_ok());
        assert!(second.has_room(3).is_ok());
        assert!(second.has_room(4).is_err());
        assert!(second.grow(3).is_ok());
        assert_eq!(second.grow(1).map_err(|fault| fault.code), Err(Code::Overloaded));
        drop(first);
        assert!(second.grow(7).is_ok());
        assert!(second.grow(usize::MAX).is_err());
    }

    #[test]
    fn an_answer_takes_the_place_of_its_request() {
        let buffered = Buffered::new(10);
        let (mut first, mut second) = (buffered.share(), buffered.share());
        assert!(first.grow(7).is_ok());
        assert!(first.resize(10).is_ok());
        assert!(first.resize(4).is_ok());
        assert!(second.grow(6).is_ok());
        assert_eq!(first.resize(5).map_err(|fault| fault.code), Err(Code::Overloaded));
        assert!(second.resize(usize::MAX).is_err());
        drop(first);
        assert!(second.resize(10).is_ok());
        drop(second);
        assert!(buffered.share().grow(10).is_ok());
    }
}
