//! What is counted of requests, function by function. Each thread adds up by itself, and all is put together when somebody looks
//! at the page: threads that carry requests never wait for one another here, nor look up a label for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::local::{LocalCounter, LocalHistogram, LocalIntCounter};
use prometheus::{Counter, Histogram, IntCounter, IntGauge};
use sandmill_domain::ports::{PluginUsage, Stages};
use sandmill_domain::{Batch, BatchReason, FunctionName, TenantId, Usage};

use crate::family::Family;
use crate::metrics::{FUNCTION, MetricsError, Page};
use crate::record::Record;

/// From a page of WebAssembly to the most that 32 bits address, in steps of four.
const MEMORY_BYTES: [f64; 9] =
    [65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0, 1_073_741_824.0, 4_294_967_296.0];

/// From 5 µs, a small instance, to a second, the default of a plugin's time.
const PLUGIN_SECONDS: [f64; 16] =
    [5e-6, 10e-6, 15e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.5, 1.0];

/// Rows of one run.
const ROWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Parts of a whole.
const PARTS: [f64; 8] = [0.03125, 0.0625, 0.125, 0.25, 0.5, 0.75, 0.9, 1.0];

/// Stands in the labels for a request that reached no function: what a caller makes up never becomes a label.
const NOBODY: [&str; 2] = ["-", "-"];

/// Threads that add up apart; more than there usually are threads that carry requests, or they share.
const SHARDS: usize = 16;

/// The families of metrics, each with all functions in it.
pub(crate) struct Families {
    requests: Family<IntCounter>,
    faults: Family<IntCounter>,
    request: Family<Histogram>,
    turns: Family<Histogram>,
    preprocess: Family<Histogram>,
    queue: Family<Histogram>,
    inference: Family<Histogram>,
    batch_rows: Family<Histogram>,
    batch_utilization: Family<Histogram>,
    batches: Family<IntCounter>,
    postprocess: Family<Histogram>,
    handle: Family<Histogram>,
    instantiation: Family<Histogram>,
    plugin_running: Family<Histogram>,
    plugin_memory: Family<Histogram>,
    plugin_inferences: Family<IntCounter>,
    received: Family<IntCounter>,
    sent: Family<IntCounter>,
    in_flight: Family<IntGauge>,
    plugin_seconds: Family<Counter>,
    model_seconds: Family<Counter>,
}

impl Families {
    pub(crate) fn new(page: &Page<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: page.counters("requests_total", "Requests answered.", &["tenant", "function", "form", "status"])?,
            faults: page.counters("faults_total", "Requests that failed.", &["tenant", "function", "code", "blame"])?,
            request: page.histograms("request_duration_seconds", "From the request's head to its answer.")?,
            turns: page.histograms("turn_wait_duration_seconds", "Waiting for other tenants' calls to have their turns.")?,
            preprocess: page.histograms("preprocess_duration_seconds", "The plugin's preprocessing, or decoding tensors.")?,
            queue: page.histograms("queue_duration_seconds", "Waiting for the model.")?,
            inference: page.histograms("inference_duration_seconds", "The model's run.")?,
            batch_rows: page.histograms_of("batch_rows", "Rows of one run, which several requests may share.", &ROWS)?,
            batch_utilization: page.histograms_of(
                "batch_utilization_ratio",
                "Rows of one run, as a part of the most that it could have had; only of models whose calls share runs.",
                &PARTS,
            )?,
            batches: page.counters(
                "batches_total",
                "Runs of the model, by why each began when it did; runs that handlers ask for are not counted.",
                &["tenant", "function", "reason"],
            )?,
            postprocess: page.histograms("postprocess_duration_seconds", "The plugin's postprocessing, or encoding tensors.")?,
            handle: page.histograms("handle_duration_seconds", "A handler's whole work, its models' runs included.")?,
            instantiation: page.histograms_of(
                "plugin_instantiation_duration_seconds",
                "For a plugin's instance to be there.",
                &PLUGIN_SECONDS,
            )?,
            plugin_running: page.histograms_of(
                "plugin_running_duration_seconds",
                "The plugin's own running time in one request, without that of the host's functions.",
                &PLUGIN_SECONDS,
            )?,
            plugin_memory: page.histograms_of(
                "plugin_memory_bytes",
                "The most linear memory that a plugin's instance had in one request.",
                &MEMORY_BYTES,
            )?,
            plugin_inferences: page.counters("plugin_inferences_total", "Runs of models that handlers asked for.", &FUNCTION)?,
            received: page.counters("request_body_bytes_total", "Bytes of request bodies.", &FUNCTION)?,
            sent: page.counters("response_body_bytes_total", "Bytes of response bodies.", &FUNCTION)?,
            in_flight: page.int_gauges("requests_in_flight", "Requests admitted and not answered yet.", &FUNCTION)?,
            plugin_seconds: page.seconds(
                "plugin_seconds_total",
                "What plugins ran, those of requests included that were cut off.",
                &FUNCTION,
            )?,
            model_seconds: page.seconds(
                "model_seconds_total",
                "What models ran: a run counts once, however many share it.",
                &FUNCTION,
            )?,
        })
    }
}

