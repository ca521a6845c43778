//! What takes a CUDA device: that it answers as the CPU does, how long that takes, and that its memory comes back when sessions are
//! replaced. Without a device every check says, loudly, that it was not made; with `SANDMILL_TEST_GPU=1` that is a failure.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{self, PoisonError};
use std::time::{Duration, Instant};

use sandmill_domain::ports::Model;
use sandmill_domain::{Deadline, Dtype, ModelEvent, Provider, Tensor};
use sandmill_engine::{Budget, Engine, EngineOptions, ModelOptions, ModelSource, OnnxModel};
use tokio::sync::Mutex;

/// What rows of two devices may differ by, of the largest number in them.
const TOLERANCE: f32 = 1e-3;
const REPLACEMENTS: usize = 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

static ENGINE: sync::LazyLock<Engine> = sync::LazyLock::new(|| {
    let set_up = root().join(".sandmill/lib/libonnxruntime.so.1.31.1");
    let library = env::var_os("ORT_DYLIB_PATH").map_or(set_up, PathBuf::from);
    Engine::start(&library, &EngineOptions::default()).expect("the tests need the ONNX Runtime library: type `make setup`")
});

/// One after the other: they share a device.
static TURN: Mutex<()> = Mutex::const_new(());

fn load(provider: &str, budget: Budget) -> Result<OnnxModel, String> {
    let providers = vec![Provider::named(provider)];
    let bytes = fs::read(root().join("examples/digits/model.onnx")).expect("the digits example has its model");
    let options = ModelOptions { providers, budget, ..ModelOptions::default() };
    ENGINE.load(ModelSource::of("digits", bytes), &options).map_err(|error| error.to_string())
}

/// The model on the device; none, and that is said, without one.
#[expect(clippy::print_stderr, reason = "a check that is not made must not look as if it were")]
fn on_device(check: &str, budget: Budget) -> Option<OnnxModel> {
    match load("cuda", budget) {
        Ok(model) => Some(model),
        Err(why) => {
            assert!(env::var_os("SANDMILL_TEST_GPU").is_none(), "SANDMILL_TEST_GPU is set, but: {why}");
            eprintln!("NOT CHECKED, as there is no CUDA device here: {check} ({why})");
            None
        }
    }
}

/// So many rows of numbers that differ.
fn rows(count: usize) -> Vec<Tensor> {
    let values = (0..count * 64).map(|at| ((at * 7 + at / 64) % 17) as f32 / 16.0);
    let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    vec![Tensor { name: "X".into(), dtype: Dtype::Fp32, shape: vec![count as i64, 64], data: data.into() }]
}

async fn probabilities(model: &OnnxModel, count: usize) -> Vec<f32> {
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(60));
    let inference = model.infer(rows(count), deadline.into()).await.expect("it runs");
    let (elements, _) = inference.outputs[1].data.as_chunks();
    elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[tokio::test]
async fn a_device_answers_as_the_cpu_does() {
    let _turn = TURN.lock().await;
    let Some(device) = on_device("parity with the CPU", Budget::default()) else { return };
    assert_eq!(device.provider(), "cuda");
    let cpu = load("cpu", Budget::default()).expect("it loads");
    for count in [1, 7, 32] {
        let pairs = probabilities(&device, count).await.into_iter().zip(probabilities(&cpu, count).await);
        pairs.for_each(|(one, other)| assert!((one - other).abs() < TOLERANCE, "{one} {other} of {count} rows"));
    }
}

#[tokio::test]
async fn what_a_run_takes_is_told() {
    let _turn = TURN.lock().await;
    let Some(device) = on_device("what a run takes", Budget::default()) else { return };
    for size in &device.measure().sizes {
        eprintln!("digits on cuda: {} rows take {:?}", size.rows, size.time);
    }
    assert!(!device.measure().sizes.is_empty());
}

#[tokio::test]
async fn what_a_session_held_comes_back_when_it_is_replaced() {
    let _turn = TURN.lock().await;
    let Some(device) = on_device("memory over replacements", Budget { pause: Duration::ZERO, ..Budget::default() }) else {
        return;
    };
    let (sender, events) = channel();
    let sender = sync::Mutex::new(sender);
    device.watch(move |event| drop(sender.lock().unwrap_or_else(PoisonError::into_inner).send(event.clone())));
    let warm = device.state().warm_memory_bytes;
    let expected = probabilities(&device, 8).await;
    for _ in 0..REPLACEMENTS {
        device.recycle();
        let event = events.recv_timeout(Duration::from_secs(60)).expect("it is replaced");
        assert!(matches!(event, ModelEvent::Recycled { .. }), "{event:?}");
        assert_eq!(probabilities(&device, 8).await.len(), expected.len());
    }
    assert!(device.state().memory_bytes <= warm * 2, "{} of {warm}", device.state().memory_bytes);
}
