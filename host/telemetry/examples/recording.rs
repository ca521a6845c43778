//! What it costs to count a request: the guard while it is under way and its record at the end, as a function with a plugin
//! and a model of its own gives them. Prints nanoseconds a request, of one thread and of two at once.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::thread;
use std::time::{Duration, Instant};

use sandmill_domain::ports::{PluginUsage, Stages};
use sandmill_domain::{Batch, BatchReason, FunctionName, ReleaseNumber, TenantId};
use sandmill_telemetry::{Record, Telemetry};

const REQUESTS: u32 = 2_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::new("0", "0")?;
    let function = FunctionName::new("digits")?;
    for threads in [1_u32, 2] {
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..REQUESTS).for_each(|_| count(&telemetry, &function)));
            }
        });
        println!(r#"{{"what": "counting a request", "threads": {threads}, "ns": {:.0}}}"#, nanoseconds(start.elapsed()));
    }
    Ok(())
}

fn count(telemetry: &Telemetry, function: &FunctionName) {
    let tenant = TenantId::local();
    let visit = telemetry.admitted(tenant, function.clone());
    telemetry.record(&Record {
        function: Some(&visit),
        release: Some(ReleaseNumber::FIRST),
        form: "function",
        method: "POST",
        path: "/fn/digits",
        status: Some(200),
        fault: None,
        duration: Duration::from_micros(160),
        received: 64,
        sent: 120,
        stages: Stages {
            turns: None,
            preprocess: Some(Duration::from_micros(25)),
            queue: Some(Duration::from_micros(15)),
            inference: Some(Duration::from_micros(12)),
            batch: Some(Batch { rows: 1, rows_max: None, reason: BatchReason::Idle }),
            postprocess: Some(Duration::from_micros(14)),
            handle: None,
            plugin: Some(PluginUsage { memory_bytes: 1 << 20, running: Duration::from_micros(20), ..PluginUsage::default() }),
        },
    });
}

fn nanoseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}
