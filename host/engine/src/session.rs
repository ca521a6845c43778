//! A model's session: its weights and memory in the runtime, what it has been through, and the seat on which one is swapped for
//! another. Knows nothing of when that happens and of queues.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use ort::session::RunOptions;
use sandmill_domain::{Fault, Tensor};

use crate::golden::Golden;
use crate::pool::Pool;
use crate::raw::{DeviceFailure, RawSession, Room};
use crate::recycler::Wear;

/// A loaded model that any number of threads may run at once. Implemented on the runtime here, and by whoever tests what the
/// engine does with sessions that fail.
pub trait Session: Send + Sync {
    /// Runs the model once; outputs in the order of its signature.
    ///
    /// # Errors
    /// `ModelFailed`, `InvalidInput`, `Overloaded`; also when `stop` was pulled from another thread.
    fn run(&self, inputs: &[Tensor], stop: Stop<'_>) -> Result<Vec<Tensor>, Fault>;

    /// The bytes that it holds by its own account.
    fn memory_bytes(&self) -> usize;
}

/// What ends a run from another thread.
#[derive(Clone, Copy)]
pub struct Stop<'a>(pub(crate) &'a RunOptions);

/// A session of ONNX Runtime's.
pub(crate) struct OnnxSession {
    pub(crate) raw: RawSession,
    pub(crate) pool: Arc<Pool>,
    pub(crate) output_bytes_max: usize,
}

impl Session for OnnxSession {
    fn run(&self, inputs: &[Tensor], stop: Stop<'_>) -> Result<Vec<Tensor>, Fault> {
        self.raw.run(inputs, stop.0, Room { lender: &*self.pool, output_bytes_max: self.output_bytes_max })
    }

    fn memory_bytes(&self) -> usize {
        self.raw.memory_bytes()
    }
}

/// A session in use, and what it has been through.
pub(crate) struct Live {
    pub(crate) session: Box<dyn Session>,
    pub(crate) born: Instant,
    /// What it held when it was warm.
    pub(crate) warm_bytes: usize,
    served: AtomicU64,
    failures: AtomicU32,
    overran: AtomicBool,
    abandoned: AtomicBool,
    device_failed: AtomicBool,
    /// Milliseconds from its birth to its last run that succeeded.
    good_ms: AtomicU64,
}

impl Live {
    /// A session that is warm.
    pub(crate) fn new(session: Box<dyn Session>) -> Arc<Self> {
        Arc::new(Self {
            warm_bytes: session.memory_bytes(),
            session,
            born: Instant::now(),
            served: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            overran: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            device_failed: AtomicBool::new(false),
            good_ms: AtomicU64::new(0),
        })
    }

    /// A run of so many calls was good; the number of calls that it has answered with these.
    pub(crate) fn good(&self, calls: usize) -> u64 {
        self.works();
        self.served.fetch_add(calls as u64, Ordering::Relaxed) + calls as u64
    }

    /// It gave a good answer just now.
    pub(crate) fn works(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.good_ms.store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A run failed, and not for its inputs; with a fault, if it was a call's.
    pub(crate) fn bad(&self, fault: Option<&Fault>) {
        self.served.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        if fault.and_then(Fault::source).is_some_and(|source| source.is::<DeviceFailure>()) {
            self.device_failed.store(true, Ordering::Relaxed);
        }
    }

    /// A run had to be ended at its deadline.
    pub(crate) fn overran(&self) {
        self.overran.store(true, Ordering::Relaxed);
    }

    /// A run of it does not end.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Since its last good answer, or its birth.
    pub(crate) fn quiet(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.good_ms.load(Ordering::Relaxed)))
    }

    /// Calls that it has answered.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn wear(&self, by_hand: bool) -> Wear {
        Wear {
            served: self.served(),
            age: self.born.elapsed(),
            growth_bytes: self.session.memory_bytes().saturating_sub(self.warm_bytes),
            failures: self.failures.load(Ordering::Relaxed),
            overran: self.overran.load(Ordering::Relaxed),
            abandoned: self.abandoned.load(Ordering::Relaxed),
            device_failed: self.device_failed.load(Ordering::Relaxed),
            by_hand,
        }
    }
}

/// Where a model's session is found by its runs, if there is any.
#[derive(Default)]
pub(crate) struct Seat {
    current: ArcSwapOption<Live>,
    golden: OnceLock<Arc<Golden>>,
    /// Calls after which somebody should look whether it is worn.
    requests_max: AtomicU64,
}

impl Seat {
    pub(crate) fn get(&self) -> Option<Arc<Live>> {
        self.current.load_full()
    }

    /// What it is known to work by.
    pub(crate) fn golden(&self) -> Option<&Arc<Golden>> {
        self.golden.get()
    }

    /// The first pair holds.
    pub(crate) fn remember(&self, golden: Arc<Golden>) {
        drop(self.golden.set(golden));
    }

    pub(crate) fn requests_max(&self) -> u64 {
        self.requests_max.load(Ordering::Relaxed)
    }

    pub(crate) fn set_requests_max(&self, max: u64) {
        self.requests_max.store(max, Ordering::Relaxed);
    }

    /// Puts another session, or none, in its place.
    pub(crate) fn swap(&self, live: Option<Arc<Live>>) -> Option<Arc<Live>> {
        self.current.swap(live)
    }
}
