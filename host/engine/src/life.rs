//! The sessions of one model, one after the other: loaded when a call waits, replaced when they are worn, dropped when nobody calls.
//! What to do when is for the recycler to say; this does it. Blocking: it is for threads that carry no requests.

use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sandmill_domain::{Deadline, FailureKind, Fault, ModelEvent, ModelInfo, ModelStage, RecycleReason, UnloadReason};

use crate::builder::{Again, Builder, Known};
use crate::context::Patron;
use crate::golden::Golden;
use crate::keeper::Keeper;
use crate::load::{LoadError, ModelOptions, ModelSource};
use crate::lock;
use crate::memory;
use crate::queue::Queue;
use crate::recycler::{Order, Recycler};
use crate::scaler::{self, Retries, Standing};
use crate::session::{Live, Seat};
use crate::trial::Trial;
use crate::warm_up::Warm;

/// How long runs on a session that is replaced may take to end before it is left to go by itself.
const DRAIN: Duration = Duration::from_secs(5);
/// Who looks whether the last of them has ended looks so often.
const DRAIN_STEP: Duration = Duration::from_millis(1);
/// For a run to end that was told to.
const PROBE_GRACE: Duration = Duration::from_secs(2);

/// Told of what happens to a model.
pub(crate) type Told = dyn Fn(&ModelEvent) + Send + Sync;

/// What a model's life is made of.
pub(crate) struct Parts {
    pub(crate) builder: Builder,
    pub(crate) source: ModelSource,
    pub(crate) options: ModelOptions,
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) golden: Arc<Golden>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) keeper: Weak<Keeper>,
}

/// The sessions of one model.
pub(crate) struct Life {
    parts: Parts,
    warm: OnceLock<Warm>,
    told: OnceLock<Box<Told>>,
    state: Mutex<State>,
    /// When it may go, whatever its options say: it belongs to a release that does not answer.
    spare: Mutex<Option<Duration>>,
    /// Somebody wants it gone until it is called.
    put_down: AtomicBool,
    /// Held by whoever makes, swaps or drops a session.
    work: Mutex<()>,
    /// Runs that would not end; below zero for a moment if one ends while it is given up.
    strays: AtomicIsize,
    /// Whether the golden inputs are run.
    probing: Arc<AtomicBool>,
    /// Why it has no session, if that went before anybody could be told.
    gone_before: Mutex<Option<UnloadReason>>,
    /// The bytes of sessions that are no longer on the seat and not gone yet.
    outgoing: Mutex<Vec<Weak<Live>>>,
}

struct State {
    recycler: Recycler,
    by_hand: bool,
    /// What a session takes.
    cost: usize,
    retries: Retries,
    ailing: Option<String>,
}

impl Life {
    /// Of a model whose first session is on the seat.
    pub(crate) fn new(parts: Parts, cost: usize) -> Self {
        let recycler = Recycler::new(parts.options.budget, chance());
        parts.seat.set_requests_max(recycler.requests_max().unwrap_or(u64::MAX));
        let state = State { recycler, by_hand: false, cost, retries: Retries::default(), ailing: None };
        let (warm, told) = (OnceLock::new(), OnceLock::new());
        let (state, spare, work, outgoing) = (Mutex::new(state), Mutex::default(), Mutex::default(), Mutex::default());
        let gone_before = Mutex::default();
        let (put_down, strays, probing) = (AtomicBool::new(false), AtomicIsize::new(0), Arc::default());
        Self { parts, warm, told, state, spare, put_down, work, strays, probing, gone_before, outgoing }
    }

    /// What it is loaded from.
    pub(crate) fn source(&self) -> &ModelSource {
        &self.parts.source
    }

    /// All sessions are warmed up with this, the present one at once; the first holds. Blocks.
    pub(crate) fn adopt(&self, warm: Warm) {
        if self.warm.set(warm).is_ok()
            && let Some(live) = self.parts.seat.get()
        {
            self.parts.builder.warm(&live, &self.parts.options, self.known());
        }
    }

