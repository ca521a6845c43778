//! Whether a model's runs are as short as they were measured, so that they may be made on threads that carry requests: one long run
//! ends that, for a while. Pure: knows no clock and no thread.

use std::time::{Duration, Instant};

/// A run of more than so many times what was measured has no place on a thread that carries requests,
const SURPRISE: u32 = 4;
/// unless it took less than this, where page faults or a busy machine are surprise enough: of 1,000 models that take 15 us, 9 had a run
/// of 200 to 400 us within seconds. It is half of what a run may take there by default.
const NO_SURPRISE: Duration = Duration::from_micros(500);
/// After it, all runs must be short for so long. A machine that halts a processor looks like a long run, and most are that.
const PAUSE: Duration = Duration::from_millis(250);
/// Twice as long after each further one, up to this,
const PAUSE_MAX: Duration = Duration::from_secs(640);
/// unless the model had been back for so many times as long as its long runs took, or for as long as that pause: a thousandth of a thread's
/// time may go to such runs.
const FORGIVEN: u32 = 1000;

/// What is thought of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    pause: Duration,
    /// When its last long run ended, if it runs on threads of its own.
    away: Option<Instant>,
    /// When it came back last.
    returned: Option<Instant>,
    /// How often it went, too soon after it had come back.
    surprises: u32,
    /// For how long it must be back before its long runs are forgiven, those on threads of its own included.
    debt: Duration,
}

impl Default for Trust {
    fn default() -> Self {
        Self { pause: PAUSE, away: None, returned: None, surprises: 0, debt: Duration::ZERO }
    }
}

/// Where the next runs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Where they are.
    Stay,
    /// On threads of the model's own.
    Leave,
    /// On the threads that carry requests.
    Return,
}

impl Trust {
    /// A run was measured to take so long, and took so long by its thread's processor time. One that failed says nothing good.
    pub(crate) fn ran(&mut self, took: Duration, is_good: bool, measured: Duration, now: Instant) -> Verdict {
        if took > (measured * SURPRISE).max(NO_SURPRISE) {
            let cost = took.saturating_mul(FORGIVEN);
            // Several at once are one cause, and each costs.
            if self.away.is_none() {
                let paid = self.returned.map(|at| now.saturating_duration_since(at));
                let is_rare = paid.is_some_and(|paid| paid > self.debt.saturating_add(cost).min(PAUSE_MAX));
                self.surprises = if is_rare { 1 } else { self.surprises.saturating_add(1) };
                self.debt = self.debt.saturating_sub(paid.unwrap_or_default());
            }
            self.debt = self.debt.saturating_add(cost).min(PAUSE_MAX);
            self.away = Some(now);
            return Verdict::Leave;
        }
        if is_good && self.away.is_some_and(|since| now.saturating_duration_since(since) >= self.pause()) {
            (self.away, self.returned) = (None, Some(now));
            return Verdict::Return;
        }
        Verdict::Stay
    }

    /// A larger run than those that are made on threads that carry requests, which was no longer than those may be: under load there may be
    /// no smaller ones.
    pub(crate) fn ran_larger(&mut self, took: Duration, is_good: bool, measured: Duration, now: Instant) -> Verdict {
        if took > (measured * SURPRISE).max(NO_SURPRISE) { Verdict::Stay } else { self.ran(took, is_good, measured, now) }
    }

    fn pause(&self) -> Duration {
        self.pause.saturating_mul(1 << self.surprises.saturating_sub(1).min(16)).min(PAUSE_MAX)
    }

