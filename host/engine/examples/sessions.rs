//! What sessions cost over their life, measured inside a process of its own: `leak REQUESTS` makes calls on sessions that leak and
//! are replaced, `reload CYCLES` loads and drops three models again and again. Prints one line of JSON per figure; `bench/run` runs it.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandmill_domain::ports::Model;
use sandmill_domain::{Deadline, Dtype, Fault, ModelEvent, Tensor};
use sandmill_engine::{Budget, Engine, EngineOptions, ModelOptions, ModelSource, OnnxModel, Runtime, Session, Stop};

const CALLERS: usize = 8;
/// What a run leaves behind.
const LEAK: usize = 4096;
/// Calls after which memory is first looked at.
const SETTLED: usize = 10_000;

/// A session that keeps some memory for every run, until it goes.
struct Leaky(Box<dyn Session>, Mutex<Vec<Vec<u8>>>);

impl Session for Leaky {
    fn run(&self, inputs: &[Tensor], stop: Stop<'_>) -> Result<Vec<Tensor>, Fault> {
        self.1.lock().expect("not poisoned").push(vec![1; LEAK]);
        self.0.run(inputs, stop)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["leak", requests] => leak(requests.parse()?),
        ["reload", cycles] => reload(cycles.parse()?),
        _ => Err("usage: sessions leak REQUESTS | reload CYCLES".into()),
    }
}

#[expect(clippy::print_stdout, reason = "it is what it is for")]
fn say(name: &str, value: f64, unit: &str) {
    println!(r#"{{"name": "{name}", "value": {value:.6}, "unit": "{unit}"}}"#);
}

fn start() -> Result<Engine, Box<dyn Error>> {
    Ok(Engine::start(&Runtime::find(None)?, &EngineOptions::default())?)
}

fn resident_mib() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(f64::NAN) * 4096.0 / (1 << 20) as f64
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source(example: &str) -> Result<ModelSource, Box<dyn Error>> {
    Ok(ModelSource::of(example, fs::read(root().join("examples").join(example).join("model.onnx"))?))
}

fn leak(requests: usize) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let budget = |requests_max| Budget { requests_max, pause: Duration::ZERO, ..Budget::default() };
    // So many as can be measured without a replacement before memory is at an end.
    let (sound, leaky) = (start()?, start()?.wrapping(|session| Box::new(Leaky(session, Mutex::default()))));
    let times = Times::new();
    for round in ["first", "second"] {
        for (name, engine, budget) in
            [("never", &sound, budget(None)), ("sound", &sound, budget(Some(1000))), ("leaky", &leaky, budget(Some(1000)))]
        {
            let model = engine.load(source("digits")?, &ModelOptions { budget, ..ModelOptions::default() })?;
            let model = Arc::new(model);
            model.measure();
            let recycled = Arc::new(Mutex::new((0_u32, Duration::ZERO, 0_usize)));
            let told = Arc::clone(&recycled);
            model.watch(move |event| {
                if let ModelEvent::Recycled { took, not_returned_bytes, .. } = event {
                    let mut seen = told.lock().expect("not poisoned");
                    *seen = (seen.0 + 1, seen.1 + *took, seen.2.max(*not_returned_bytes));
                }
            });
            runtime.block_on(call(&model, SETTLED, &times));
            let settled = after_replacement(&model, &recycled);
            let begun = Instant::now();
            times.forget();
            runtime.block_on(call(&model, requests, &times));
            let took = begun.elapsed();
            let (count, spent, kept) = *recycled.lock().expect("not poisoned");
            let rested = after_replacement(&model, &recycled);
            let name = format!("recycle.{name}.{round}");
            say(&format!("{name}.rps"), requests as f64 / took.as_secs_f64(), "1/s");
            say(&format!("{name}.p50_us"), times.percentile(50), "us");
            say(&format!("{name}.p99_us"), times.percentile(99), "us");
            say(&format!("{name}.settled_mib"), settled, "MiB");
            say(&format!("{name}.grown_percent"), (rested / settled - 1.0) * 100.0, "%");
            say(&format!("{name}.recycles"), f64::from(count), "");
            if count > 0 {
                say(&format!("{name}.recycle_ms"), spent.as_secs_f64() * 1e3 / f64::from(count), "ms");
                say(&format!("{name}.not_returned_max_kib"), kept as f64 / 1024.0, "KiB");
            }
        }
    }
    Ok(())
}

/// How many sessions were replaced, how long that took in all, and the most that one left behind.
type Recycled = Mutex<(u32, Duration, usize)>;

/// What the process holds when its session has just been replaced: what a session gathers in its life is not growth.
fn after_replacement(model: &OnnxModel, recycled: &Recycled) -> f64 {
    let count = || recycled.lock().expect("not poisoned").0;
    let before = count();
    model.recycle();
    while count() == before {
        std::thread::sleep(Duration::from_millis(1));
    }
    resident_mib()
}

/// How many calls took how many µs: memory of a size that does not grow with them.
struct Times(Arc<[AtomicUsize]>);

/// What took longer counts as this.
const TIME_MAX_US: usize = 100_000;

impl Times {
    fn new() -> Self {
        Self((0..=TIME_MAX_US).map(|_| AtomicUsize::new(0)).collect())
    }

    fn note(&self, time: Duration) {
        let micros = usize::try_from(time.as_micros()).unwrap_or(TIME_MAX_US).min(TIME_MAX_US);
        self.0[micros].fetch_add(1, Ordering::Relaxed);
    }

    fn forget(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn percentile(&self, percent: usize) -> f64 {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let rank = self.0.iter().map(count).sum::<usize>() * percent / 100;
        let mut below = 0;
        let found = self.0.iter().position(|times| {
            below += count(times);
            below > rank
        });
        found.unwrap_or(TIME_MAX_US) as f64
    }
}

/// So many calls by eight callers. One that fails ends everything.
async fn call(model: &Arc<OnnxModel>, requests: usize, times: &Times) {
    let left = Arc::new(AtomicUsize::new(requests));
    let data: bytes::Bytes = vec![0; 64 * 4].into();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (model, left, data) = (Arc::clone(model), Arc::clone(&left), data.clone());
            let times = Times(Arc::clone(&times.0));
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let begun = Instant::now();
                    let tensor = Tensor { name: "X".into(), dtype: Dtype::Fp32, shape: vec![1, 64], data: data.clone() };
                    let deadline = Deadline::after(begun, Duration::from_secs(10));
                    model.infer(vec![tensor], deadline.into()).await.expect("no call fails");
                    times.note(begun.elapsed());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no caller breaks");
    }
}

fn reload(cycles: usize) -> Done {
    let engine = start()?;
    let mut settled = f64::NAN;
    for cycle in 1..=cycles {
        for example in ["digits", "angle", "file-type"] {
            drop(engine.load(source(example)?, &ModelOptions::default())?);
        }
        if cycle == 20.min(cycles) {
            settled = resident_mib();
        }
    }
    say("reload.settled_mib", settled, "MiB");
    say("reload.grown_percent", (resident_mib() / settled - 1.0) * 100.0, "%");
    Ok(())
}
