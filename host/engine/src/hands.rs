//! Threads for work that may never end: whoever asks waits for so long and no longer. They are used again, since each thread has a heap
//! of its own, which the C library keeps when the thread has ended.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sandmill_worker::run_when_idle;

use crate::lock;

/// Threads that wait for work; more end when they have done it.
const IDLE_MAX: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads.
pub(crate) struct Hands {
    idle: Mutex<Vec<Sender<Job>>>,
    /// Whether they run only when nobody else wants their processor.
    calm: bool,
}

impl Hands {
    pub(crate) fn new(calm: bool) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), calm })
    }

    /// What `work` gives; none if that takes longer. Then its thread is left to itself: a kernel that does not end cannot be ended.
    ///
    /// # Errors
    /// If no thread can be started, or the work panicked.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Option<T>> {
        let idle = lock(&self.idle).pop();
        let hand = idle.map_or_else(|| self.start(), Ok)?;
        let (done, result): (SyncSender<T>, _) = mpsc::sync_channel(1);
        // Nobody waits any more: then nobody wants it.
        let job: Job = Box::new(move || drop(done.send(work())));
        hand.send(job).map_err(|_| io::Error::other("a thread of the engine's is gone"))?;
        match result.recv_timeout(time) {
            Ok(made) => {
                let mut idle = lock(&self.idle);
                if idle.len() < IDLE_MAX {
                    idle.push(hand);
                }
                Ok(Some(made))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("loading a model broke")),
        }
    }

    /// It ends when its sender is dropped.
    fn start(&self) -> io::Result<Sender<Job>> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let calm = self.calm;
        thread::Builder::new().name("engine-load".to_owned()).spawn(move || {
            if calm && let Err(error) = run_when_idle() {
                tracing::debug!(%error, "sessions are made as urgently as requests are answered");
            }
            jobs.iter().for_each(|job| job());
        })?;
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn this_thread() -> thread::ThreadId {
        thread::current().id()
    }

    #[test]
    fn a_thread_is_used_again_unless_its_work_does_not_end() {
        let hands = Hands::new(true);
        let first = hands.within(LONG, this_thread).unwrap().unwrap();
        assert_eq!(hands.within(LONG, this_thread).unwrap(), Some(first));
        let (end, ended) = mpsc::channel::<()>();
        assert_eq!(hands.within(Duration::from_millis(5), move || ended.recv().is_ok()).unwrap(), None);
        assert_ne!(hands.within(LONG, this_thread).unwrap(), Some(first));
        drop(end);
    }

    #[test]
    fn work_that_panics_is_an_error_and_the_next_is_done() {
        let hands = Hands::new(false);
        assert!(hands.within(LONG, || -> u8 { panic!("this one breaks") }).is_err());
        assert_eq!(hands.within(LONG, || 7).unwrap(), Some(7));
    }
}
