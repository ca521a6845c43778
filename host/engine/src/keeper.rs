//! The threads that keep models alive: one replaces and unloads sessions, one after the other; some load those that calls wait for;
//! one sees whether quiet ones still work. And the memory that all sessions have together.

use std::cmp::Reverse;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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
    called: Mutex<Called>,
    /// There is work before the next round.
    woken: Condvar,
    /// This is the end.
    over: Condvar,
    /// None ends a loader.
    wanted: Sender<Option<Weak<Life>>>,
    /// The bytes of sessions, all together; none for whatever there is.
    memory_bytes_max: Option<usize>,
    /// Of sessions that are being made.
    reserved: AtomicUsize,
    /// Runs of all models that would not end, also of such as are gone.
    pub(crate) strays: Arc<AtomicIsize>,
}

#[derive(Default)]
struct Called {
    /// Who has work before the next round, each once.
    models: Vec<Weak<Life>>,
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
            over: Condvar::new(),
            wanted,
            memory_bytes_max,
            reserved: AtomicUsize::new(0),
            strays: Arc::default(),
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
        self.keeper.over.notify_all();
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

    /// There is something to do for this model.
    pub(crate) fn wake(&self, life: &Life) {
        let Some(life) = self.find(life) else { return };
        let mut called = lock(&self.called);
        if !called.models.iter().any(|known| known.ptr_eq(&life)) {
            called.models.push(life);
        }
        drop(called);
        self.woken.notify_all();
    }

    /// Calls of this model wait for a session.
    pub(crate) fn load(&self, life: &Life) {
        if let Some(life) = self.find(life) {
            drop(self.wanted.send(Some(life)));
        }
    }

    fn find(&self, life: &Life) -> Option<Weak<Life>> {
        lock(&self.lives).iter().find(|known| std::ptr::eq(known.as_ptr(), life)).cloned()
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
        let Some(max) = self.memory_bytes_max else { return 0 };
        let held: usize = self.lives().iter().map(|life| life.memory_bytes()).sum();
        held.saturating_add(self.reserved.load(Ordering::Relaxed)).saturating_add(bytes).saturating_sub(max)
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

    /// All models once a round, and in between those that have called.
    fn tend(&self) {
        let mut round = Instant::now() + ROUND;
        while let Some(called) = self.wait(round) {
            let now = Instant::now();
            let lives = if now < round { called.iter().filter_map(Weak::upgrade).collect() } else { self.lives() };
            round = if now < round { round } else { now + ROUND };
            lives.iter().take_while(|_| !lock(&self.called).ended).for_each(|life| guard(|| life.tend()));
        }
    }

    /// Waits for the next round, or until models call: for those; none at the end.
    fn wait(&self, round: Instant) -> Option<Vec<Weak<Life>>> {
        let left = round.saturating_duration_since(Instant::now());
        let wait = self.woken.wait_timeout_while(lock(&self.called), left, |called| !called.ended && called.models.is_empty());
        let mut called = wait.unwrap_or_else(PoisonError::into_inner).0;
        (!called.ended).then(|| std::mem::take(&mut called.models))
    }

    /// Waits for a whole round; false at the end.
    fn pause(&self) -> bool {
        let wait = self.over.wait_timeout_while(lock(&self.called), ROUND, |called| !called.ended);
        !wait.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    fn probe(&self) {
        while self.pause() {
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
