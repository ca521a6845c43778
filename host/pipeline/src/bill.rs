//! The running time of plugins whose call is cut off, by a client that goes away or a deadline: its future is dropped, no outcome
//! tells of it, and it was used all the same.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sandmill_domain::ports::Guest;

use crate::release::Release;

/// What the plugins of one call have run.
pub(crate) struct Bill<'a> {
    release: &'a Release,
    nanos: Arc<AtomicU64>,
    settled: AtomicBool,
}

/// A guest whose running time goes to its call's bill when it is dropped.
pub(crate) struct Billed {
    guest: Box<dyn Guest>,
    nanos: Arc<AtomicU64>,
}

impl<'a> Bill<'a> {
    pub(crate) fn of(release: &'a Release) -> Self {
        Self { release, nanos: Arc::default(), settled: AtomicBool::new(false) }
    }

    pub(crate) fn guest(&self, guest: Box<dyn Guest>) -> Billed {
        Billed { guest, nanos: Arc::clone(&self.nanos) }
    }

    /// The call has an outcome, which tells of all that its plugins ran.
    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Bill<'_> {
    fn drop(&mut self) {
        let running = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        if let (false, Some(told)) = (self.settled.load(Ordering::Relaxed) || running.is_zero(), self.release.cut_off.get()) {
            told(running);
        }
    }
}

impl Drop for Billed {
    fn drop(&mut self) {
        let running = u64::try_from(self.guest.usage().running.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(running, Ordering::Relaxed);
    }
}

impl Deref for Billed {
    type Target = dyn Guest;

    fn deref(&self) -> &Self::Target {
        &*self.guest
    }
}

impl DerefMut for Billed {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.guest
    }
}