    fn known(&self) -> Known {
        let Parts { info, golden, .. } = &self.parts;
        Known { info: Arc::clone(info), golden: Arc::clone(golden), warm: self.warm.get().cloned() }
    }

    /// Tells of each event from now on; the first who asks is told. Until somebody does, it is being deployed, and not idle.
    pub(crate) fn watch(&self, told: Box<Told>) {
        let gone_before = {
            let mut gone = lock(&self.gone_before);
            if self.told.set(told).is_err() {
                return;
            }
            gone.take()
        };
        self.parts.queue.touch();
        // It may have had to make room already.
        if let Some(reason) = gone_before {
            self.tell(&ModelEvent::Unloaded { reason });
        }
    }

    /// Another session is made at the next opportunity.
    pub(crate) fn recycle(&self) {
        lock(&self.state).by_hand = true;
        self.wake();
    }

    /// A session is made, if there is none, before anybody calls.
    pub(crate) fn fetch(&self) {
        self.put_down.store(false, Ordering::Release);
        if self.parts.seat.get().is_none()
            && let Some(keeper) = self.parts.keeper.upgrade()
        {
            self.parts.queue.shut();
            keeper.load(self);
        }
    }

    /// Its session goes as soon as nobody uses it, also if it must always be there otherwise.
    pub(crate) fn put_down(&self) {
        self.put_down.store(true, Ordering::Release);
        self.wake();
    }

    /// What is wrong with it, found by running it.
    pub(crate) fn ailing(&self) -> Option<String> {
        let state = lock(&self.state);
        if let Some(ailing) = &state.ailing {
            return Some(ailing.clone());
        }
        self.is_missed().then(|| "it has no session at the moment".to_owned())
    }

    /// Whether it must always have a session and has none.
    pub(crate) fn is_missed(&self) -> bool {
        self.is_kept() && self.parts.seat.get().is_none()
    }

    pub(crate) fn stage(&self) -> ModelStage {
        match (self.parts.seat.get(), self.parts.queue.is_shut()) {
            (Some(_), _) => ModelStage::Warm,
            (None, true) => ModelStage::Loading,
            (None, false) => ModelStage::Unloaded,
        }
    }

