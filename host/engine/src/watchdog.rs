//! One thread that tells when time is up. It sleeps while nothing is due, never carries a request, and knows nothing of what it
//! watches.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::lock;

/// What can run out of time.
pub(crate) trait Expire: Send + Sync {
    /// Called at most once, on the watchdog's thread: it must be short and must not block.
    fn expire(self: Arc<Self>);
}

/// The thread and what it watches; dropping it ends the thread.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Ends the watch over one subject when dropped.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    key: Key,
}

/// Subjects with one moment are told apart by a number.
type Key = (Instant, u64);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    watched: BTreeMap<Key, Arc<dyn Expire>>,
    number: u64,
    /// Until when the thread sleeps; none while it sleeps until it is called.
    wakes_at: Option<Instant>,
    stopped: bool,
}

impl Watchdog {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let patrolled = Arc::clone(&shared);
        let thread = thread::Builder::new().name("engine-watchdog".to_owned()).spawn(move || patrolled.patrol())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets `subject` expire at a moment, unless the watch is dropped before.
    pub(crate) fn watch(&self, at: Instant, subject: Arc<dyn Expire>) -> Watch {
        let mut state = lock(&self.shared.state);
        state.number += 1;
        let key = (at, state.number);
        state.watched.insert(key, subject);
        // Deadlines mostly grow, so the thread is seldom called: it sleeps on to a moment whose subject is long gone.
        if state.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            self.shared.changed.notify_one();
        }
        drop(state);
        Watch { shared: Arc::clone(&self.shared), key }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        lock(&self.shared.state).stopped = true;
        self.shared.changed.notify_one();
        let Some(thread) = self.thread.take() else { return };
        if thread.join().is_err() {
            tracing::error!("the engine's watchdog panicked");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let removed = lock(&self.shared.state).watched.remove(&self.key);
        // The subject may own memory: it is freed outside the lock.
        drop(removed);
    }
}

impl Shared {
    fn patrol(&self) {
        let mut state = lock(&self.state);
        while !state.stopped {
            let now = Instant::now();
            let due = state.take_due(now);
            if due.is_empty() {
                state = self.sleep(state, now);
                continue;
            }
            drop(state);
            due.into_iter().for_each(expire);
            state = lock(&self.state);
        }
    }

    fn sleep<'a>(&'a self, mut state: MutexGuard<'a, State>, now: Instant) -> MutexGuard<'a, State> {
        state.wakes_at = state.watched.first_key_value().map(|((at, _), _)| *at);
        match state.wakes_at {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(at) => {
                self.changed.wait_timeout(state, at.saturating_duration_since(now)).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

/// One subject's panic must not leave all others unwatched.
fn expire(subject: Arc<dyn Expire>) {
    if catch_unwind(AssertUnwindSafe(|| subject.expire())).is_err() {
        tracing::error!("what the engine's watchdog watched panicked");
    }
}

impl State {
    fn take_due(&mut self, now: Instant) -> Vec<Arc<dyn Expire>> {
        let mut due = Vec::new();
        while let Some(entry) = self.watched.first_entry().filter(|entry| entry.key().0 <= now) {
            due.push(entry.remove());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::Duration;

    use super::*;

    struct Bell(&'static str, mpsc::Sender<&'static str>);

    impl Expire for Bell {
        fn expire(self: Arc<Self>) {
            assert!(self.0 != "broken", "this one breaks");
            self.1.send(self.0).unwrap();
        }
    }

    #[test]
    fn subjects_expire_in_order_whatever_order_they_came_in() {
        let watchdog = Watchdog::start().unwrap();
        let (bell, rings) = mpsc::channel();
        let now = Instant::now();
        let watch = |name, ms| watchdog.watch(now + Duration::from_millis(ms), Arc::new(Bell(name, bell.clone())));
        let _watches = [watch("late", 60), watch("broken", 5), watch("early", 10), watch("past", 0)];
        assert_eq!([rings.recv().unwrap(), rings.recv().unwrap(), rings.recv().unwrap()], ["past", "early", "late"]);
        assert!(now.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn a_dropped_watch_lets_its_subject_go_unrung() {
        let watchdog = Watchdog::start().unwrap();
        let (bell, rings) = mpsc::channel();
        drop(watchdog.watch(Instant::now() + Duration::from_secs(3600), Arc::new(Bell("never", bell))));
        assert_eq!(rings.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn an_idle_watchdog_sleeps_until_it_is_called() {
        let watchdog = Watchdog::start().unwrap();
        let (bell, rings) = mpsc::channel();
        drop(watchdog.watch(Instant::now(), Arc::new(Bell("x", bell.clone()))));
        while lock(&watchdog.shared.state).wakes_at.is_some() {
            thread::yield_now();
        }
        let _watch = watchdog.watch(Instant::now(), Arc::new(Bell("called", bell)));
        assert!(rings.iter().any(|name| name == "called"));
    }
}
