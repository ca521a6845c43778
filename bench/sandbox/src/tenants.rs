//! Two tenants on one host: A at its bound, with a model that takes a second; B, with a small plugin, once alone and once beside A.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method};
use sandmill_domain::ports::{Form, Plugin, Service, Target};
use sandmill_domain::{Code, FunctionLimits, FunctionName, ReleaseNumber, TenantId, TenantLimits};
use sandmill_pipeline::{Account, Pipeline, Plugins, Release, ReleaseParts, Served};
use sandmill_sandbox::{Sandbox, WasmPlugin};

use crate::guests::{Echo, component, load, request, sandbox};
use crate::{Options, tell};

/// Callers of A's: more than its bound, so that it is always at it.
const CALLERS: usize = 300;

pub(crate) fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sandbox = sandbox(folder.path(), |_| {})?;
    let pipeline = Arc::new(pipeline(options, &sandbox)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut refused = 0;
    for _ in 0..options.runs.min(3) {
        alone.push(runtime.block_on(small_calls(&pipeline, options.secs))?);
        let stop = Arc::new(AtomicBool::new(false));
        let refusals = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| runtime.spawn(slow_calls(Arc::clone(&pipeline), Arc::clone(&stop), Arc::clone(&refusals))))
            .collect();
        // Until A is at its bound.
        while refusals.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        beside.push(runtime.block_on(small_calls(&pipeline, options.secs))?);
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(async {
            for caller in callers {
                caller.await.expect("no panic");
            }
        });
        refused += refusals.load(Ordering::Relaxed);
    }
    let of = |runs: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| runs.iter().map(pick).collect::<Vec<f64>>();
    tell("tenants.b_alone.p50_us", "us", of(&alone, |run| run.0));
    tell("tenants.b_alone.p99_us", "us", of(&alone, |run| run.1));
    tell("tenants.b_beside.p50_us", "us", of(&beside, |run| run.0));
    tell("tenants.b_beside.p99_us", "us", of(&beside, |run| run.1));
    tell("tenants.a_refused", "1", vec![refused as f64]);
    let ratios: Vec<f64> = alone.iter().zip(&beside).map(|(alone, beside)| beside.1 / alone.1).collect();
    tell("tenants.p99_ratio", "x", ratios);
    Ok(())
}

fn target(tenant: &str) -> Target {
    let function = FunctionName::new("bench").expect("a name");
    let tenant = TenantId::new(tenant).expect("a name");
    Target { tenant, function, release: None, form: Form::Function }
}

fn pipeline(options: &Options, sandbox: &Sandbox) -> Result<Pipeline> {
    let instances = sandmill_sandbox::SandboxOptions::default().instances_max as usize;
    let limits = TenantLimits {
        instances_max: instances / 4,
        guest_memory_bytes_max: instances / 4 * FunctionLimits::default().plugin.memory_bytes_max,
        ..TenantLimits::UNLIMITED
    };
    let slow = load(sandbox, &component(&options.root, "bench/guests/runs/plugin.wasm")?, |plugin| {
        plugin.models = vec![Arc::new(Echo::new(Duration::from_secs(1)))];
    })?;
    let small = load(sandbox, &component(&options.root, "bench/guests/pass/plugin.wasm")?, |_| {})?;
    let pipeline = Pipeline::default();
    pipeline.publish(Served::new(release("a", slow, limits, true)));
    pipeline.publish(Served::new(release("b", small, limits, false)));
    pipeline.set_ready(true);
    Ok(pipeline)
}

fn release(tenant: &str, plugin: WasmPlugin, limits: TenantLimits, handles: bool) -> Arc<Release> {
    let target = target(tenant);
    let plugin: Arc<dyn Plugin> = Arc::new(plugin);
    let plugins = if handles {
        Plugins { handler: Some(plugin), ..Plugins::default() }
    } else {
        Plugins { pre: Some(plugin), ..Plugins::default() }
    };
    Arc::new(Release::new(ReleaseParts {
        journal: None,
        tenant: target.tenant,
        function: target.function,
        number: ReleaseNumber::FIRST,
        methods: vec![Method::POST],
        limits: FunctionLimits { concurrency_max: 10_000, ..FunctionLimits::default() },
        account: Account::new(limits),
        model: (!handles).then(|| Arc::new(Echo::new(Duration::ZERO)) as Arc<dyn sandmill_domain::ports::Model>),
        models: Vec::new(),
        plugins,
    }))
}

/// Calls A again and again; a refused call waits a little, as `Retry-After` would have it.
async fn slow_calls(pipeline: Arc<Pipeline>, stop: Arc<AtomicBool>, refusals: Arc<AtomicUsize>) {
    let target = target("a");
    while !stop.load(Ordering::Relaxed) {
        match pipeline.admit(&target, &Method::POST, &HeaderMap::new()) {
            Ok(ticket) => {
                let outcome = ticket.call(request(&Bytes::from_static(b"slow"))).await;
                outcome.result.expect("an answer");
            }
            Err(fault) => {
                assert_eq!(fault.code, Code::TooManyRequests);
                refusals.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Calls B every millisecond: the median and the 99th percentile, in microseconds. None may be refused.
async fn small_calls(pipeline: &Arc<Pipeline>, secs: u64) -> Result<(f64, f64)> {
    let target = target("b");
    let body = Bytes::from(vec![7; 1000]);
    let end = Instant::now() + Duration::from_secs(secs);
    let mut times = Vec::new();
    while Instant::now() < end {
        let pipeline = Arc::clone(pipeline);
        let (target, body) = (target.clone(), body.clone());
        // As a task of a worker's: here is no worker.
        let took = tokio::spawn(async move {
            let start = Instant::now();
            let ticket = pipeline.admit(&target, &Method::POST, &HeaderMap::new())?;
            ticket.call(request(&body)).await.result?;
            Ok::<f64, sandmill_domain::Fault>(start.elapsed().as_secs_f64() * 1e6)
        });
        times.push(took.await??);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ensure!(times.len() > 100, "too few calls");
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}
