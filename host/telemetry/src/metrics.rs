//! Every metric of the host on one page, but for those of requests (`requests`) and models (`models`): names with their units, labels from closed or
//! configured sets, never from what a caller sends.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::Metric;
use prometheus::{Counter, Encoder, Gauge, Histogram, IntCounter, IntGauge, Opts, Registry, TextEncoder};
use sandmill_domain::{BreakerState, FunctionName, TenantId, Usage};
use thiserror::Error;

use crate::family::{Family, Kind, Removable};
use crate::models::{Families, ModelMetrics};
use crate::record::Record;
use crate::requests::{Functions, Visit};

/// From 50 µs, a digits model inline, to 30 s, a deadline: about two buckets to a factor of 2.5.
const SECONDS: [f64; 20] = [
    50e-6, 100e-6, 200e-6, 350e-6, 500e-6, 750e-6, 1e-3, 2e-3, 3.5e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    30.0,
];

/// The labels of what belongs to one function.
pub(crate) const FUNCTION: [&str; 2] = ["tenant", "function"];

/// A metric could not be registered or rendered: a bug on this page.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// The registry and every metric in it.
pub struct Telemetry {
    registry: Registry,
    /// What is of functions.
    removable: Vec<Box<dyn Removable>>,
    /// Held by whoever forgets, and by whoever goes through all functions: what is looked at is made if it is not there.
    looking: Mutex<()>,
    functions: Functions,
    plugin_loads: Family<IntCounter>,
    plugin_compile: Family<Gauge>,
    plugin_snapshot: Family<Gauge>,
    model_load: Family<Gauge>,
    warm_up: Family<Gauge>,
    provider: Family<IntGauge>,
    breaker: Family<IntGauge>,
    breaker_transitions: Family<IntCounter>,
    models: Arc<Families>,
    /// Asked before the page is shown.
    asked: Mutex<Vec<Box<Ask>>>,
    device_memory: Family<IntGauge>,
    store_stale: Gauge,
    functions_in_trouble: IntGauge,
    connections: IntGauge,
    certificate_loads: Family<IntCounter>,
    certificate_expiry: Family<Gauge>,
    handshake_failures: Family<IntCounter>,
    ready: Gauge,
}

/// Sets gauges to where things stand; false if there is nothing more to ask for.
type Ask = dyn Fn() -> bool + Send + Sync;

