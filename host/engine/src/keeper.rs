//! The threads that keep models alive: one replaces and unloads sessions, one after the other; some load those that calls wait for;
//! one sees whether quiet ones still work. And the memory that all sessions have together.

use std::cmp::Reverse;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use sandmill_domain::UnloadReason;

use crate::life::Life;
use crate::lock;
use crate::memory;
use crate::scaler;

/// Ages and memory are looked at so often.
const ROUND: Duration = Duration::from_secs(1);
/// Models that are seen to in one round, the quietest first: thousands that nobody calls must not keep a processor busy.
const PROBES_MAX: usize = 16;
/// Models that are loaded at once for calls that wait.
const LOADERS: usize = 2;

/// What all models share.
pub(crate) struct Keeper {
    lives: Mutex<Vec<Weak<Life>>>,
    /// Whether there is work before the next round, and whether this is the end.
    called: Mutex<Called>,
    woken: Condvar,
    /// None ends a loader.
    wanted: Sender<Option<Weak<Life>>>,
    /// The bytes of sessions, all together; none for whatever there is.
    memory_bytes_max: Option<usize>,
    /// Of sessions that are being made.
    reserved: AtomicUsize,
    /// Runs of all models that would not end.
    pub(crate) strays: AtomicIsize,
}

#[derive(Default)]
struct Called {
    by_models: bool,
    ended: bool,
}

/// The threads; dropping it ends them.
pub(crate) struct Threads {
    pub(crate) keeper: Arc<Keeper>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn start(memory_bytes_max: Option<usize>) -> io::Result<Self> {
        let (wanted, requests) = crossbeam_channel::unbounded();
        let keeper = Arc::new(Keeper {
            lives: Mutex::default(),
            called: Mutex::default(),
            woken: Condvar::new(),
            wanted,
            memory_bytes_max,
            reserved: AtomicUsize::new(0),
            strays: AtomicIsize::new(0),
        });
        let mut threads = Self { keeper, handles: Vec::new() };
        threads.spawn("engine-keeper", |keeper| keeper.tend())?;
        threads.spawn("engine-health", |keeper| keeper.probe())?;
        for _ in 0..LOADERS {
            let requests = requests.clone();
            threads.spawn("engine-loader", move |_| load(&requests))?;
        }
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Keeper) + Send + 'static) -> io::Result<()> {
        let keeper = Arc::clone(&self.keeper);
        self.handles.push(thread::Builder::new().name(name.to_owned()).spawn(move || work(&keeper))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.keeper.called).ended = true;
        self.keeper.woken.notify_all();
        for _ in 0..LOADERS {
            drop(self.keeper.wanted.send(None));
        }
        for thread in self.handles.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that keeps models panicked");
            }
        }
    }
}

/// A session's bytes while it is made.
pub(crate) struct Reserved<'a>(&'a Keeper, usize);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.reserved.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Keeper {
    /// Keeps a model from now on, as long as it is there.
    pub(crate) fn keep(&self, life: &Arc<Life>) {
        let mut lives = lock(&self.lives);
        lives.retain(|life| life.strong_count() > 0);
        lives.push(Arc::downgrade(life));
    }

    /// There is something to do.
    pub(crate) fn wake(&self) {
        lock(&self.called).by_models = true;
        self.woken.notify_all();
    }

    /// Calls of this model wait for a session.
    pub(crate) fn load(&self, life: &Life) {
        let found = lock(&self.lives).iter().find(|known| std::ptr::eq(known.as_ptr(), life)).cloned();
        if let Some(life) = found {
            drop(self.wanted.send(Some(life)));
        }
    }

    pub(crate) fn reserve(&self, bytes: usize) -> Reserved<'_> {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        Reserved(self, bytes)
    }

    /// Whether another session of so many bytes fits.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.excess(bytes) == 0 && memory::available_bytes().is_none_or(|left| bytes <= left)
    }

    /// By how much so many bytes more would be beyond the sessions' own bound.
    fn excess(&self, bytes: usize) -> usize {
        let held: usize = self.lives().iter().map(|life| life.memory_bytes()).sum();
        let wanted = held.saturating_add(self.reserved.load(Ordering::Relaxed)).saturating_add(bytes);
        self.memory_bytes_max.map_or(0, |max| wanted.saturating_sub(max))
    }

    /// The same, after sessions that may go have gone, the least recently used first; but for `life`, which wants the room.
    pub(crate) fn make_room(&self, bytes: usize, life: &Life) -> bool {
        let short = || memory::available_bytes().map_or(0, |left| bytes.saturating_sub(left));
        self.evict(Some(life), || self.excess(bytes).max(short()))
    }

    /// The same for the first session of a model that is not kept yet: it has its memory already.
    pub(crate) fn make_room_for_first(&self, bytes: usize) -> bool {
        self.evict(None, || self.excess(bytes))
    }

    /// Until nothing is lacking. What went may not be back with the system at once, nor go at all while it is in use: so it is
    /// asked after each what is lacking still.
    fn evict(&self, life: Option<&Life>, lacking: impl Fn() -> usize) -> bool {
        let mut others = self.lives();
        others.retain(|other| !life.is_some_and(|life| std::ptr::eq(Arc::as_ptr(other), life)));
        loop {
            let lacks = lacking();
            if lacks == 0 {
                return true;
            }
            let standings: Vec<_> = others.iter().map(|other| other.standing()).collect();
            let held: usize = standings.iter().map(|standing| standing.bytes).sum();
            let victims = held.checked_sub(lacks).and_then(|goal| scaler::victims(&standings, held, goal));
            let Some(first) = victims.and_then(|victims| victims.first().copied()) else { return false };
            others.remove(first).unload(UnloadReason::Memory);
        }
    }

    fn lives(&self) -> Vec<Arc<Life>> {
        lock(&self.lives).iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits for the next round, or to be woken; false at the end.
    fn wait(&self, is_woken: bool) -> bool {
        let mut called = lock(&self.called);
        let is_called = called.ended || (is_woken && called.by_models);
        if !is_called {
            called = self.woken.wait_timeout(called, ROUND).unwrap_or_else(PoisonError::into_inner).0;
        }
        if is_woken {
            called.by_models = false;
        }
        !called.ended
    }

    fn tend(&self) {
        while self.wait(true) {
            self.lives().iter().take_while(|_| !lock(&self.called).ended).for_each(|life| guard(|| life.tend()));
        }
    }

    fn probe(&self) {
        while self.wait(false) {
            let mut quiet: Vec<_> = self.lives().into_iter().filter_map(|life| Some((life.quiet()?, life))).collect();
            quiet.sort_by_key(|(since, _)| Reverse(*since));
            quiet.iter().take(PROBES_MAX).for_each(|(_, life)| guard(|| life.probe()));
        }
    }
}

fn load(requests: &Receiver<Option<Weak<Life>>>) {
    while let Ok(Some(life)) = requests.recv() {
        // One that has gone meanwhile has nobody waiting.
        if let Some(life) = life.upgrade() {
            guard(|| life.load());
        }
    }
}

/// One model's panic must not leave all others alone.
fn guard(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("what keeps a model panicked");
    }
}
