//! Compiled code that nobody runs gives its memory back: a host holds thousands of functions, most of which nobody calls just now.
//! Knows nothing of plugins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::precompiled::Code;

/// A plugin's code, watched from its first use until it has rested for a while.
pub(crate) struct Resting {
    code: Code,
    /// Without a use in this time its pages are given back; after twice this time at the latest.
    after: Duration,
    used: AtomicBool,
    watched: AtomicBool,
}

impl Resting {
    /// To load it has touched what a call may never need: that is given back now.
    pub(crate) fn new(code: Code, after: Duration) -> Arc<Self> {
        code.release();
        Arc::new(Self { code, after, used: AtomicBool::new(false), watched: AtomicBool::new(false) })
    }

    /// Tells that the code is about to run. On a thread of a runtime, where the watch is kept.
    pub(crate) fn touch(self: &Arc<Self>) {
        // Read before written: the threads that carry requests share these.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch(Arc::downgrade(self), self.after));
        }
    }

    /// Gives the pages back and is done, unless the code was used since this was last asked.
    fn is_done(&self) -> bool {
        let done = !self.used.swap(false, Ordering::Relaxed);
        if done {
            // A use from here on begins another watch. One just before it has its pages until that ends.
            self.watched.store(false, Ordering::Relaxed);
            self.code.release();
        }
        done
    }
}

/// Holds nobody's code.
async fn watch(code: Weak<Resting>, after: Duration) {
    while code.upgrade().is_some_and(|code| !code.is_done()) {
        tokio::time::sleep(after).await;
    }
}
