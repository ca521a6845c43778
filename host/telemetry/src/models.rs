//! What happens to models, as metrics: told as it happens, and where they stand, asked when somebody looks.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};
use sandmill_domain::{FunctionName, ModelEvent, ModelStage, ModelState, Priority, TenantId};

use crate::family::Family;
use crate::metrics::{MetricsError, Page};
use crate::requests::FunctionMetrics;

/// From a millisecond, a small model from the page cache, to two minutes.
const SECONDS: [f64; 14] = [1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0, 120.0];

const MODEL: [&str; 3] = ["tenant", "function", "model"];
const MODEL_AND_REASON: [&str; 4] = ["tenant", "function", "model", "reason"];

/// Those of all models.
pub(crate) struct Families {
    recycles: Family<IntCounter>,
    recycle_failures: Family<IntCounter>,
    recycle: Family<Histogram>,
    held: Family<Histogram>,
    not_returned: Family<IntGauge>,
    loads: Family<IntCounter>,
    load: Family<Histogram>,
    unloads: Family<IntCounter>,
    failures: Family<IntCounter>,
    abandoned: Family<IntCounter>,
    abandoned_now: Family<IntGauge>,
    memory: Family<IntGauge>,
    warm: Family<IntGauge>,
    works: Family<IntGauge>,
    waiting: Family<IntGauge>,
    running: Family<IntGauge>,
}

impl Families {
    pub(crate) fn new(page: &Page<'_>) -> Result<Self, MetricsError> {
        let seconds = |name, help| page.histograms_with(name, help, &MODEL, &SECONDS);
        Ok(Self {
            recycles: page.counters("model_recycles_total", "Sessions that another one has replaced.", &MODEL_AND_REASON)?,
            recycle_failures: page.counters(
                "model_recycle_failures_total",
                "Sessions that should have been replaced, but no other one could be made.",
                &MODEL_AND_REASON,
            )?,
            recycle: seconds(
                "model_recycle_duration_seconds",
                "From the decision to replace a session until another was in use.",
            )?,
            held: seconds(
                "model_recycle_held_seconds",
                "For how long calls had to wait, where both sessions did not fit at once.",
            )?,
            not_returned: page.int_gauges(
                "model_recycle_not_returned_bytes",
                "What the session that was replaced last held and the process kept; other work at that moment blurs it.",
                &MODEL,
            )?,
            loads: page.counters(
                "model_cold_starts_total",
                "Loads that calls had to wait for, by how they went.",
                &["tenant", "function", "model", "result"],
            )?,
            load: seconds("model_cold_start_duration_seconds", "Loading and warming up a model that calls wait for.")?,
            unloads: page.counters("model_unloads_total", "Sessions that went until the next call.", &MODEL_AND_REASON)?,
            failures: page.counters(
                "model_failures_total",
                "Calls that were run and failed, by how.",
                &["tenant", "function", "model", "kind"],
            )?,
            abandoned: page.counters("model_runs_abandoned_total", "Runs that did not end when they were told to.", &MODEL)?,
            abandoned_now: page.int_gauges("model_runs_abandoned", "Those of them that have not ended yet.", &MODEL)?,
            memory: page.int_gauges("model_memory_bytes", "What the runtime holds for a model's sessions.", &MODEL)?,
            warm: page.int_gauges("model_warm", "1 with a session in use, 0 without.", &MODEL)?,
            works: page.int_gauges("model_works", "0 if it was found not to work, or is missing.", &MODEL)?,
            waiting: page.int_gauges(
                "model_calls_waiting",
                "Calls that wait for a context, by their priorities.",
                &["tenant", "function", "model", "priority"],
            )?,
            running: page.int_gauges("model_contexts_busy", "Contexts with a run under way.", &MODEL)?,
        })
    }

    /// Those of one model. What happens to few models comes onto the page when it happens first.
    pub(crate) fn of(
        self: &Arc<Self>,
        of: Arc<FunctionMetrics>,
        tenant: &TenantId,
        function: &FunctionName,
        model: &str,
    ) -> ModelMetrics {
        let labels = [tenant.as_str(), function.as_str(), model];
        let abandoned = self.abandoned.with_label_values(&labels);
        ModelMetrics { of, labels: labels.map(str::to_owned), families: Arc::clone(self), abandoned }
    }
}

/// The metrics of one model.
#[derive(Clone)]
pub struct ModelMetrics {
    of: Arc<FunctionMetrics>,
    labels: [String; 3],
    families: Arc<Families>,
    /// On the page from the start: whoever has none wants to see that.
    abandoned: IntCounter,
}

impl ModelMetrics {
    /// Something has happened to it.
    pub fn happened(&self, event: &ModelEvent) {
        match event {
            // Often, and without a lock.
            ModelEvent::Ran { took } => self.of.ran(*took),
            event => self.of.unless_gone(|| self.show(event)),
        }
    }

    fn show(&self, event: &ModelEvent) {
        let by = |counters: &Family<IntCounter>, last: &str| {
            let [tenant, function, model] = &self.labels;
            counters.with_label_values(&[tenant.as_str(), function, model, last]).inc();
        };
        let Families { loads, load: load_time, unloads, recycles, recycle_failures, recycle, held: held_time, failures, .. } =
            &*self.families;
        match event {
            ModelEvent::Loaded { load, warm_up } => {
                by(loads, "good");
                self.of.started_cold();
                load_time.with_label_values(&self.labels).observe((*load + *warm_up).as_secs_f64());
            }
            ModelEvent::LoadFailed => by(loads, "failed"),
            ModelEvent::Unloaded { reason } => by(unloads, reason.as_str()),
            ModelEvent::Recycled { reason, took, held, not_returned_bytes } => {
                by(recycles, reason.as_str());
                recycle.with_label_values(&self.labels).observe(took.as_secs_f64());
                if *held > Duration::ZERO {
                    held_time.with_label_values(&self.labels).observe(held.as_secs_f64());
                }
                self.families.not_returned.with_label_values(&self.labels).set(whole(*not_returned_bytes));
            }
            ModelEvent::RecycleFailed { reason } => by(recycle_failures, reason.as_str()),
            ModelEvent::Failed { kind } => by(failures, kind.as_str()),
            ModelEvent::Abandoned => self.abandoned.inc(),
            ModelEvent::Ran { .. } | ModelEvent::Returned => (),
        }
    }

    /// It stands there now. Looked up each time: what was removed from the page comes back.
    pub fn stands(&self, state: &ModelState) {
        self.of.unless_gone(|| self.show_stand(state));
    }

    fn show_stand(&self, state: &ModelState) {
        let families = &*self.families;
        let set = |gauge: &Family<IntGauge>, value| gauge.with_label_values(&self.labels).set(value);
        set(&families.abandoned_now, whole(state.abandoned));
        set(&families.memory, whole(state.memory_bytes));
        set(&families.warm, i64::from(state.stage == ModelStage::Warm));
        set(&families.works, i64::from(state.ailing.is_none()));
        set(&families.running, whole(state.running));
        let [tenant, function, model] = &self.labels;
        for (priority, count) in Priority::ALL.into_iter().zip(state.waiting) {
            families.waiting.with_label_values(&[tenant.as_str(), function, model, priority.as_str()]).set(whole(count));
        }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