    pub(crate) fn strays(&self) -> usize {
        usize::try_from(self.strays.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether it must always have a session.
    pub(crate) fn is_kept(&self) -> bool {
        self.parts.options.contexts_min > 0 && lock(&self.spare).is_none() && !self.put_down.load(Ordering::Acquire)
    }

    /// It need not have a session any more, and has none when nobody has called it for so long; with none, it is kept as its
    /// options say.
    pub(crate) fn spare(&self, idle: Option<Duration>) {
        let before = std::mem::replace(&mut *lock(&self.spare), idle);
        if before != idle {
            self.wake();
        }
    }

    fn idle_max(&self) -> Option<Duration> {
        let spare = *lock(&self.spare);
        spare.or(self.parts.options.idle_max)
    }

    fn name(&self) -> &str {
        &self.parts.info.name
    }

    fn wake(&self) {
        if let Some(keeper) = self.parts.keeper.upgrade() {
            keeper.wake(self);
        }
    }

    /// A call of it was answered with this.
    pub(crate) fn failed(&self, fault: &Fault) {
        if let Some(kind) = FailureKind::of(fault) {
            self.tell(&ModelEvent::Failed { kind });
        }
    }

    fn tell(&self, event: &ModelEvent) {
        if let Some(told) = self.told.get() {
            told(event);
        }
    }

    /// The bytes of all its sessions, those that go included.
    pub(crate) fn memory_bytes(&self) -> usize {
        let mut outgoing = lock(&self.outgoing);
        outgoing.retain(|live| live.strong_count() > 0);
        let going = outgoing.iter().filter_map(Weak::upgrade);
        going.chain(self.parts.seat.get()).map(|live| live.session.memory_bytes()).sum()
    }

    /// Where it stands among those that may go.
    pub(crate) fn standing(&self) -> Standing {
        Standing { kept: self.is_kept(), asked: self.parts.queue.asked(), bytes: self.memory_bytes() }
    }

    /// Does what is due, if nobody else is at it.
    pub(crate) fn tend(&self) {
        let _work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.parts.queue.is_closed() {
            return;
        }
        let now = Instant::now();
        let Some(live) = self.parts.seat.get() else {
            let is_due = lock(&self.state).retries.is_due(now);
            if self.is_kept() && is_due {
                self.parts.queue.shut();
                self.load_now();
            }
            return;
        };
        // Whoever shut it is done, or broke.
        if self.parts.queue.is_shut() {
            self.parts.queue.open();
        }
        if self.put_down.load(Ordering::Acquire) {
            drop(live);
            self.unload_now(UnloadReason::Request);
            return;
        }
        let order = {
            let mut state = lock(&self.state);
            let (wear, cost) = (live.wear(state.by_hand), state.cost);
            let (recycler, order) = state.recycler.next(&wear, || self.has_room(cost), now);
            state.recycler = recycler;
            order
        };
        match order {
            Order::Beside(reason) => self.replace_beside(live, reason),
            Order::InPlace(reason) => self.replace_in_place(live, reason),
            Order::Keep => {
                let is_deployed = self.told.get().is_some();
                if is_deployed && scaler::is_idle(self.is_kept(), self.parts.queue.asked(), self.idle_max(), now) {
                    drop(live);
                    self.unload_now(UnloadReason::Idle);
                }
            }
        }
    }

    /// A session is made for the calls that wait.
    pub(crate) fn load(&self) {
        let _work = lock(&self.work);
        self.load_now();
    }

    /// Its session goes, unless somebody uses it or is at it; whether it went.
    pub(crate) fn unload(&self, reason: UnloadReason) -> bool {
        if self.is_kept() {
            return false;
        }
        let Ok(_work) = self.work.try_lock() else { return false };
        self.unload_now(reason)
    }

    fn unload_now(&self, reason: UnloadReason) -> bool {
        if self.parts.seat.get().is_none() || !self.parts.queue.unload() {
            return false;
        }
        if let Some(live) = self.parts.seat.swap(None) {
            self.let_go(live, false);
        }
        lock(&self.state).ailing = None;
        tracing::info!(model = self.name(), reason = reason.as_str(), "unloaded until its next call");
        let is_told = {
            let mut gone = lock(&self.gone_before);
            let is_told = self.told.get().is_some();
            *gone = (!is_told).then_some(reason);
            is_told
        };
        if is_told {
            self.tell(&ModelEvent::Unloaded { reason });
        }
        true
    }

    fn load_now(&self) {
        if self.parts.queue.is_closed() {
            return;
        }
        if self.parts.seat.get().is_some() {
            self.parts.queue.open();
            return;
        }
        let cost = lock(&self.state).cost;
        let made = match self.make_room(cost) {
            true => self.make(true),
            false => Err(LoadError::NoMemory { bytes: cost }),
        };
        match made {
            Ok(Again { live, load, warm_up }) => {
                self.seat(live, None);
                *lock(&self.gone_before) = None;
                tracing::info!(model = self.name(), ?load, ?warm_up, "loaded again");
                self.tell(&ModelEvent::Loaded { load, warm_up });
                self.parts.queue.open();
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// Nobody waits for a session that cannot be made.
    fn refuse(&self, error: &LoadError) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let retry = state.retries.fail(now);
        drop(state);
        tracing::error!(model = self.name(), %error, again_in = ?(retry - now), "it cannot be loaded again");
        self.parts.queue.refuse(retry, &error.to_string());
        self.tell(&ModelEvent::LoadFailed);
    }

    fn replace_beside(&self, old: Arc<Live>, reason: RecycleReason) {
        let begun = Instant::now();
        // On a busy machine there may never be a moment that nobody else wants.
        let urgent = lock(&self.state).recycler.has_failed();
        match self.make(urgent) {
            Ok(Again { live, .. }) => {
                self.seat(live, Some(reason));
                let took = begun.elapsed();
                self.recycled(old, reason, took);
            }
            Err(error) => self.not_recycled(&error, reason),
        }
    }

    /// The old session goes before the new one comes: calls wait meanwhile.
    fn replace_in_place(&self, old: Arc<Live>, reason: RecycleReason) {
        let begun = Instant::now();
        // Whoever cannot even read the file has nothing to put in its place.
        if let Err(error) = (self.parts.source.read)() {
            return self.not_recycled(&LoadError::Read(error), reason);
        }
        self.parts.queue.shut();
        // A run that does not end keeps its session, and nobody else.
        self.parts.queue.rest(begun + DRAIN);
        drop(self.parts.seat.swap(None));
        let held_bytes = old.session.memory_bytes();
        let not_returned = self.let_go_measured(old, held_bytes, true);
        let cost = lock(&self.state).cost;
        let made = if self.make_room(cost) { self.make(true) } else { Err(LoadError::NoMemory { bytes: cost }) };
        match made {
            Ok(Again { live, .. }) => {
                self.seat(live, Some(reason));
                let took = begun.elapsed();
                tracing::info!(
                    model = self.name(),
                    reason = reason.as_str(),
                    ?took,
                    "its session was replaced, while calls waited"
                );
                self.tell(&ModelEvent::Recycled { reason, took, held: took, not_returned_bytes: not_returned });
                self.parts.queue.open();
            }
            Err(error) => {
                self.not_recycled(&error, reason);
                self.refuse(&error);
            }
        }
    }

    fn recycled(&self, old: Arc<Live>, reason: RecycleReason, took: Duration) {
        let held_bytes = old.session.memory_bytes();
        let not_returned_bytes = self.let_go_measured(old, held_bytes, false);
        tracing::info!(model = self.name(), reason = reason.as_str(), ?took, not_returned_bytes, "its session was replaced");
        self.tell(&ModelEvent::Recycled { reason, took, held: Duration::ZERO, not_returned_bytes });
    }

    fn not_recycled(&self, error: &LoadError, reason: RecycleReason) {
        let mut state = lock(&self.state);
        state.recycler = state.recycler.failed(Instant::now());
        drop(state);
        tracing::warn!(model = self.name(), reason = reason.as_str(), %error, "its session cannot be replaced yet");
        self.tell(&ModelEvent::RecycleFailed { reason });
    }

    /// Puts a warm session on the seat.
    fn seat(&self, live: Arc<Live>, replaces: Option<RecycleReason>) {
        let mut state = lock(&self.state);
        state.cost = state.cost.max(live.warm_bytes);
        state.recycler = match replaces {
            Some(reason) => state.recycler.replaced(reason, chance(), Instant::now()),
            None => Recycler::new(self.parts.options.budget, chance()),
        };
        state.by_hand = false;
        state.ailing = None;
        state.retries = Retries::default();
        self.parts.seat.set_requests_max(state.recycler.requests_max().unwrap_or(u64::MAX));
        drop(state);
        self.put_down.store(false, Ordering::Release);
        drop(self.parts.seat.swap(Some(live)));
    }

    fn make(&self, urgent: bool) -> Result<Again, LoadError> {
        let Parts { builder, source, options, .. } = &self.parts;
        let keeper = self.parts.keeper.upgrade();
        let _reserved = keeper.as_ref().map(|keeper| keeper.reserve(lock(&self.state).cost));
        builder.again(source, options, self.known(), urgent)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.parts.keeper.upgrade().is_none_or(|keeper| keeper.has_room(bytes))
    }

    fn make_room(&self, bytes: usize) -> bool {
        self.parts.keeper.upgrade().is_none_or(|keeper| keeper.make_room(bytes, self))
    }

    /// Drops a session when its last run has ended: here, or where that is, if it takes too long.
    fn let_go(&self, live: Arc<Live>, urgent: bool) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.retain(|live| live.strong_count() > 0);
        outgoing.push(Arc::downgrade(&live));
        drop(outgoing);
        let until = Instant::now() + if self.strays() > 0 { Duration::ZERO } else { DRAIN };
        while Arc::strong_count(&live) > 1 && Instant::now() < until {
            thread::park_timeout(DRAIN_STEP);
        }
        // To give memory back stops whoever else asks the kernel for some.
        let hands = if urgent { &self.parts.builder.urgent } else { &self.parts.builder.calm };
        let gone = hands.within(DRAIN, move || {
            drop(live);
            memory::give_back();
        });
        if let Err(error) = gone {
            tracing::warn!(model = self.name(), %error, "a session is dropped by nobody");
        }
    }

    /// The same; how much less the process has become smaller by than what the session held.
    fn let_go_measured(&self, live: Arc<Live>, held_bytes: usize, urgent: bool) -> usize {
        let before = memory::resident_bytes();
        self.let_go(live, urgent);
        let returned = before.zip(memory::resident_bytes()).map(|(before, after)| before.saturating_sub(after));
        returned.map_or(0, |returned| held_bytes.saturating_sub(returned))
    }

    /// For how long it has given no good answer, if somebody should see whether it still works: that is long, or it did not before.
    pub(crate) fn quiet(&self) -> Option<Duration> {
        let ails = lock(&self.state).ailing.is_some();
        let quiet = self.parts.seat.get()?.quiet();
        (ails || quiet >= self.parts.options.health_interval).then_some(quiet)
    }

    /// Runs the golden inputs on its session, if it has one. That is not a use of it.
    pub(crate) fn probe(&self) {
        let Some(live) = self.parts.seat.get() else { return };
        // One that does not end says enough.
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (builder, golden, probed) = (self.parts.builder.clone(), Arc::clone(&self.parts.golden), Arc::clone(&live));
        let (probing, time) = (Arc::clone(&self.probing), golden.time());
        let checked = self.parts.builder.urgent.within(time + PROBE_GRACE, move || {
            let deadline = Deadline::after(Instant::now(), time);
            let trial = Trial { session: &*probed.session, watchdog: &builder.watchdog, deadline, alone: false, shrink: true };
            let checked = golden.check(trial);
            probing.store(false, Ordering::Release);
            checked
        });
        let ailing = match checked {
            Ok(Some(Ok(()))) => None,
            Ok(Some(Err(why))) => Some(why),
            Ok(None) => Some("a run on inputs that it ran on before does not end".to_owned()),
            // Not the model's matter.
            Err(error) => {
                self.probing.store(false, Ordering::Release);
                return tracing::warn!(model = self.name(), %error, "its health cannot be told");
            }
        };
        match &ailing {
            None => live.works(),
            Some(why) => {
                live.bad(None);
                tracing::warn!(model = self.name(), why, "it does not work");
            }
        }
        let is_there = self.parts.seat.get().is_some_and(|current| Arc::ptr_eq(&current, &live));
        if is_there {
            lock(&self.state).ailing = ailing;
        }
    }
}

impl Patron for Life {
    fn load(&self) {
        if let Some(keeper) = self.parts.keeper.upgrade() {
            keeper.load(self);
        }
    }

    fn look(&self) {
        self.wake();
    }

    fn ran(&self, took: Duration) {
        self.tell(&ModelEvent::Ran { took });
    }

    fn strayed(&self, strays: bool) {
        if strays {
            self.strays.fetch_add(1, Ordering::Relaxed);
            self.tell(&ModelEvent::Abandoned);
            self.wake();
        } else {
            self.strays.fetch_sub(1, Ordering::Relaxed);
            self.tell(&ModelEvent::Returned);
        }
    }
}

/// Some number, another one each time.
fn chance() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()) / 7)
}
