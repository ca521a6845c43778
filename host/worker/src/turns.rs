//! How many children there are at once: a bounded number of turns, waited for on threads that may block.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many turns at once.
pub(crate) struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One turn, given back when it is dropped.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits for a turn; none if none is free in time.
    pub(crate) fn take(&self, patience: Duration) -> Option<Turn<'_>> {
        let end = Instant::now() + patience;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            let left = end.checked_duration_since(Instant::now())?;
            free = self.freed.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_bounded_and_come_back() {
        let turns = Turns::new(2);
        let one = turns.take(Duration::ZERO).unwrap();
        let two = turns.take(Duration::ZERO).unwrap();
        assert!(turns.take(Duration::from_millis(1)).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.take(Duration::from_secs(60)).is_some());
            drop(one);
            assert!(waiting.join().unwrap());
        });
        drop(two);
    }
}
