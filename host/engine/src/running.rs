//! One batch of calls, run: together or singly, padded and cut, and who is to blame if it fails. Knows no queue but to tell it how long
//! runs take, and nothing of threads.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sandmill_domain::ports::Inference;
use sandmill_domain::{Batch, BatchReason, Blame, Code, Deadline, Fault, Tensor};

use crate::call::{Call, Owner, Run, full};
use crate::context::Shared;
use crate::lock;
use crate::processors::Processor;
use crate::queue::Fetched;
use crate::rows;
use crate::session::{Live, Stop};
use crate::trial::{Trial, cpu_time, unprepared};
use crate::trust::Verdict;

/// A model that has worked on them works for so long.
const GOLDEN_PAUSE: Duration = Duration::from_secs(1);

/// How calls came to be run.
#[derive(Clone, Copy)]
struct Turn<'a> {
    begun: Instant,
    reason: BatchReason,
    here: bool,
    /// The turn in which they run, on a thread of the model's own beside other tenants' models.
    processor: Option<&'a Arc<Processor>>,
    /// Whether a run was left to itself, and its place given to another thread.
    lost: &'a Cell<bool>,
    /// What its last run was made on.
    live: &'a RefCell<Option<Arc<Live>>>,
}

impl Shared {
    /// Runs the calls, together if they are several; singly if that fails, so that a bad row fails nobody else's. `here` is on a
    /// thread that carries requests. False if the place of this thread was given to another meanwhile.
    pub(crate) fn serve(&self, fetched: Fetched, processor: Option<&Arc<Processor>>, here: bool) -> bool {
        let (lost, live) = (Cell::new(false), RefCell::new(None));
        let turn = Turn { begun: Instant::now(), reason: fetched.reason, here, processor, lost: &lost, live: &live };
        let begin = |call: Arc<Call>| call.begin(turn.begun).map(|inputs| (call, inputs));
        let (calls, inputs): (Vec<_>, Vec<_>) = fetched.calls.into_iter().filter_map(begin).unzip();
        let left = if calls.len() > 1 { self.together(&calls, inputs, turn) } else { inputs };
        // None, if they have run together.
        for (call, inputs) in calls.iter().zip(left) {
            if lost.get() {
                // This thread has no place to run them any more.
                call.end(Err(full(call.priority)));
                continue;
            }
            self.alone(call, inputs, turn);
        }
        !lost.get()
    }

    fn alone(&self, call: &Arc<Call>, inputs: Vec<Tensor>, turn: Turn<'_>) {
        let started = Instant::now();
        let Some(outputs) = self.run_padded(call, inputs, turn) else { return };
        let outputs = outputs.map_err(|fault| if call.is_wanted() { self.judge(fault, turn) } else { fault });
        let batch = self.batch(call.slot.rows, turn);
        call.end(outputs.map(|outputs| inference(call, outputs, turn, started.elapsed(), Some(batch))));
    }

    /// Of so many rows, if they can be told.
    fn batch(&self, rows: Option<usize>, turn: Turn<'_>) -> Batch {
        let policy = self.plan.get().map(|plan| if turn.here { plan.for_tasks() } else { Some(plan.policy) });
        let shared = policy.flatten().filter(|policy| rows.is_some() && policy.rows_max > 1);
        let rows_max = shared.and_then(|policy| NonZeroUsize::new(policy.rows_max));
        Batch { rows: rows.unwrap_or(1), rows_max, reason: turn.reason }
    }

