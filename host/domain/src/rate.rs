//! How often something may begin: a bucket that fills as time goes by.

use std::time::{Duration, Instant};

/// Takings that may be at once: as many as a while brings, however long nobody came.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    takings: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub const fn full(now: Instant) -> Self {
        Self { takings: f64::INFINITY, filled: now }
    }

    /// Takes one of so many per second, of which at most `burst` are saved up.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        *self = Self { takings: (self.takings + since * per_second).min(burst.max(1.0)), filled: now };
        if self.takings < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.takings) / per_second));
        }
        self.takings -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_up_is_bounded_and_comes_back_at_its_rate() {
        let begun = Instant::now();
        let mut bucket = Bucket::full(begun);
        let mut take = |ms| bucket.take(2.0, 3.0, begun + Duration::from_millis(ms));
        assert_eq!((0..3).map(|_| take(0)).collect::<Result<Vec<_>, _>>().map(drop), Ok(()));
        assert_eq!(take(0), Err(Duration::from_millis(500)));
        assert_eq!((take(500), take(600).is_err()), (Ok(()), true));
        assert_eq!((0..10).filter(|_| take(60_000).is_ok()).count(), 3);
    }
}
