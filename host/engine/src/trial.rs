//! Runs on a session that carries no calls yet, or to see whether it works: one after the other, on this thread, within a deadline.
//! Knows nothing of queues.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sandmill_domain::{Code, Deadline, Fault, Tensor};

use crate::call::{Owner, Run, late};
use crate::session::{Session, Stop};
use crate::watchdog::{Expire, Watchdog};

/// A session to try.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    pub(crate) session: &'a dyn Session,
    pub(crate) watchdog: &'a Watchdog,
    pub(crate) deadline: Deadline,
    /// Whether times are this thread's own: a run that is interrupted is not slow. Wrong for runs on several threads.
    pub(crate) alone: bool,
    /// Whether memory that the session's arena does not need after it goes back to the system.
    pub(crate) shrink: bool,
}

impl Trial<'_> {
    /// Runs it once; the outputs, and how long it took.
    ///
    /// # Errors
    /// The run's own; `DeadlineExceeded`.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Duration), Fault> {
        let nobody: Weak<dyn Owner> = Weak::<Nobody>::new();
        let run = if self.shrink { Run::last_for_a_while(nobody) } else { Run::new(nobody, false) }.map_err(unprepared)?;
        let watch = self.watchdog.watch(self.deadline.instant(), Arc::clone(&run) as Arc<dyn Expire>);
        let begun = self.now();
        let ran = catch_unwind(AssertUnwindSafe(|| self.session.run(inputs, Stop(&run.options))));
        let took = self.now().saturating_sub(begun);
        drop(watch);
        run.over();
        match ran {
            Ok(Err(_)) if self.deadline.is_past(Instant::now()) => Err(late(true)),
            Ok(outputs) => outputs.map(|outputs| (outputs, took)),
            Err(_panic) => Err(Fault::new(Code::Internal, "the model's session broke")),
        }
    }

    fn now(&self) -> Duration {
        if self.alone { cpu_time() } else { wall_time() }
    }
}

/// Nobody is told of a trial that does not end: whoever waits for it gives up.
enum Nobody {}

impl Owner for Nobody {
    fn watchdog(&self) -> &Watchdog {
        match *self {}
    }

    fn abandon(&self, _run: &Run) {
        match *self {}
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
pub(crate) fn unprepared(error: ort::Error) -> Fault {
    Fault::new(Code::Internal, "a run cannot be prepared").because(error.to_string())
}

/// Of this thread.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn wall_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}