    /// Lent memory goes home before the caller hears of the end, so that it may lend as much again at once.
    fn run_padded(&self, call: &Arc<Call>, inputs: Vec<Tensor>, turn: Turn<'_>) -> Option<Result<Vec<Tensor>, Fault>> {
        let run = |inputs: &[Tensor]| self.run(std::slice::from_ref(call), inputs, turn);
        let Some(padding) = self.plan.get().map(|plan| &plan.padding).filter(|padding| !padding.is_empty()) else {
            return run(&inputs);
        };
        let sizes = padding.sizes(&inputs);
        let padded = match padding.pad(inputs, &*self.lender) {
            Ok(padded) => padded,
            Err(fault) => return Some(Err(fault)),
        };
        let outputs = run(&padded)?;
        Some(outputs.and_then(|outputs| padding.cut(outputs, &sizes, &*self.lender)))
    }

    /// Gives the inputs back if nothing came of it for anybody.
    fn together(&self, calls: &[Arc<Call>], inputs: Vec<Vec<Tensor>>, turn: Turn<'_>) -> Vec<Vec<Tensor>> {
        let Some((rows, padding)) = self.plan.get().and_then(|plan| Some((plan.rows.as_ref()?, &plan.padding))) else {
            return inputs;
        };
        let counts: Vec<usize> = calls.iter().filter_map(|call| call.slot.rows).collect();
        let ran = rows.join(&inputs, padding, &*self.lender).and_then(|joined| {
            let outputs = self.run(calls, &joined, turn).unwrap_or_else(|| Ok(Vec::new()))?;
            let parts = rows::split(&outputs, &counts)?.into_iter().zip(&inputs);
            parts.map(|(part, inputs)| padding.cut(part, &padding.sizes(inputs), &*self.lender)).collect::<Result<Vec<_>, _>>()
        });
        let parts = match ran {
            Ok(parts) if parts.len() == calls.len() => parts,
            Ok(_) => return inputs,
            Err(fault) => {
                tracing::debug!(model = self.name, calls = calls.len(), fault = %fault.report(), "a batch failed: its calls run singly");
                return inputs;
            }
        };
        // Lent memory goes home before the callers hear of the end.
        drop(inputs);
        let ran = turn.begun.elapsed();
        let mut batch = Some(self.batch(Some(counts.iter().sum()), turn));
        for (call, outputs) in calls.iter().zip(parts) {
            call.end(Ok(inference(call, outputs, turn, ran, batch.take())));
        }
        Vec::new()
    }

    /// One run for all of the calls; none if nobody wants it. A panic ends the run, not the thread.
    fn run(&self, calls: &[Arc<Call>], inputs: &[Tensor], turn: Turn<'_>) -> Option<Result<Vec<Tensor>, Fault>> {
        let owner: Weak<dyn Owner> = self.this.clone();
        let run = match Run::new(owner, turn.here) {
            Ok(run) => run,
            Err(error) => return Some(Err(unprepared(error))),
        };
        let wanted = calls.iter().filter(|call| call.join(&run)).count();
        run.leave();
        let live = self.seat.get();
        let (Some(live), true) = (live, wanted > 0) else {
            run.over();
            return (wanted > 0).then(|| Err(Fault::new(Code::NotReady, "the model is going away")));
        };
        drop(run.live.set(Arc::downgrade(&live)));
        drop(turn.processor.map(|processor| run.processor.set(Arc::downgrade(processor))));
        turn.live.replace(Some(Arc::clone(&live)));
        let inline = self.plan.get().and_then(|plan| plan.inline);
        let (begun, started) = (inline.map(|_| cpu_time()), Instant::now());
        let ran = catch_unwind(AssertUnwindSafe(|| live.session.run(inputs, Stop(&run.options))));
        let (ended, took) = (run.over(), started.elapsed());
        if !ended.stray {
            self.queue.pace(turn.here).ran(took, wanted, ran.as_ref().is_ok_and(Result::is_ok));
        }
        self.tell(|patron| patron.ran(took));
        if ended.stray {
            turn.lost.set(true);
            self.strays.fetch_sub(1, Ordering::Relaxed);
            self.tell(|patron| patron.strayed(false));
        }
        if let (Some(inline), Some(begun)) = (inline, begun) {
            let (bytes, rows) = (inputs.iter().map(|tensor| tensor.data.len()).sum::<usize>(), rows_of(calls));
            let is_larger = bytes > inline.bytes_max || rows > inline.rows_max;
            let (took, is_good) = (cpu_time().saturating_sub(begun), ran.as_ref().is_ok_and(Result::is_ok));
            self.check(took, is_good, is_larger, inline.time);
        }
        let ran = ran.unwrap_or_else(|_panic| Err(Fault::new(Code::Internal, "the model's context broke")));
        if ran.is_ok() {
            self.good(&live, wanted);
        } else if ended.overran {
            live.overran();
            self.tell(|patron| patron.look());
        }
        Some(ran)
    }