/// All functions that have had a request.
pub(crate) struct Functions {
    families: Arc<Families>,
    nobody: Arc<FunctionMetrics>,
    known: ArcSwap<Known>,
    /// Held by whoever adds one.
    adding: Mutex<()>,
}

type Known = HashMap<TenantId, HashMap<FunctionName, Arc<FunctionMetrics>>>;

impl Functions {
    pub(crate) fn new(page: &Page<'_>) -> Result<Self, MetricsError> {
        let families = Arc::new(Families::new(page)?);
        let nobody = Arc::new(FunctionMetrics::new(&families, None));
        Ok(Self { families, nobody, known: ArcSwap::default(), adding: Mutex::default() })
    }

    pub(crate) fn nobody(&self) -> &FunctionMetrics {
        &self.nobody
    }

    pub(crate) fn of(&self, tenant: &TenantId, function: &FunctionName) -> Arc<FunctionMetrics> {
        let find = |known: &Known| known.get(tenant)?.get(function).cloned();
        find(&self.known.load()).unwrap_or_else(|| {
            let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
            let mut known = Known::clone(&self.known.load());
            // Another thread may have been here first.
            find(&known).unwrap_or_else(|| {
                let metrics = Arc::new(FunctionMetrics::new(&self.families, Some((tenant.clone(), function.clone()))));
                known.entry(tenant.clone()).or_default().insert(function.clone(), Arc::clone(&metrics));
                self.known.store(Arc::new(known));
                metrics
            })
        })
    }

    pub(crate) fn is_idle(&self, tenant: &TenantId, function: &FunctionName) -> bool {
        let known = self.known.load();
        let metrics = known.get(tenant).and_then(|functions| functions.get(function));
        metrics.is_none_or(|metrics| metrics.sum(|shard| &shard.visits) == 0)
    }

    /// Requests under way still add up, to nowhere.
    pub(crate) fn forget(&self, gone: &[(TenantId, FunctionName)]) {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Known::clone(&self.known.load());
        for (tenant, function) in gone {
            let metrics = known.get_mut(tenant).and_then(|functions| functions.remove(function));
            if let Some(metrics) = metrics {
                *metrics.is_gone.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
        }
        known.retain(|_, functions| !functions.is_empty());
        self.known.store(Arc::new(known));
    }

    /// What each function has used since the host started.
    pub(crate) fn used(&self) -> Vec<(TenantId, FunctionName, Usage)> {
        let known = self.known.load();
        let all =
            known.iter().flat_map(|(tenant, functions)| functions.iter().map(move |(name, metrics)| (tenant, name, metrics)));
        all.map(|(tenant, name, metrics)| (tenant.clone(), name.clone(), metrics.used())).collect()
    }

    /// What all threads have added up goes to the page.
    pub(crate) fn put_together(&self) {
        self.nobody.put_together();
        self.known.load().values().flat_map(HashMap::values).for_each(|function| function.put_together());
    }
}

/// What is counted of one function's requests.
pub(crate) struct FunctionMetrics {
    families: Arc<Families>,
    /// None for requests that reached no function.
    name: Option<(TenantId, FunctionName)>,
    /// Whether it is forgotten: nothing of it comes onto the page any more.
    is_gone: Mutex<bool>,
    cold_starts: AtomicU64,
    model_seconds: OnceLock<Counter>,
    shards: [OnceLock<Box<Shard>>; SHARDS],
}

/// What one thread has added up, on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    /// Requests admitted and not answered yet; below zero if they began on other threads than they ended.
    in_flight: AtomicI64,
    /// The same, with those that were refused.
    visits: AtomicI64,
    sums: Mutex<Sums>,
}