    /// The first pause is so long.
    #[cfg(test)]
    pub(crate) fn with_pause(pause: Duration) -> Self {
        Self { pause, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEASURED: Duration = Duration::from_micros(200);
    const SHORT: Duration = Duration::from_micros(700);
    const LONG: Duration = Duration::from_micros(801);
    const MS: Duration = Duration::from_millis(1);

    /// A model that is back for so long and then has a run of such a length: for how many milliseconds it is away.
    fn absences() -> impl FnMut(Duration, Duration) -> u128 {
        let (mut trust, mut now) = (Trust::default(), Instant::now());
        move |back, took| {
            now += back;
            assert_eq!(trust.ran(took, true, MEASURED, now), Verdict::Leave);
            let left = now;
            while trust.ran(SHORT, true, MEASURED, now) != Verdict::Return {
                now += PAUSE;
            }
            (now - left).as_millis()
        }
    }

    #[test]
    fn one_long_run_ends_it_and_short_ones_bring_it_back() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        let mut ran = |took, is_good, after: u32| trust.ran(took, is_good, MEASURED, now + after * MS);
        assert_eq!(ran(SHORT, true, 0), Verdict::Stay);
        assert_eq!(ran(LONG, true, 0), Verdict::Leave);
        assert_eq!(ran(SHORT, true, 200), Verdict::Stay);
        assert_eq!(ran(LONG, true, 200), Verdict::Leave, "whoever missed that hears it again");
        assert_eq!(ran(SHORT, true, 449), Verdict::Stay, "from the last one");
        assert_eq!(ran(SHORT, false, 450), Verdict::Stay, "it failed");
        assert_eq!(ran(SHORT, true, 450), Verdict::Return);
        assert_eq!(ran(SHORT, true, 450), Verdict::Stay);
    }

    #[test]
    fn a_model_that_surprises_again_too_soon_is_away_for_longer_each_time() {
        let mut away = absences();
        let pauses = Vec::from_iter((0..14).map(|_| away(3 * MS, LONG)));
        let doubled = (0..12).map(|times| 250 << times);
        assert_eq!(pauses, Vec::from_iter(doubled.chain([640_000, 640_000])));
        assert_eq!(away(14 * LONG * FORGIVEN, LONG), 640_000, "a long run more than it has paid for");
        assert_eq!(away(16 * LONG * FORGIVEN, LONG), 250, "all are paid for");
        assert_eq!(away(LONG * FORGIVEN, LONG), 500, "not the last one");
    }

    #[test]
    fn a_small_surprise_makes_nobody_forget_a_large_one() {
        let mut away = absences();
        let large = 100 * MS;
        assert_eq!((away(MS, large), away(FORGIVEN * LONG, LONG), away(FORGIVEN * LONG, LONG)), (250, 500, 1000));
        assert_eq!(away(FORGIVEN * (large + 4 * LONG), LONG), 250);
        assert_eq!(
            (away(MS, 100 * large), away(PAUSE_MAX + MS, LONG)),
            (500, 250),
            "nobody pays for longer than the longest pause"
        );
    }

    #[test]
    fn of_several_at_once_each_costs() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        for took in [LONG, 100 * MS, 100 * MS] {
            assert_eq!(trust.ran(took, true, MEASURED, now), Verdict::Leave);
        }
        assert_eq!((trust.surprises, trust.debt), (1, FORGIVEN * (LONG + 200 * MS)));
    }

    #[test]
    fn larger_runs_only_speak_for_a_model() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        assert_eq!(trust.ran_larger(LONG, true, MEASURED, now), Verdict::Stay);
        assert_eq!(trust.ran(LONG, true, MEASURED, now), Verdict::Leave);
        assert_eq!(trust.ran_larger(LONG, true, MEASURED, now + PAUSE), Verdict::Stay);
        assert_eq!(trust.ran_larger(SHORT, true, MEASURED, now + PAUSE), Verdict::Return);
    }

    #[test]
    fn what_is_short_enough_for_everybody_surprises_nobody() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        assert_eq!(trust.ran(NO_SURPRISE, true, Duration::from_micros(1), now), Verdict::Stay);
        assert_eq!(trust.ran(NO_SURPRISE + Duration::from_nanos(1), true, Duration::from_micros(1), now), Verdict::Leave);
    }

    proptest! {
        #[test]
        fn nobody_returns_who_has_not_left(runs in prop::collection::vec((0_u64..3000, any::<bool>(), 0_u64..30), 0..200)) {
            let (mut trust, mut now, mut away) = (Trust::default(), Instant::now(), false);
            for (micros, is_good, seconds) in runs {
                now += Duration::from_secs(seconds);
                match trust.ran(Duration::from_micros(micros), is_good, MEASURED, now) {
                    Verdict::Leave => away = true,
                    Verdict::Return => prop_assert!(std::mem::replace(&mut away, false)),
                    Verdict::Stay => (),
                }
            }
        }
    }
}