impl Telemetry {
    /// All metrics at zero; `version` and `runtime`, the ONNX Runtime's version, go to the build information.
    ///
    /// # Errors
    /// If this page names a metric twice.
    pub fn new(version: &str, runtime: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let page = Page { registry: &registry, removable: RefCell::default() };
        let build = page.gauges("build_info", "Always 1; what runs.", &["version", "onnxruntime"])?;
        build.with_label_values(&[version, runtime]).set(1.0);
        let telemetry = Self {
            functions: Functions::new(&page)?,
            plugin_loads: page.counters(
                "plugin_loads_total",
                "Functions whose plugins were loaded; `cache` is hit where all compiled code was found, miss where some was made.",
                &["tenant", "function", "cache"],
            )?,
            plugin_compile: page.gauges("plugin_compile_duration_seconds", "Compiling the plugin, when it was.", &FUNCTION)?,
            plugin_snapshot: page.gauges(
                "plugin_snapshot_duration_seconds",
                "Running the plugin's init and keeping what it left, when that was done; absent without a snapshot.",
                &FUNCTION,
            )?,
            model_load: page.gauges("model_load_duration_seconds", "Reading and optimising the model, last time.", &FUNCTION)?,
            warm_up: page.gauges("model_warm_up_duration_seconds", "Warming the model up, last time.", &FUNCTION)?,
            provider: page.int_gauges(
                "model_provider",
                "Always 1; who runs the function's models, by the name that the function has for it.",
                &["tenant", "function", "provider"],
            )?,
            breaker: page.int_gauges("breaker_state", "The breaker: 0 is closed, 1 half-open, 2 open.", &FUNCTION)?,
            breaker_transitions: page.counters(
                "breaker_transitions_total",
                "Times that the breaker came to a state.",
                &["tenant", "function", "to"],
            )?,
            models: Arc::new(Families::new(&page)?),
            asked: Mutex::default(),
            device_memory: page.int_gauges(
                "device_memory_bytes",
                "A device's memory: all there is, what of it is used by whomever, and by this process. Absent without a driver.",
                &["device", "part"],
            )?,
            store_stale: page.gauge(
                "store_stale_seconds",
                "For how long the store could not be read; 0 if it can, or there is none.",
            )?,
            functions_in_trouble: page.int_gauge(
                "functions_in_trouble",
                "Functions whose current release this host cannot serve: what was before goes on, if anything.",
            )?,
            connections: page.int_gauge("connections", "Open client connections.")?,
            certificate_loads: page.counters(
                "tls_certificate_loads_total",
                "Certificates that a listener found in its files, by whether it took or refused them.",
                &["listener", "result"],
            )?,
            certificate_expiry: page.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate that a listener shows expires, in seconds since 1970.",
                &["listener"],
            )?,
            handshake_failures: page.counters(
                "tls_handshake_failures_total",
                "Connections that began and did not come to speak TLS: slow, plain (HTTP without TLS) or broken.",
                &["listener", "reason"],
            )?,
            ready: page.gauge("ready", "1 when each function was loaded, or has had its time for it, and nothing drains.")?,
            removable: page.removable.into_inner(),
            looking: Mutex::default(),
            registry,
        };
        #[cfg(target_os = "linux")]
        telemetry.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(telemetry)
    }

    /// Whether no request of a function's is under way.
    pub fn is_idle(&self, tenant: &TenantId, function: &FunctionName) -> bool {
        self.functions.is_idle(tenant, function)
    }

    /// These functions are served no more: nothing of them is shown from now on.
    pub fn forget(&self, gone: &[(TenantId, FunctionName)]) {
        let _looking = self.looking();
        self.functions.forget(gone);
        let gone: HashSet<_> = gone.iter().map(|(tenant, function)| (tenant.as_str(), function.as_str())).collect();
        self.removable.iter().for_each(|family| family.remove(&|tenant, function| gone.contains(&(tenant, function))));
    }

    /// Another release of a function answers: where the models of the one before stood is not shown from now on.
    pub fn replaced(&self, tenant: &TenantId, function: &FunctionName) {
        let is_its = |of: &str, name: &str| (of, name) == (tenant.as_str(), function.as_str());
        self.removable.iter().filter(|family| family.is_of_models()).for_each(|family| family.remove(&is_its));
    }

    fn looking(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What nothing is left to be asked of is not asked any more. Blocking: a model may go with it.
    pub fn prune(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).retain(|ask| ask());
    }

    /// Everything in Prometheus' text format; or, for a tenant, what carries its name as the label `tenant` and nothing else.
    ///
    /// # Errors
    /// If a metric cannot be rendered.
    pub fn render(&self, tenant: Option<&TenantId>) -> Result<Vec<u8>, MetricsError> {
        self.prune();
        let mut families = {
            let _looking = self.looking();
            self.functions.put_together();
            self.registry.gather()
        };
        if let Some(tenant) = tenant {
            families.iter_mut().for_each(|family| family.mut_metric().retain(|metric| is_of(metric, tenant)));
            families.retain(|family| !family.get_metric().is_empty());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    /// The content type of [`Telemetry::render`].
    pub fn content_type() -> &'static str {
        prometheus::TEXT_FORMAT
    }

    /// A request was admitted by this function; it is under way until that is dropped.
    pub fn admitted(&self, tenant: TenantId, function: FunctionName) -> Visit {
        Visit::new(&self.functions, tenant, function, true)
    }

    /// A request was refused by this function, which must be there: a name that a caller made up is no label.
    pub fn refused(&self, tenant: TenantId, function: FunctionName) -> Visit {
        Visit::new(&self.functions, tenant, function, false)
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connect(&self) -> InFlight {
        InFlight::new(self.connections.clone())
    }

    /// A listener shows a certificate from now on; it expires at this time after 1970.
    pub fn certificate_taken(&self, listener: &str, expiry: Duration) {
        self.certificate_loads.with_label_values(&[listener, "taken"]).inc();
        // There before it is needed: what appears with 1 has not risen.
        self.certificate_loads.with_label_values(&[listener, "refused"]).inc_by(0);
        self.certificate_expiry.with_label_values(&[listener]).set(expiry.as_secs_f64());
    }

    /// A listener goes on with the certificate it has: what lies in its files is none.
    pub fn certificate_refused(&self, listener: &str) {
        self.certificate_loads.with_label_values(&[listener, "refused"]).inc();
    }

    /// A connection of a listener did not come to speak TLS, for a reason from a closed list.
    pub fn handshake_failed(&self, listener: &str, reason: &'static str) {
        self.handshake_failures.with_label_values(&[listener, reason]).inc();
    }

    /// A function's model was loaded and warmed up.
    pub fn loaded(&self, tenant: &TenantId, function: &FunctionName, load: Duration, warm_up: Duration) {
        let labels = [tenant.as_str(), function.as_str()];
        self.model_load.with_label_values(&labels).set(load.as_secs_f64());
        self.warm_up.with_label_values(&labels).set(warm_up.as_secs_f64());
    }

    /// A model of a function is run by this provider.
    pub fn placed(&self, tenant: &TenantId, function: &FunctionName, provider: &str) {
        self.provider.with_label_values(&[tenant.as_str(), function.as_str(), provider]).set(1);
    }

    /// A function's plugins were loaded, all from the cache or not; how long it had taken to compile them, and their snapshots if there are any.
    pub fn plugin_loaded(&self, tenant: &TenantId, function: &FunctionName, load: &PluginLoad) {
        let labels = [tenant.as_str(), function.as_str()];
        let cache = if load.cached { "hit" } else { "miss" };
        self.plugin_loads.with_label_values(&[tenant.as_str(), function.as_str(), cache]).inc();
        self.plugin_compile.with_label_values(&labels).set(load.compile.as_secs_f64());
        if let Some(snapshot) = load.snapshot {
            self.plugin_snapshot.with_label_values(&labels).set(snapshot.as_secs_f64());
        }
    }

    /// A function has a breaker, which is closed.
    pub fn breaker(&self, tenant: &TenantId, function: &FunctionName) -> BreakerMetrics {
        let labels = [tenant.as_str(), function.as_str()];
        let to = |state: BreakerState| self.breaker_transitions.with_label_values(&[labels[0], labels[1], state.name()]);
        let state = self.breaker.with_label_values(&labels);
        state.set(0);
        BreakerMetrics {
            state,
            to_closed: to(BreakerState::Closed),
            to_half_open: to(BreakerState::HalfOpen),
            to_open: to(BreakerState::Open),
        }
    }

    /// A function has this model.
    pub fn model(&self, tenant: &TenantId, function: &FunctionName, model: &str) -> ModelMetrics {
        self.models.of(self.functions.of(tenant, function), tenant, function, model)
    }

    /// A plugin of this function ran for a request that was cut off, and so is recorded without it.
    pub fn cut_off(&self, tenant: &TenantId, function: &FunctionName, running: Duration) {
        self.functions.of(tenant, function).cut_off(running);
    }

    /// What each function has used since the host started; those that were forgotten are left out.
    pub fn used(&self) -> Vec<(TenantId, FunctionName, Usage)> {
        let _looking = self.looking();
        self.functions.used()
    }

    /// The store could not be read for so long, and so many functions are not served as it says.
    pub fn store(&self, stale: Duration, in_trouble: usize) {
        self.store_stale.set(stale.as_secs_f64());
        self.functions_in_trouble.set(i64::try_from(in_trouble).unwrap_or(i64::MAX));
    }

    /// A device has so much memory, in bytes; so much of it is used, by this process or by whomever, where that is known.
    pub fn device_memory(&self, device: u32, total: u64, used: u64, own: Option<u64>) {
        let device = device.to_string();
        for (part, bytes) in [("total", Some(total)), ("used", Some(used)), ("own", own)] {
            if let Some(bytes) = bytes {
                self.device_memory.with_label_values(&[device.as_str(), part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }

    /// Asks before each look at the page where things stand, until it says that there is nothing more; it must be quick.
    pub fn ask(&self, ask: impl Fn() -> bool + Send + Sync + 'static) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(ask));
    }

    /// The host became ready, or is ready no more.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(f64::from(u8::from(ready)));
    }

    pub(crate) fn count(&self, record: &Record<'_>) {
        let metrics = record.function.map_or(self.functions.nobody(), |visit| &visit.metrics);
        metrics.count(record);
    }
}

fn is_of(metric: &Metric, tenant: &TenantId) -> bool {
    metric.get_label().iter().any(|label| label.name() == "tenant" && label.value() == tenant.as_str())
}

/// How a plugin came to be.
#[derive(Clone, Copy, Debug)]
pub struct PluginLoad {
    /// Whether its compiled code was there already.
    pub cached: bool,
    /// Compiling it, when that was done.
    pub compile: Duration,
    /// Its snapshot, when that was taken; none if it has none.
    pub snapshot: Option<Duration>,
}

/// The metrics of one function's breaker.
#[derive(Debug)]
pub struct BreakerMetrics {
    state: IntGauge,
    to_closed: IntCounter,
    to_half_open: IntCounter,
    to_open: IntCounter,
}

impl BreakerMetrics {
    /// The breaker has come to this state.
    pub fn moved(&self, to: BreakerState) {
        self.stands(to);
        match to {
            BreakerState::Closed => self.to_closed.inc(),
            BreakerState::HalfOpen => self.to_half_open.inc(),
            BreakerState::Open => self.to_open.inc(),
        }
    }

    /// The breaker that counts from now on is in this state.
    pub fn stands(&self, at: BreakerState) {
        self.state.set(match at {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }
}

/// Something that is counted while it lasts.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Registers metrics under the host's prefix.
pub(crate) struct Page<'a> {
    registry: &'a Registry,
    removable: RefCell<Vec<Box<dyn Removable>>>,
}

impl Page<'_> {
    fn register<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> Result<M, MetricsError> {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// One of which may be removed what is of a function that is gone.
    fn register_family<M: Kind>(&self, family: prometheus::Result<Family<M>>) -> Result<Family<M>, MetricsError> {
        let family = self.register(family)?;
        self.removable.borrow_mut().push(Box::new(family.clone()));
        Ok(family)
    }

    pub(crate) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<Family<IntCounter>, MetricsError> {
        self.register_family(Family::new(name, help, labels, &[]))
    }

    /// Counters of seconds, in fractions.
    pub(crate) fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<Family<Counter>, MetricsError> {
        self.register_family(Family::new(name, help, labels, &[]))
    }

    pub(crate) fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<Family<IntGauge>, MetricsError> {
        self.register_family(Family::new(name, help, labels, &[]))
    }

    fn int_gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::with_opts(Opts::new(name, help).namespace("sandmill")))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<Family<Gauge>, MetricsError> {
        self.register_family(Family::new(name, help, labels, &[]))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.register(Gauge::with_opts(Opts::new(name, help).namespace("sandmill")))
    }

    pub(crate) fn histograms(&self, name: &str, help: &str) -> Result<Family<Histogram>, MetricsError> {
        self.histograms_of(name, help, &SECONDS)
    }

    pub(crate) fn histograms_of(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Family<Histogram>, MetricsError> {
        self.histograms_with(name, help, &FUNCTION, buckets)
    }

    pub(crate) fn histograms_with(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Family<Histogram>, MetricsError> {
        self.register_family(Family::new(name, help, labels, buckets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_counts_while_it_lives() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let function = FunctionName::new("digits").expect("a name");
        let in_flight = || {
            let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
            text.lines().find(|line| line.starts_with("sandmill_requests_in_flight{")).map(|line| line.ends_with(" 1"))
        };
        assert_eq!(in_flight(), None);
        let guard = telemetry.admitted(TenantId::local(), function);
        assert_eq!(in_flight(), Some(true));
        drop(guard);
        assert_eq!(in_flight(), Some(false));
    }

    #[test]
    fn a_function_that_is_gone_is_shown_no_more() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let names = ["digits", "angle"].map(|name| FunctionName::new(name).expect("a name"));
        let tenant = TenantId::local();
        for name in &names {
            drop(telemetry.admitted(tenant.clone(), name.clone()));
            telemetry.placed(&tenant, name, "cpu");
            telemetry.breaker(&tenant, name).moved(BreakerState::Open);
            telemetry.model(&tenant, name, "model").happened(&sandmill_domain::ModelEvent::LoadFailed);
        }
        let shown = || String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
        assert!(shown().contains("digits") && shown().contains("angle"));
        let model = telemetry.model(&tenant, &names[0], "model");
        telemetry.forget(&[(tenant, names[0].clone())]);
        // It was being replaced, and had not ended.
        model.happened(&sandmill_domain::ModelEvent::RecycleFailed { reason: sandmill_domain::RecycleReason::Failures });
        model.happened(&sandmill_domain::ModelEvent::Ran { took: Duration::from_secs(1) });
        model.stands(&sandmill_domain::ModelState::default());
        assert!(!shown().contains("digits") && shown().contains("angle"), "{}", shown());
    }

    #[test]
    fn of_a_release_that_was_replaced_no_model_is_shown() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let (tenant, function) = (TenantId::local(), FunctionName::new("digits").expect("a name"));
        let stands = |model: &str| telemetry.model(&tenant, &function, model).stands(&sandmill_domain::ModelState::default());
        let shown = |line: &str| {
            let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
            text.lines().any(|found| found.starts_with(line))
        };
        drop(telemetry.admitted(tenant.clone(), function.clone()));
        telemetry.placed(&tenant, &function, "cuda");
        stands("old");
        telemetry.replaced(&tenant, &function);
        telemetry.placed(&tenant, &function, "cpu");
        stands("new");
        assert!(
            !shown(r#"sandmill_model_provider{function="digits",provider="cuda""#)
                && shown(r#"sandmill_model_provider{function="digits""#)
        );
        assert!(
            !shown(r#"sandmill_model_warm{function="digits",model="old""#)
                && shown(r#"sandmill_model_warm{function="digits",model="new""#)
        );
        assert!(shown(r#"sandmill_requests_in_flight{function="digits""#), "its requests go on");
    }

    #[test]
    fn whoever_runs_a_model_is_shown() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        telemetry.placed(&TenantId::local(), &FunctionName::new("digits").expect("a name"), "cuda");
        let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
        let expected = r#"sandmill_model_provider{function="digits",provider="cuda",tenant="default"} 1"#;
        assert!(text.lines().any(|line| line == expected), "{text}");
    }

    #[test]
    fn a_tenant_sees_its_own_lines_and_no_others() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let [acme, other, nobody] = ["acme", "other", "nobody"].map(|name| TenantId::new(name).expect("a name"));
        // Names of others that contain the tenant's own, or are it, in other labels.
        for (tenant, function) in [(&acme, "digits"), (&other, "acme"), (&other, "tenant-acme")] {
            telemetry.placed(tenant, &FunctionName::new(function).expect("a name"), r#"tenant="acme""#);
        }
        telemetry.device_memory(0, 80, 20, None);
        let text = |tenant| String::from_utf8(telemetry.render(tenant).expect("renders")).expect("text");
        let own = text(Some(&acme));
        let lines: Vec<_> = own.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, [r#"sandmill_model_provider{function="digits",provider="tenant=\"acme\"",tenant="acme"} 1"#]);
        assert_eq!(own.lines().count(), 3, "families without a line of its own are not there: {own}");
        assert_eq!(text(Some(&nobody)), "");
        assert!(text(None).contains("sandmill_device_memory_bytes") && text(None).contains(r#"tenant="other""#));
    }

    #[test]
    fn a_device_shows_what_its_driver_tells() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        telemetry.device_memory(0, 80, 20, None);
        let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
        for line in [r#"{device="0",part="total"} 80"#, r#"{device="0",part="used"} 20"#] {
            assert!(text.contains(&format!("sandmill_device_memory_bytes{line}\n")), "{text}");
        }
        assert!(!text.contains(r#"part="own""#), "{text}");
    }

    #[test]
    fn a_certificate_is_shown_by_its_listener() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        telemetry.certificate_taken("listen", Duration::from_secs(2_000_000_000));
        telemetry.certificate_refused("listen");
        telemetry.handshake_failed("control", "slow");
        let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
        for expected in [
            r#"sandmill_tls_certificate_loads_total{listener="listen",result="taken"} 1"#,
            r#"sandmill_tls_certificate_loads_total{listener="listen",result="refused"} 1"#,
            r#"sandmill_tls_certificate_expiry_timestamp_seconds{listener="listen"} 2000000000"#,
            r#"sandmill_tls_handshake_failures_total{listener="control",reason="slow"} 1"#,
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is not in {text}");
        }
    }

    #[test]
    fn a_breaker_is_shown_before_it_moves() {
        let telemetry = Telemetry::new("0", "0").expect("the page is consistent");
        let breaker = telemetry.breaker(&TenantId::local(), &FunctionName::new("digits").expect("a name"));
        let found = |line: &str| {
            let text = String::from_utf8(telemetry.render(None).expect("renders")).expect("text");
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        };
        found(r#"sandmill_breaker_state{function="digits",tenant="default"} 0"#);
        found(r#"sandmill_breaker_transitions_total{function="digits",tenant="default",to="half_open"} 0"#);
        for (to, value) in [(BreakerState::Open, 2), (BreakerState::HalfOpen, 1), (BreakerState::Closed, 0)] {
            breaker.moved(to);
            found(&format!(r#"sandmill_breaker_state{{function="digits",tenant="default"}} {value}"#));
            let to = to.name();
            found(&format!(r#"sandmill_breaker_transitions_total{{function="digits",tenant="default",to="{to}"}} 1"#));
        }
    }
}
