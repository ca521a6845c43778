//! What the tests share: a lender over the heap that counts, models in one line, and the one helper for refusals.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use sandmill_domain::{Axis, Buffer, Code, Dtype, Fault, Lender, ModelInfo, Signature, Tensor, TensorSpec};
use sandmill_protocol::{HEADER_LENGTH, InferRequest};

#[derive(Default)]
struct Heap(AtomicUsize);

impl Lender for Heap {
    fn lend(&self, capacity: usize) -> Result<Buffer, Fault> {
        self.0.fetch_add(capacity, Ordering::Relaxed);
        Ok(Buffer::new(vec![u64::MAX; capacity.div_ceil(8)], capacity, None))
    }
}

/// A request as it comes from the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) fn json(json: impl Into<Vec<u8>>) -> Self {
        Self { headers: HeaderMap::new(), body: json.into() }
    }

    /// JSON, its length in the header, and what stands behind it.
    pub(crate) fn binary(json: &str, attached: &[u8]) -> Self {
        Self::json([json.as_bytes(), attached].concat()).with(HEADER_LENGTH, &json.len().to_string())
    }

    pub(crate) fn raw(body: &[u8]) -> Self {
        Self::json(body).with(HEADER_LENGTH, "0")
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
        self
    }

    /// Decodes, and checks that no more memory was lent than the body can answer for.
    pub(crate) fn decode(&self, model: &ModelInfo) -> Result<InferRequest, Fault> {
        let heap = Heap::default();
        let result = sandmill_protocol::decode(&self.headers, &self.body, model, &heap);
        let lent = heap.0.load(Ordering::Relaxed);
        assert!(lent <= 8 * self.body.len() + 8, "{lent} bytes lent for a body of {}", self.body.len());
        result
    }
}

/// A model; -1 in a shape is an axis of 0 to 1024.
pub(crate) fn model(inputs: &[(&str, Dtype, &[i64])], outputs: &[(&str, Dtype, &[i64])]) -> ModelInfo {
    let axis = |size: &i64| if *size < 0 { Axis::Dynamic { symbol: None, max: 1024 } } else { Axis::Fixed(*size) };
    let spec = |(name, dtype, shape): &(&str, Dtype, &[i64])| TensorSpec {
        name: (*name).into(),
        dtype: *dtype,
        shape: shape.iter().map(axis).collect(),
    };
    let signature = Signature { inputs: inputs.iter().map(spec).collect(), outputs: outputs.iter().map(spec).collect() };
    ModelInfo { name: "m".into(), signature, metadata: Vec::new() }
}

/// The model of most tests: `x` FP32 `[-1, 2]` to `y` FP32 `[-1]` and `s` BYTES `[-1]`.
pub(crate) fn pair_model() -> ModelInfo {
    model(&[("x", Dtype::Fp32, &[-1, 2])], &[("y", Dtype::Fp32, &[-1]), ("s", Dtype::Bytes, &[-1])])
}

/// A request for one input `x` of that type and shape with `data` as it stands.
pub(crate) fn x(dtype: Dtype, shape: &str, data: &str) -> Wire {
    Wire::json(format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{dtype}","data":{data}}}]}}"#))
}

/// The only input of a request that must pass.
pub(crate) fn only_input(wire: &Wire, model: &ModelInfo) -> Tensor {
    let mut request = wire.decode(model).unwrap_or_else(|fault| panic!("{fault} for {wire:?}"));
    assert_eq!(request.inputs.len(), 1);
    request.inputs.remove(0)
}

/// The request must be refused with that code and a message that contains `expected`.
pub(crate) fn refuse(model: &ModelInfo, wire: &Wire, code: Code, expected: &str) {
    let body = String::from_utf8_lossy(&wire.body[..wire.body.len().min(300)]).into_owned();
    let fault = wire.decode(model).expect_err(&body);
    assert_eq!(fault.code, code, "{fault} for {body}");
    assert!(fault.message.contains(expected), "{:?} lacks {expected:?}, for {body}", fault.message);
    assert!(fault.message.len() < 500, "a message of {} bytes", fault.message.len());
}
