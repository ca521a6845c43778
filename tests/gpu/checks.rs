//! What is checked of a provider: each check prints what it found, and panics if that is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sandmill_domain::ports::{Inference, Model};
use sandmill_domain::{Deadline, Dtype, Fault, Provider, Tensor};
use sandmill_engine::{Engine, OnnxModel};
use tokio::runtime::{Builder, Runtime};

use crate::memory::Memory;
use crate::models::{Case, load, noise, rows_max};

/// Batches that are run.
const ROWS: [i64; 3] = [1, 8, 32];
/// How often a model is loaded anew, and how often before memory is compared: the first loads leave what libraries keep.
const RELOADS: usize = 12;
const RELOADS_FIRST: usize = 4;
/// What may stay behind in all: far less than what one model, or one context of a device, holds.
const LEFT_BYTES_MAX: u64 = 64 << 20;
/// Threads that run one model at once, and runs of each.
const THREADS: u64 = 4;
const RUNS_EACH: u64 = 25;

/// A provider under test.
pub(crate) struct Bench<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) provider: Provider,
    /// What its answers may differ by.
    pub(crate) tolerance: f32,
    /// Runs that are timed.
    pub(crate) runs: usize,
}

impl Bench<'_> {
    pub(crate) fn run(&self, cases: &[Case]) {
        for case in cases {
            self.answers_and_latency(case);
            self.threads(case);
        }
        self.reloads(&cases[0]);
        self.bounds(&cases[0]);
    }

    fn say(&self, text: &str) {
        println!("gpu: {}: {text}", self.provider.name);
    }

    fn load(&self, case: &Case) -> OnnxModel {
        load(self.engine, case, &self.provider).unwrap_or_else(|error| panic!("{}: {}: {error}", self.provider.name, case.name))
    }

    fn answers_and_latency(&self, case: &Case) {
        let (model, cpu) = (self.load(case), load(self.engine, case, &Provider::cpu()).unwrap());
        let shares = &model.placement().shares;
        self.say(&format!("{}: loaded in {:.1?}, nodes: {shares:?}", case.name, model.load_times().load));
        for rows in ROWS.into_iter().filter(|rows| *rows <= rows_max(&model)) {
            let inputs = noise(&model, rows, 7);
            let difference = difference(&infer(&cpu, &inputs), &infer(&model, &inputs));
            assert!(difference <= self.tolerance, "{}: {rows} rows differ from the CPU's by {difference:e}", case.name);
            let [here, there] = [&model, &cpu].map(|model| latency(model, &inputs, self.runs));
            self.say(&format!(
                "{}: {rows} rows: differ by {difference:.1e}; p50 {:.1?}, p99 {:.1?}; on the CPU p50 {:.1?}, p99 {:.1?}",
                case.name, here.0, here.1, there.0, there.1
            ));
        }
        let profile = model.measure();
        self.say(&format!("{}: batches: {:?}; inline: {:?}", case.name, profile.batches, profile.inline));
        let is_elsewhere = model.provider() != "cpu";
        assert!(!is_elsewhere || profile.inline.is_err(), "a device's run was put on a thread that carries requests");
    }

    /// Several threads at once, each with inputs of its own, get their own answers.
    fn threads(&self, case: &Case) {
        let model = self.load(case);
        let wrong = AtomicUsize::new(0);
        let work = |seed| {
            let inputs = noise(&model, 1, seed);
            let first = infer(&model, &inputs);
            let differs = |_: &u64| difference(&first, &infer(&model, &inputs)) > self.tolerance;
            wrong.fetch_add((0..RUNS_EACH).filter(differs).count(), Ordering::Relaxed);
        };
        thread::scope(|scope| (0..THREADS).for_each(|seed| drop(scope.spawn(move || work(seed)))));
        assert_eq!(wrong.into_inner(), 0, "{}: answers depend on what runs beside", case.name);
        self.say(&format!("{}: {THREADS} threads get their own answers", case.name));
    }

    /// A model that is loaded again and again leaves nothing behind.
    fn reloads(&self, case: &Case) {
        let mut before = Memory::now();
        for count in 1..=RELOADS {
            let model = self.load(case);
            (0..10).for_each(|seed| drop(infer(&model, &noise(&model, 8.min(rows_max(&model)), seed))));
            drop(model);
            if count == RELOADS_FIRST {
                before = Memory::now();
            }
        }
        let after = Memory::now();
        self.say(&format!("after {RELOADS_FIRST} loads: {}; after {RELOADS}: {}", before.told(), after.told()));
        assert!(after.host <= before.host + LEFT_BYTES_MAX, "reloads leave memory of the host's behind");
        if let (Some(before), Some(after)) = (before.device, after.device) {
            assert!(after <= before + LEFT_BYTES_MAX, "reloads leave memory of the device's behind");
        }
    }

    /// What cannot be is an error, and leaves the engine whole.
    fn bounds(&self, case: &Case) {
        if self.provider.name != "cpu" {
            let nowhere = Provider { device: Some(255), ..self.provider.clone() };
            let error = load(self.engine, case, &nowhere).err().expect("no machine has 256 devices");
            self.say(&format!("device 255: {error}"));
            let small = Provider { memory_bytes_max: Some(1 << 20), ..self.provider.clone() };
            match load(self.engine, case, &small) {
                Ok(_) => self.say("in 1 MiB of the device's memory: it loads"),
                Err(error) => self.say(&format!("in 1 MiB of the device's memory: {error}")),
            }
        }
        let model = self.load(case);
        assert!(!infer(&model, &noise(&model, 1, 1)).is_empty());
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn try_infer(runtime: &Runtime, model: &OnnxModel, inputs: &[Tensor]) -> Result<Inference, Fault> {
    model.info().signature.check_inputs(inputs).expect("the inputs fit the signature");
    // TensorRT compiles at the first run of a shape.
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(300));
    runtime.block_on(model.infer(inputs.to_vec(), deadline.into()))
}

fn infer(model: &OnnxModel, inputs: &[Tensor]) -> Vec<Tensor> {
    try_infer(&runtime(), model, inputs).unwrap_or_else(|fault| panic!("{}", fault.report())).outputs
}

/// From the call to its answer: the middle of so many runs, and the slowest hundredth.
fn latency(model: &OnnxModel, inputs: &[Tensor], runs: usize) -> (Duration, Duration) {
    let runtime = runtime();
    let time = |_| {
        let begun = Instant::now();
        drop(try_infer(&runtime, model, inputs).unwrap());
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..runs).map(time).collect();
    times.sort_unstable();
    (times[runs / 2], times[runs * 99 / 100])
}

/// The largest difference of two runs' floats, relative to the largest of them or 1; whole numbers must be the same.
fn difference(one: &[Tensor], other: &[Tensor]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| difference_of(one, other)).fold(0.0, f32::max)
}

fn difference_of(one: &Tensor, other: &Tensor) -> f32 {
    assert_eq!((&one.name, one.dtype, &one.shape), (&other.name, other.dtype, &other.shape));
    if one.dtype != Dtype::Fp32 {
        assert_eq!(one.data, other.data, "output `{}` is another", one.name);
        return 0.0;
    }
    let [one, other] = [one, other].map(floats);
    let scale = one.iter().fold(1.0, |scale: f32, value| scale.max(value.abs()));
    let differ = |(one, other): (&f32, &f32)| match (one - other).abs() / scale {
        _ if one == other || one.is_nan() && other.is_nan() => 0.0,
        // What is no number here alone differs by more than any.
        by if by.is_nan() => f32::INFINITY,
        by => by,
    };
    one.iter().zip(&other).map(differ).fold(0.0, f32::max)
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
