//! One engine for all tests, and short words for models, tensors and deadlines.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sandmill_domain::ports::{Inference, Model};
use sandmill_domain::{Deadline, Dtype, Fault, Tensor, Urgency};
use sandmill_engine::{Engine, EngineOptions, LoadError, ModelOptions, ModelSource, OnnxModel};

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| start(&EngineOptions::default()));

pub(crate) fn start(options: &EngineOptions) -> Engine {
    Engine::start(&library(), options).expect("the tests need the ONNX Runtime library: type `make setup`")
}

pub(crate) fn library() -> PathBuf {
    let set_up = folder().join("../../.sandmill/lib/libonnxruntime.so.1.31.1");
    env::var_os("ORT_DYLIB_PATH").map_or(set_up, PathBuf::from)
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One context, so that the tests know what stands in its way.
pub(crate) fn options() -> ModelOptions {
    ModelOptions { threads: 1, ..ModelOptions::default() }
}

pub(crate) fn digits_bytes() -> Vec<u8> {
    fs::read(folder().join("../../examples/digits/model.onnx")).expect("the digits example has its model")
}

/// The bytes of a model of `tests/models`.
pub(crate) fn model_bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("tests/models/{name}.onnx"))).unwrap()
}

/// A model of `tests/models`, or of the digits example.
pub(crate) fn try_load(name: &str, options: &ModelOptions) -> Result<OnnxModel, LoadError> {
    let file = folder().join(format!("tests/models/{name}.onnx"));
    let bytes: Bytes = if name == "digits" { digits_bytes() } else { fs::read(file).unwrap() }.into();
    ENGINE.load(ModelSource::of(name.to_owned(), bytes), options)
}

pub(crate) fn load(name: &str) -> OnnxModel {
    try_load(name, &options()).unwrap()
}

pub(crate) fn tensor(name: &str, dtype: Dtype, shape: &[i64], data: impl Into<Bytes>) -> Tensor {
    Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data: data.into() }
}

pub(crate) fn floats(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
    tensor(name, Dtype::Fp32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

pub(crate) fn integers(name: &str, shape: &[i64], values: &[i64]) -> Tensor {
    tensor(name, Dtype::Int64, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// A vector of byte strings in their plain form.
pub(crate) fn strings(name: &str, values: &[&[u8]]) -> Tensor {
    let plain = |value: &&[u8]| [&u32::try_from(value.len()).unwrap().to_le_bytes(), *value].concat();
    let data: Vec<u8> = values.iter().flat_map(plain).collect();
    tensor(name, Dtype::Bytes, &[i64::try_from(values.len()).unwrap()], data)
}

pub(crate) fn as_floats(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.dtype, Dtype::Fp32);
    tensor.data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

pub(crate) fn within(time: Duration) -> Urgency {
    Deadline::after(Instant::now(), time).into()
}

/// Far enough for any machine.
pub(crate) fn soon() -> Urgency {
    within(Duration::from_secs(60))
}

/// Checks the inputs, as the pipeline does, and runs the model.
pub(crate) async fn infer(model: &OnnxModel, inputs: Vec<Tensor>) -> Result<Inference, Fault> {
    model.info().signature.check_inputs(&inputs).expect("the inputs fit the signature");
    model.infer(inputs, soon()).await
}

pub(crate) async fn outputs(model: &OnnxModel, inputs: Vec<Tensor>) -> Vec<Tensor> {
    infer(model, inputs).await.unwrap().outputs
}

/// A handwritten two, from scikit-learn's digits.
pub(crate) const DIGIT: [f32; 64] = [
    0.0, 0.0, 0.6875, 1.0, 0.9375, 0.1875, 0.0, 0.0, 0.0, 0.3125, 1.0, 0.75, 0.6875, 0.8125, 0.0, 0.0, 0.0, 0.1875, 0.8125,
    0.0625, 0.3125, 0.9375, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75, 0.6875, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0625, 1.0, 0.4375, 0.0, 0.0,
    0.0, 0.0, 0.0, 0.625, 0.9375, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75, 1.0, 1.0, 0.6875, 0.0625, 0.0, 0.0, 0.0, 0.8125, 0.8125, 0.5,
    0.8125, 1.0, 0.5,
];