/// Since somebody looked last; each is made when there is something to add.
#[derive(Default)]
struct Sums {
    answered: Vec<((&'static str, Option<u16>), LocalIntCounter)>,
    batches: Vec<(BatchReason, LocalIntCounter)>,
    received: Option<LocalIntCounter>,
    sent: Option<LocalIntCounter>,
    plugin_inferences: Option<LocalIntCounter>,
    request: Option<LocalHistogram>,
    turns: Option<LocalHistogram>,
    preprocess: Option<LocalHistogram>,
    queue: Option<LocalHistogram>,
    inference: Option<LocalHistogram>,
    batch_rows: Option<LocalHistogram>,
    batch_utilization: Option<LocalHistogram>,
    postprocess: Option<LocalHistogram>,
    handle: Option<LocalHistogram>,
    instantiation: Option<LocalHistogram>,
    plugin_running: Option<LocalHistogram>,
    plugin_memory: Option<LocalHistogram>,
    plugin_seconds: Option<LocalCounter>,
}

impl FunctionMetrics {
    fn new(families: &Arc<Families>, name: Option<(TenantId, FunctionName)>) -> Self {
        Self {
            families: Arc::clone(families),
            name,
            is_gone: Mutex::new(false),
            cold_starts: AtomicU64::new(0),
            model_seconds: OnceLock::new(),
            shards: [const { OnceLock::new() }; SHARDS],
        }
    }

    fn labels(&self) -> [&str; 2] {
        self.name.as_ref().map_or(NOBODY, |(tenant, function)| [tenant.as_str(), function.as_str()])
    }

    fn shard(&self) -> &Shard {
        self.shards[this_thread()].get_or_init(Box::default)
    }

    pub(crate) fn count(&self, record: &Record<'_>) {
        let [tenant, function] = self.labels();
        if let Some(fault) = record.fault {
            self.families.faults.with_label_values(&[tenant, function, fault.code.name(), fault.blame.name()]).inc();
        }
        let mut sums = self.shard().sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.count(record, &self.families, [tenant, function]);
    }

    /// Tells the page something, unless it is forgotten, now or meanwhile: a model may be at work for longer than its function is there.
    pub(crate) fn unless_gone(&self, tell: impl FnOnce()) {
        let is_gone = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_gone {
            tell();
        }
    }

    /// One of its models ran.
    pub(crate) fn ran(&self, took: Duration) {
        let find = || drop(self.model_seconds.set(self.families.model_seconds.with_label_values(&self.labels())));
        if self.model_seconds.get().is_none() {
            self.unless_gone(find);
        }
        if let Some(seconds) = self.model_seconds.get() {
            seconds.inc_by(took.as_secs_f64());
        }
    }

    /// A call had to wait for one of its models to be loaded.
    pub(crate) fn started_cold(&self) {
        self.cold_starts.fetch_add(1, Ordering::Relaxed);
    }

    /// A plugin ran for a request that was cut off, and so recorded without it.
    pub(crate) fn cut_off(&self, running: Duration) {
        self.families.plugin_seconds.with_label_values(&self.labels()).inc_by(running.as_secs_f64());
    }

    /// All that it has used since the host started.
    pub(crate) fn used(&self) -> Usage {
        self.put_together();
        let (labels, families) = (self.labels(), &self.families);
        let micros = |family: &Family<Counter>| {
            let seconds = Duration::from_secs_f64(family.with_label_values(&labels).get().max(0.0));
            u64::try_from(seconds.as_micros()).unwrap_or(u64::MAX)
        };
        Usage {
            requests: families.request.with_label_values(&labels).get_sample_count(),
            plugin_us: micros(&families.plugin_seconds),
            model_us: micros(&families.model_seconds),
            received_bytes: families.received.with_label_values(&labels).get(),
            sent_bytes: families.sent.with_label_values(&labels).get(),
            cold_starts: self.cold_starts.load(Ordering::Relaxed),
        }
    }

    fn put_together(&self) {
        self.known_shards().for_each(|shard| shard.sums.lock().unwrap_or_else(PoisonError::into_inner).flush());
        if self.known_shards().next().is_some() && self.name.is_some() {
            self.families.in_flight.with_label_values(&self.labels()).set(self.sum(|shard| &shard.in_flight));
        }
    }

    fn known_shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| &**shard)
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicI64) -> i64 {
        self.known_shards().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
    }
}

