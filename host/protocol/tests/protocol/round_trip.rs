//! What `encode` writes, `decode` reads back as the same bits, for every type, as JSON and as binary data.

use bytes::Bytes;
use half::{bf16, f16};
use http::HeaderMap;
use proptest::collection::vec;
use proptest::prelude::*;
use sandmill_domain::{Axis, Dtype, ModelInfo, ReleaseNumber, Signature, Tensor, TensorSpec, element_count};
use sandmill_protocol::{HEADER_LENGTH, Wanted, WantedOutput, encode};

use crate::common::Wire;

/// NaNs lose their payload in JSON: only the plain one comes back.
fn plain<const N: usize>(data: &[u8], is_nan: impl Fn([u8; N]) -> bool, nan: [u8; N]) -> Vec<u8> {
    data.as_chunks::<N>().0.iter().flat_map(|bytes| if is_nan(*bytes) { nan } else { *bytes }).collect()
}

fn data(dtype: Dtype, count: usize) -> BoxedStrategy<Vec<u8>> {
    let bytes = vec(any::<u8>(), count * dtype.size().unwrap_or(0));
    match dtype {
        Dtype::Bool => vec(0..2_u8, count).boxed(),
        Dtype::Bytes => {
            vec(any::<String>(), count).prop_map(|texts| texts.iter().flat_map(|text| element(text)).collect()).boxed()
        }
        Dtype::Fp16 => bytes.prop_map(|data| plain(&data, |b| f16::from_le_bytes(b).is_nan(), f16::NAN.to_le_bytes())).boxed(),
        Dtype::Bf16 => bytes.prop_map(|data| plain(&data, |b| bf16::from_le_bytes(b).is_nan(), bf16::NAN.to_le_bytes())).boxed(),
        Dtype::Fp32 => bytes.prop_map(|data| plain(&data, |b| f32::from_le_bytes(b).is_nan(), f32::NAN.to_le_bytes())).boxed(),
        Dtype::Fp64 => bytes.prop_map(|data| plain(&data, |b| f64::from_le_bytes(b).is_nan(), f64::NAN.to_le_bytes())).boxed(),
        _ => bytes.boxed(),
    }
}

fn element(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short string");
    [&length.to_le_bytes(), text.as_bytes()].concat()
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let shape = vec(0..5_i64, 0..4);
    (any::<String>(), proptest::sample::select(&Dtype::ALL[..]), shape).prop_flat_map(|(name, dtype, shape)| {
        let count = element_count(&shape).expect("a small shape");
        data(dtype, count).prop_map(move |data| Tensor {
            name: name.clone(),
            dtype,
            shape: shape.clone(),
            data: Bytes::from(data),
        })
    })
}

/// The model that takes what it gives.
fn mirror(tensors: &[Tensor]) -> ModelInfo {
    let axis = |_: &i64| Axis::Dynamic { symbol: None, max: 4 };
    let spec = |tensor: &Tensor| TensorSpec {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.iter().map(axis).collect(),
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    ModelInfo { name: "m".into(), signature: Signature { inputs: specs.clone(), outputs: specs }, metadata: Vec::new() }
}

/// A reply turned into a request: one calls inputs what the other calls outputs.
fn echo(tensors: &[Tensor], binary: &[bool]) -> Wire {
    let outputs = binary.iter().enumerate().map(|(position, binary)| WantedOutput { position, binary: *binary }).collect();
    let reply = encode(&Wanted { id: None, outputs }, "m", ReleaseNumber::FIRST, tensors).expect("a reply");
    let key = br#""outputs":"#;
    let at = reply.body.windows(key.len()).position(|window| window == key).expect("a reply has outputs");
    let body = [&reply.body[..at], br#""inputs":"#, &reply.body[at + key.len()..]].concat();
    let wire = Wire { headers: HeaderMap::new(), body };
    match reply.headers.iter().find(|(name, _)| name == HEADER_LENGTH) {
        None => wire,
        Some((_, value)) => {
            let length: usize = value.to_str().expect("ASCII").parse().expect("a number");
            wire.with(HEADER_LENGTH, &(length - 1).to_string())
        }
    }
}

proptest! {
    #[test]
    fn every_tensor_comes_back(tensors in vec((tensor(), any::<bool>()), 1..4)) {
        let (mut tensors, binary): (Vec<Tensor>, Vec<bool>) = tensors.into_iter().unzip();
        for (position, tensor) in tensors.iter_mut().enumerate() {
            tensor.name.push_str(&position.to_string());
        }
        let request = echo(&tensors, &binary).decode(&mirror(&tensors)).expect("what was encoded decodes");
        prop_assert_eq!(request.inputs, tensors);
    }

    #[test]
    fn every_float_comes_back(bits in vec(any::<u32>(), 200)) {
        let data = plain(&bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>(), |b| f32::from_le_bytes(b).is_nan(), f32::NAN.to_le_bytes());
        let tensor = Tensor { name: "x".into(), dtype: Dtype::Fp32, shape: vec![200], data: data.into() };
        let mut model = mirror(std::slice::from_ref(&tensor));
        model.signature.inputs[0].shape = vec![Axis::Fixed(200)];
        let request = echo(std::slice::from_ref(&tensor), &[false]).decode(&model).expect("what was encoded decodes");
        prop_assert_eq!(&request.inputs[0].data, &tensor.data);
    }
}

#[test]
fn every_half_comes_back() {
    for dtype in [Dtype::Fp16, Dtype::Bf16] {
        let is_nan =
            |bytes| if dtype == Dtype::Fp16 { f16::from_le_bytes(bytes).is_nan() } else { bf16::from_le_bytes(bytes).is_nan() };
        let nan = if dtype == Dtype::Fp16 { f16::NAN.to_le_bytes() } else { bf16::NAN.to_le_bytes() };
        let data = plain(&(0..=u16::MAX).flat_map(u16::to_le_bytes).collect::<Vec<_>>(), is_nan, nan);
        let tensor = Tensor { name: "x".into(), dtype, shape: vec![1 << 16], data: data.into() };
        let mut model = mirror(std::slice::from_ref(&tensor));
        model.signature.inputs[0].shape = vec![Axis::Fixed(1 << 16)];
        let request = echo(std::slice::from_ref(&tensor), &[false]).decode(&model).expect("what was encoded decodes");
        assert_eq!(request.inputs[0].data, tensor.data, "{dtype}");
    }
}