    fn good(&self, live: &Live, calls: usize) {
        let served = live.good(calls);
        let due = self.seat.requests_max();
        if served >= due && served - (calls as u64) < due {
            self.tell(|patron| patron.look());
        }
    }

    /// A model that fails on some inputs and works on others is not broken: who sent these is to blame.
    fn judge(&self, fault: Fault, turn: Turn<'_>) -> Fault {
        let failed = matches!(fault.code, Code::ModelFailed | Code::ModelOutOfMemory);
        if failed && !turn.lost.get() && self.works(turn) {
            if fault.code == Code::ModelOutOfMemory {
                return fault.blaming(Blame::Caller);
            }
            let said = format!("{}; on other inputs it works", fault.message);
            return Fault::new(Code::InvalidInput, said).blaming(Blame::Caller).because(fault.report().to_string());
        }
        if matches!(fault.blame, Blame::Model | Blame::Host) && (failed || fault.code == Code::Internal) {
            if let Some(live) = &*turn.live.borrow() {
                live.bad(Some(&fault));
            }
            self.tell(|patron| patron.look());
        }
        fault
    }

    /// Whether the model runs on its golden inputs, or did so a moment ago: who sends many bad ones has it run no more often.
    fn works(&self, turn: Turn<'_>) -> bool {
        let mut worked = lock(&self.worked);
        if worked.is_some_and(|at| at.elapsed() < GOLDEN_PAUSE) {
            return true;
        }
        let (Some(golden), Some(live)) = (self.seat.golden(), turn.live.borrow().clone()) else { return false };
        let deadline = Deadline::after(Instant::now(), golden.time());
        let trial = Trial { session: &*live.session, watchdog: &self.watchdog, deadline, alone: false, shrink: false };
        let works = golden.check(trial).is_ok();
        *worked = works.then(Instant::now);
        works
    }

    /// A run that took far longer than was measured is the last one on a thread that carries requests, for a while.
    fn check(&self, took: Duration, is_good: bool, is_larger: bool, measured: Duration) {
        // Held until the queue knows, or of two who judge at once the first could have the last word.
        let mut trust = lock(&self.trust);
        let now = Instant::now();
        let verdict =
            if is_larger { trust.ran_larger(took, is_good, measured, now) } else { trust.ran(took, is_good, measured, now) };
        match verdict {
            Verdict::Leave if self.queue.leave_to_threads() => {
                tracing::warn!(
                    model = self.name,
                    ?took,
                    ?measured,
                    "the model runs on threads of its own for now: a run took too long"
                );
            }
            Verdict::Return if self.queue.return_to_tasks() => {
                tracing::info!(model = self.name, "the model runs on threads that carry requests again");
            }
            Verdict::Stay | Verdict::Leave | Verdict::Return => (),
        }
    }
}

/// Those of calls without rows count as one each.
fn rows_of(calls: &[Arc<Call>]) -> usize {
    calls.iter().map(|call| call.slot.rows.unwrap_or(1)).sum()
}

fn inference(call: &Call, outputs: Vec<Tensor>, turn: Turn<'_>, ran: Duration, batch: Option<Batch>) -> Inference {
    Inference { outputs, queued: turn.begun.saturating_duration_since(call.slot.submitted), ran, batch }
}