/// Which shards this thread adds to.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
    SHARD.with(|shard| *shard)
}

impl Sums {
    fn count(&mut self, record: &Record<'_>, families: &Families, labels: [&str; 2]) {
        let [tenant, function] = labels;
        let histogram = |family: &Family<Histogram>| family.with_label_values(&labels).local();
        let add = |sum: &mut Option<LocalIntCounter>, family: &Family<IntCounter>, value: u64| {
            sum.get_or_insert_with(|| family.with_label_values(&labels).local()).inc_by(value);
        };
        one(&mut self.answered, (record.form, record.status), || {
            let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            families.requests.with_label_values(&[tenant, function, record.form, &status]).local()
        })
        .inc();
        let request = self.request.get_or_insert_with(|| histogram(&families.request));
        request.observe(record.duration.as_secs_f64());
        add(&mut self.received, &families.received, record.received);
        add(&mut self.sent, &families.sent, record.sent);
        let Stages { turns, preprocess, queue, inference, postprocess, handle, batch, plugin } = &record.stages;
        for (sum, family, duration) in [
            (&mut self.turns, &families.turns, turns),
            (&mut self.preprocess, &families.preprocess, preprocess),
            (&mut self.queue, &families.queue, queue),
            (&mut self.inference, &families.inference, inference),
            (&mut self.postprocess, &families.postprocess, postprocess),
            (&mut self.handle, &families.handle, handle),
        ] {
            if let Some(duration) = duration {
                sum.get_or_insert_with(|| histogram(family)).observe(duration.as_secs_f64());
            }
        }
        if let Some(batch) = batch {
            self.count_batch(batch, families, labels);
        }
        if let Some(usage) = plugin {
            self.count_plugin(usage, families, labels);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no batch has 2^52 rows")]
    fn count_batch(&mut self, batch: &Batch, families: &Families, labels: [&str; 2]) {
        let histogram = |family: &Family<Histogram>| family.with_label_values(&labels).local();
        let rows = batch.rows as f64;
        self.batch_rows.get_or_insert_with(|| histogram(&families.batch_rows)).observe(rows);
        if let Some(most) = batch.rows_max {
            let utilization = self.batch_utilization.get_or_insert_with(|| histogram(&families.batch_utilization));
            utilization.observe(rows / most.get() as f64);
        }
        let [tenant, function] = labels;
        let family = &families.batches;
        let new = || family.with_label_values(&[tenant, function, batch.reason.as_str()]).local();
        one(&mut self.batches, batch.reason, new).inc();
    }

    fn count_plugin(&mut self, usage: &PluginUsage, families: &Families, labels: [&str; 2]) {
        let histogram = |family: &Family<Histogram>| family.with_label_values(&labels).local();
        let instantiation = self.instantiation.get_or_insert_with(|| histogram(&families.instantiation));
        instantiation.observe(usage.instantiation.as_secs_f64());
        let running = self.plugin_running.get_or_insert_with(|| histogram(&families.plugin_running));
        running.observe(usage.running.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "memory has fewer bytes than 2^52")]
        self.plugin_memory.get_or_insert_with(|| histogram(&families.plugin_memory)).observe(usage.memory_bytes as f64);
        let seconds = self.plugin_seconds.get_or_insert_with(|| families.plugin_seconds.with_label_values(&labels).local());
        seconds.inc_by(usage.running.as_secs_f64());
        if usage.inferences > 0 {
            let new = || families.plugin_inferences.with_label_values(&labels).local();
            self.plugin_inferences.get_or_insert_with(new).inc_by(u64::from(usage.inferences));
        }
    }

    fn flush(&self) {
        self.answered.iter().for_each(|(_, sum)| sum.flush());
        self.batches.iter().for_each(|(_, sum)| sum.flush());
        [&self.received, &self.sent, &self.plugin_inferences].into_iter().flatten().for_each(LocalIntCounter::flush);
        self.plugin_seconds.iter().for_each(LocalCounter::flush);
        let histograms = [
            &self.request,
            &self.turns,
            &self.preprocess,
            &self.queue,
            &self.inference,
            &self.batch_rows,
            &self.batch_utilization,
            &self.postprocess,
            &self.handle,
            &self.instantiation,
            &self.plugin_running,
            &self.plugin_memory,
        ];
        histograms.into_iter().flatten().for_each(LocalHistogram::flush);
    }
}

/// The one of few that has this key, made if there is none.
fn one<K: PartialEq>(all: &mut Vec<(K, LocalIntCounter)>, key: K, new: impl FnOnce() -> LocalIntCounter) -> &LocalIntCounter {
    let at = all.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        all.push((key, new()));
        all.len() - 1
    });
    &all[at].1
}

