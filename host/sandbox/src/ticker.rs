//! The thread that ticks the engine's epochs, so that a guest which loops is interrupted. It never carries a request.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// After so many ticks without a guest the thread sleeps until one comes.
const IDLE_TICKS: u32 = 1000;

/// The thread; it ends when this is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    guests: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// Keeps the ticker alive and awake.
pub(crate) struct Ticking(Arc<Ticker>);

impl Ticker {
    /// Starts a thread that calls `tick` every `period` while a [`Ticking`] is alive.
    ///
    /// # Errors
    /// If no thread can be made.
    pub(crate) fn start(period: Duration, tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("epoch-ticker".into()).spawn(move || theirs.run(period, &tick))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ticks follow from here on until what this gives is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Ticking {
        self.shared.guests.fetch_add(1, Ordering::SeqCst);
        // Either this sees the thread asleep, or the thread, which looks at the guests after it says that it sleeps, sees
        // the guest.
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Ticking(Arc::clone(self))
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, which its own hook has reported.
            let _ = thread.join();
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.shared.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn run(&self, period: Duration, tick: &dyn Fn()) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            idle = if self.guests.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TICKS {
                self.sleep();
                idle = 0;
            } else {
                thread::park_timeout(period);
            }
            tick();
        }
    }

    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.guests.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn ticks_follow_even_after_a_sleep_and_end_with_the_ticker() {
        let (sender, ticks) = mpsc::channel();
        let ticker = Ticker::start(Duration::from_micros(10), move || sender.send(()).unwrap()).unwrap();
        let ticker = Arc::new(ticker);
        let start = Instant::now();
        while !ticker.shared.asleep.load(Ordering::SeqCst) {
            assert!(start.elapsed() < LONG, "the ticker never sleeps");
            thread::yield_now();
        }
        while ticks.try_recv().is_ok() {}

        let ticking = ticker.hold();
        for _ in 0..10 {
            ticks.recv_timeout(LONG).unwrap();
        }
        drop(ticker);
        ticks.recv_timeout(LONG).expect("a guest outlives whoever started the ticker");
        drop(ticking);
        while ticks.recv_timeout(LONG).is_ok() {}
        assert_eq!(ticks.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
