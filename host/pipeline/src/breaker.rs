//! The circuit breaker of a release, as a machine: a model that only fails is left alone for a while, and then tried with one
//! call. Knows no clock, no lock and no request.

use std::time::{Duration, Instant};

use sandmill_domain::{BreakerLimits, BreakerState};

/// A breaker, in one of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breaker {
    limits: BreakerLimits,
    /// Grows with each move: what was admitted before one says nothing of what comes after it.
    era: u64,
    stand: Stand,
}

/// Where it stands, and what it remembers there: how many runs have failed in a row, or whether a call is trying the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Closed { failures: usize },
    Open { since: Instant },
    HalfOpen { probing: bool },
}

/// What a call is admitted with; it is to be given back at the call's end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    era: u64,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The breaker stays open for so long yet.
    Open(Duration),
    /// Another call is trying the model.
    Probing,
}

/// What a call has shown of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works.
    Good,
    /// It fails.
    Bad,
    /// Nothing: the call did not run it, or not for long enough to tell.
    Unknown,
}

impl Breaker {
    /// A closed one.
    pub(crate) fn new(limits: BreakerLimits) -> Self {
        Self { limits, era: 0, stand: Stand::Closed { failures: 0 } }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> BreakerState {
        match self.stand {
            Stand::Closed { .. } => BreakerState::Closed,
            Stand::Open { .. } => BreakerState::Open,
            Stand::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a call would be admitted now.
    pub(crate) fn check(self, now: Instant) -> Result<(), Refusal> {
        match self.stand {
            Stand::Open { since } => match self.limits.open_time.saturating_sub(now.saturating_duration_since(since)) {
                Duration::ZERO => Ok(()),
                left => Err(Refusal::Open(left)),
            },
            Stand::HalfOpen { probing: true } => Err(Refusal::Probing),
            Stand::Closed { .. } | Stand::HalfOpen { probing: false } => Ok(()),
        }
    }

    /// A call wants to run the model.
    pub(crate) fn admit(self, now: Instant) -> (Self, Result<Pass, Refusal>) {
        if let Err(refusal) = self.check(now) {
            return (self, Err(refusal));
        }
        let next = match self.stand {
            Stand::Closed { .. } => self,
            Stand::Open { .. } => self.moved(Stand::HalfOpen { probing: true }),
            Stand::HalfOpen { .. } => Self { stand: Stand::HalfOpen { probing: true }, ..self },
        };
        (next, Ok(Pass { era: next.era }))
    }

    /// A call that was admitted gives its pass back.
    #[expect(clippy::needless_pass_by_value, reason = "a pass is given back once")]
    pub(crate) fn end(self, pass: Pass, verdict: Verdict, now: Instant) -> Self {
        if pass.era != self.era {
            return self;
        }
        match (self.stand, verdict) {
            (Stand::Closed { failures }, Verdict::Bad) if failures + 1 < self.limits.failures_max => {
                Self { stand: Stand::Closed { failures: failures + 1 }, ..self }
            }
            (Stand::Closed { .. } | Stand::HalfOpen { .. }, Verdict::Bad) => self.moved(Stand::Open { since: now }),
            (Stand::Closed { .. }, Verdict::Good) => Self { stand: Stand::Closed { failures: 0 }, ..self },
            (Stand::HalfOpen { .. }, Verdict::Good) => self.moved(Stand::Closed { failures: 0 }),
            (Stand::HalfOpen { .. }, Verdict::Unknown) => Self { stand: Stand::HalfOpen { probing: false }, ..self },
            (Stand::Closed { .. }, Verdict::Unknown) | (Stand::Open { .. }, _) => self,
        }
    }

    /// Opens, or stays open for longer: what has happened needs no second time.
    pub(crate) fn trip(self, now: Instant) -> Self {
        self.moved(Stand::Open { since: now })
    }

    fn moved(self, stand: Stand) -> Self {
        Self { era: self.era + 1, stand, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits { failures_max: 3, open_time: Duration::from_millis(100) };

    fn breaker(stand: Stand) -> Breaker {
        Breaker { limits: LIMITS, era: 7, stand }
    }

    #[test]
    fn who_is_admitted() {
        let since = Instant::now();
        let (closed, open) = (Stand::Closed { failures: 2 }, Stand::Open { since });
        let [probing, free] = [true, false].map(|probing| Stand::HalfOpen { probing });
        let millis = Duration::from_millis;
        let cases = [
            (closed, 0, closed, Ok(Pass { era: 7 })),
            (open, 0, open, Err(Refusal::Open(millis(100)))),
            (open, 99, open, Err(Refusal::Open(millis(1)))),
            (open, 100, probing, Ok(Pass { era: 8 })),
            (open, 1 << 40, probing, Ok(Pass { era: 8 })),
            (probing, 1 << 40, probing, Err(Refusal::Probing)),
            (free, 0, probing, Ok(Pass { era: 7 })),
        ];
        for (stand, after, expected, answer) in cases {
            let (next, given) = breaker(stand).admit(since + millis(after));
            assert_eq!((next.stand, &given), (expected, &answer), "{stand:?} after {after} ms");
        }
        // Who asked before it opened may come after.
        let early = since.checked_sub(millis(1)).expect("the machine runs for longer than that");
        assert_eq!(breaker(open).admit(early), (breaker(open), Err(Refusal::Open(millis(100)))));
    }

    #[test]
    fn what_a_call_shows() {
        let now = Instant::now();
        let closed = |failures| Stand::Closed { failures };
        let open = Stand::Open { since: now };
        let [probing, free] = [true, false].map(|probing| Stand::HalfOpen { probing });
        let cases = [
            (closed(0), Verdict::Bad, closed(1)),
            (closed(1), Verdict::Bad, closed(2)),
            (closed(2), Verdict::Bad, open),
            (closed(2), Verdict::Good, closed(0)),
            (closed(2), Verdict::Unknown, closed(2)),
            (probing, Verdict::Good, closed(0)),
            (probing, Verdict::Bad, open),
            (probing, Verdict::Unknown, free),
        ];
        for (stand, verdict, expected) in cases {
            let (before, stale) = (breaker(stand), Pass { era: 6 });
            let after = before.end(Pass { era: 7 }, verdict, now);
            assert_eq!(after.stand, expected, "{stand:?}, {verdict:?}");
            assert_eq!(after.era - before.era, u64::from(after.state() != before.state()), "{stand:?}, {verdict:?}");
            assert_eq!(before.end(stale, verdict, now), before, "{stand:?}, {verdict:?} of before the last move");
        }
    }

    #[test]
    fn one_failure_can_be_enough() {
        let now = Instant::now();
        let (closed, pass) = Breaker::new(BreakerLimits { failures_max: 1, ..LIMITS }).admit(now);
        assert_eq!(closed.end(pass.expect("admitted"), Verdict::Bad, now).state(), BreakerState::Open);
    }

    /// What happens next: time passes and a call comes, or one that is under way ends.
    #[derive(Clone, Debug)]
    enum Step {
        Ask(u64),
        End(prop::sample::Index, Verdict),
    }

    fn step() -> impl Strategy<Value = Step> {
        let verdict = prop_oneof![1 => Just(Verdict::Good), 4 => Just(Verdict::Bad), 1 => Just(Verdict::Unknown)];
        prop_oneof![
            (0..60_u64).prop_map(Step::Ask),
            (any::<prop::sample::Index>(), verdict).prop_map(|(call, verdict)| Step::End(call, verdict)),
        ]
    }

    /// Whoever watches from outside: calls under way, and what they have shown since the last move.
    struct Watcher {
        breaker: Breaker,
        now: Instant,
        under_way: Vec<Pass>,
        failures: usize,
        opened: Option<Instant>,
    }

    impl Watcher {
        fn new() -> Self {
            Self { breaker: Breaker::new(LIMITS), now: Instant::now(), under_way: vec![], failures: 0, opened: None }
        }

        fn probes(&self) -> usize {
            let is_probe = |pass: &&Pass| self.breaker.state() == BreakerState::HalfOpen && pass.era == self.breaker.era;
            self.under_way.iter().filter(is_probe).count()
        }

        fn ask(&mut self) {
            let (state, probes) = (self.breaker.state(), self.probes());
            let (next, answer) = self.breaker.admit(self.now);
            let rested = self.opened.is_none_or(|opened| self.now >= opened + LIMITS.open_time);
            let expected = match state {
                BreakerState::Closed => true,
                BreakerState::Open => rested,
                BreakerState::HalfOpen => probes == 0,
            };
            assert_eq!(answer.is_ok(), expected, "{state:?}, {probes} probes, {answer:?}");
            if let Err(Refusal::Open(left)) = answer {
                assert_eq!(Some(self.now + left), self.opened.map(|opened| opened + LIMITS.open_time));
            }
            self.breaker = next;
            self.under_way.extend(answer);
        }

        fn end(&mut self, at: usize, verdict: Verdict) {
            let pass = self.under_way.swap_remove(at);
            let (before, counts) = (self.breaker.state(), pass.era == self.breaker.era);
            self.breaker = self.breaker.end(pass, verdict, self.now);
            match verdict {
                _ if !counts => {}
                Verdict::Good => self.failures = 0,
                Verdict::Bad => self.failures += 1,
                Verdict::Unknown => {}
            }
            let after = self.breaker.state();
            let expected = match before {
                BreakerState::Closed if self.failures >= LIMITS.failures_max => BreakerState::Open,
                BreakerState::HalfOpen if counts && verdict == Verdict::Good => BreakerState::Closed,
                BreakerState::HalfOpen if counts && verdict == Verdict::Bad => BreakerState::Open,
                same => same,
            };
            assert_eq!(after, expected, "from {before:?} with {} failures in a row by {verdict:?}", self.failures);
            if after != before {
                (self.failures, self.opened) = (0, (after == BreakerState::Open).then_some(self.now));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever comes: it opens with so many failures in a row and not before, one probe is under way at most, and when
        /// all calls have ended a working model is served again.
        #[test]
        fn it_opens_for_a_reason_and_never_for_good(steps in vec(step(), 0..200)) {
            let mut watcher = Watcher::new();
            for step in steps {
                match step {
                    Step::Ask(millis) => {
                        watcher.now += Duration::from_millis(millis);
                        watcher.ask();
                    }
                    Step::End(call, verdict) if !watcher.under_way.is_empty() => {
                        watcher.end(call.index(watcher.under_way.len()), verdict);
                    }
                    Step::End(..) => {}
                }
                prop_assert!(watcher.probes() <= 1);
            }
            while !watcher.under_way.is_empty() {
                watcher.end(0, Verdict::Unknown);
            }
            watcher.now += LIMITS.open_time;
            watcher.ask();
            watcher.end(0, Verdict::Good);
            prop_assert_eq!(watcher.breaker.state(), BreakerState::Closed);
        }
    }
}