/// A request at the function that it reached; counted as under way until it is dropped, if it was admitted.
pub struct Visit {
    pub(crate) metrics: Arc<FunctionMetrics>,
    name: (TenantId, FunctionName),
    admitted: bool,
}

impl Visit {
    pub(crate) fn new(functions: &Functions, tenant: TenantId, function: FunctionName, admitted: bool) -> Self {
        let metrics = functions.of(&tenant, &function);
        metrics.shard().visits.fetch_add(1, Ordering::Relaxed);
        if admitted {
            metrics.shard().in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Self { metrics, name: (tenant, function), admitted }
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.name.0
    }

    pub(crate) fn function(&self) -> &FunctionName {
        &self.name.1
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let shard = self.metrics.shard();
        shard.visits.fetch_sub(1, Ordering::Relaxed);
        if self.admitted {
            shard.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::Telemetry;

    fn shown(telemetry: &Telemetry) -> String {
        String::from_utf8(telemetry.render(None).expect("renders")).expect("text")
    }

    fn record(telemetry: &Telemetry, visit: &Visit, status: u16) {
        telemetry.record(&Record {
            function: Some(visit),
            release: None,
            form: "function",
            method: "POST",
            path: "/fn/digits",
            status: Some(status),
            fault: None,
            duration: Duration::from_millis(1),
            received: 2,
            sent: 3,
            stages: Stages {
                batch: Some(Batch { rows: 4, rows_max: NonZeroUsize::new(8), reason: BatchReason::Full }),
                ..Stages::default()
            },
        });
    }

    #[test]
    fn what_threads_add_up_apart_is_one_sum() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let visit = || telemetry.admitted(TenantId::local(), FunctionName::new("digits").expect("a name"));
        let staying = thread::scope(|scope| {
            // More than there are shards, and some requests end on other threads than they began.
            let threads: Vec<_> = (0..2 * SHARDS)
                .map(|number| {
                    let visit = visit();
                    scope.spawn({
                        let telemetry = &telemetry;
                        move || {
                            record(telemetry, &visit, 200);
                            record(telemetry, &visit, 418);
                            (number < 3).then_some(visit)
                        }
                    })
                })
                .collect();
            let staying = threads.into_iter().filter_map(|thread| thread.join().expect("it records"));
            let staying: Vec<_> = staying.collect();
            shown(&telemetry);
            staying
        });
        let text = shown(&telemetry);
        let count = 2 * SHARDS;
        let labels = r#"function="digits",status="200",tenant="default""#;
        for line in [
            format!(r#"sandmill_requests_total{{form="function",{labels}}} {count}"#),
            format!(r#"sandmill_requests_total{{form="function",{}}} {count}"#, labels.replace("200", "418")),
            format!(r#"sandmill_request_duration_seconds_count{{function="digits",tenant="default"}} {}"#, 2 * count),
            format!(r#"sandmill_batch_utilization_ratio_bucket{{function="digits",tenant="default",le="0.5"}} {}"#, 2 * count),
            r#"sandmill_batch_utilization_ratio_bucket{function="digits",tenant="default",le="0.25"} 0"#.to_owned(),
            format!(r#"sandmill_request_body_bytes_total{{function="digits",tenant="default"}} {}"#, 4 * count),
            r#"sandmill_requests_in_flight{function="digits",tenant="default"} 3"#.to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        drop(staying);
        assert!(shown(&telemetry).contains(r#"sandmill_requests_in_flight{function="digits",tenant="default"} 0"#));
    }

    #[test]
    fn every_stage_and_all_that_plugins_use_is_shown() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let visit = telemetry.admitted(TenantId::local(), FunctionName::new("digits").expect("a name"));
        let ms = |ms| Some(Duration::from_millis(ms));
        let plugin = PluginUsage {
            instantiation: Duration::from_micros(5),
            running: Duration::from_millis(8),
            memory_bytes: 1 << 20,
            inferences: 2,
            ..PluginUsage::default()
        };
        let batch = Some(Batch { rows: 4, rows_max: NonZeroUsize::new(8), reason: BatchReason::Full });
        telemetry.record(&Record {
            function: Some(&visit),
            release: None,
            form: "function",
            method: "POST",
            path: "/fn/digits",
            status: Some(200),
            fault: None,
            duration: Duration::from_millis(30),
            received: 2,
            sent: 3,
            stages: Stages {
                turns: ms(1),
                preprocess: ms(2),
                queue: ms(3),
                inference: ms(4),
                batch,
                postprocess: ms(5),
                handle: ms(6),
                plugin: Some(plugin),
            },
        });
        let text = shown(&telemetry);
        for name in [
            "request_duration_seconds",
            "turn_wait_duration_seconds",
            "preprocess_duration_seconds",
            "queue_duration_seconds",
            "inference_duration_seconds",
            "batch_rows",
            "batch_utilization_ratio",
            "postprocess_duration_seconds",
            "handle_duration_seconds",
            "plugin_instantiation_duration_seconds",
            "plugin_running_duration_seconds",
            "plugin_memory_bytes",
        ] {
            let line = format!(r#"sandmill_{name}_count{{function="digits",tenant="default"}} 1"#);
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        for line in [
            "plugin_inferences_total{function=\"digits\",tenant=\"default\"} 2",
            "plugin_seconds_total{function=\"digits\",tenant=\"default\"} 0.008",
        ] {
            assert!(text.contains(&format!("sandmill_{line}")), "{line} is not in {text}");
        }
    }

    #[test]
    fn nothing_is_shown_that_a_function_never_had() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let visit = telemetry.refused(TenantId::local(), FunctionName::new("digits").expect("a name"));
        record(&telemetry, &visit, 429);
        let text = shown(&telemetry);
        assert!(!text.contains("sandmill_handle_duration_seconds_count"), "{text}");
        assert!(text.contains(r#"sandmill_requests_in_flight{function="digits",tenant="default"} 0"#), "{text}");
    }
}
