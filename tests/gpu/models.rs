//! The models that are run, and inputs for them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sandmill_domain::ports::Model;
use sandmill_domain::{Axis, Dtype, Provider, Tensor, TensorSpec};
use sandmill_engine::{Engine, EngineOptions, LoadError, ModelOptions, ModelSource, OnnxModel};

/// Examples whose models are fetched by `make setup`; the first is in the repository.
const EXAMPLES: [&str; 4] = ["digits", "angle", "file-type", "embed"];
/// The size of axes that vary and are no batch.
const AXIS: i64 = 16;

/// A model that is run.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    bytes: Bytes,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The library of `ORT_DYLIB_PATH`, or that of the project's set-up, which is for the CPU alone.
pub(crate) fn library() -> PathBuf {
    let set_up = root().join(".sandmill/lib/libonnxruntime.so.1.31.1");
    env::var_os("ORT_DYLIB_PATH").map_or(set_up, PathBuf::from)
}

pub(crate) fn start() -> Engine {
    Engine::start(&library(), &EngineOptions::default()).expect("this needs an ONNX Runtime library: type `make setup`")
}

/// Those that are there.
pub(crate) fn cases() -> Vec<Case> {
    let read = |name: &'static str| match fs::read(root().join("examples").join(name).join("model.onnx")) {
        Ok(bytes) => Some(Case { name, bytes: bytes.into() }),
        Err(_) => {
            println!("gpu: {name}: left out, for its model is not there: type `make setup`");
            None
        }
    };
    let cases: Vec<_> = EXAMPLES.into_iter().filter_map(read).collect();
    assert!(cases.first().is_some_and(|case| case.name == "digits"), "the digits example has its model");
    cases
}

pub(crate) fn load(engine: &Engine, case: &Case, provider: &Provider) -> Result<OnnxModel, LoadError> {
    let source = ModelSource::of(case.name, case.bytes.clone());
    let providers = vec![provider.clone()];
    engine.load(source, &ModelOptions { providers, axis_max: 4096, ..ModelOptions::default() })
}

/// So many rows of noise; the same for the same seed.
pub(crate) fn noise(model: &OnnxModel, rows: i64, seed: u64) -> Vec<Tensor> {
    model.info().signature.inputs.iter().map(|spec| tensor(spec, rows, seed)).collect()
}

/// The rows of a batch that a model takes at most.
pub(crate) fn rows_max(model: &OnnxModel) -> i64 {
    let first = |spec: &TensorSpec| match spec.shape.first() {
        Some(Axis::Dynamic { max, .. }) => *max,
        Some(Axis::Sizes { sizes, .. }) => sizes.last().copied().unwrap_or(1),
        Some(Axis::Fixed(_)) | None => 1,
    };
    model.info().signature.inputs.iter().map(first).min().unwrap_or(1)
}

fn tensor(spec: &TensorSpec, rows: i64, mut seed: u64) -> Tensor {
    let axis = |(index, axis): (usize, &Axis)| match axis {
        Axis::Fixed(size) => *size,
        Axis::Dynamic { .. } if index == 0 => rows,
        Axis::Dynamic { max, .. } => AXIS.min(*max),
        Axis::Sizes { .. } => axis.nearest(AXIS),
    };
    let shape: Vec<i64> = spec.shape.iter().enumerate().map(axis).collect();
    let count: i64 = shape.iter().product();
    let mut data = Vec::new();
    for _ in 0..count {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = u16::try_from(seed >> 48).unwrap();
        match spec.dtype {
            Dtype::Fp32 => data.extend((f32::from(bits) / 65536.0).to_le_bytes()),
            // An index or a mask: what every model takes.
            dtype => data.extend(&u64::from(bits % 2).to_le_bytes()[..dtype.size().expect("no strings")]),
        }
    }
    Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data: data.into() }
}
