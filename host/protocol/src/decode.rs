//! From a request's headers and body to tensors that fit the model: tells the three forms apart and joins their parts.
//! What the JSON says is `document`'s, how elements become bytes `json`'s and `binary`'s business.

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName};
use sandmill_domain::{Fault, Lender, ModelInfo, Signature, Tensor, Wish};

use crate::binary;
use crate::document::{self, Asked, Document};
use crate::refusal::{Refusal, invalid, unsupported};

/// The length of the JSON that stands before binary tensors; in a request, 0 means that the whole body is one raw tensor.
pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A request, checked against the model's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// All of the model's inputs, each whole, in the order of the request.
    pub inputs: Vec<Tensor>,
    /// What to answer: for [`crate::encode`].
    pub wanted: Wanted,
    /// How soon, and before whom, if its parameters say so; its headers are for [`crate::wish`].
    pub wish: Wish,
}

/// What the caller wants back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// To be echoed, if the caller gave one.
    pub id: Option<String>,
    /// Which outputs, in the order of the reply; no output twice.
    pub outputs: Vec<WantedOutput>,
}

/// One output that the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedOutput {
    /// Its place among the outputs of the signature.
    pub position: usize,
    /// As binary data behind the JSON, or within it.
    pub binary: bool,
}

impl Wanted {
    /// All outputs within the JSON, for a request that does not say.
    pub fn all(signature: &Signature) -> Self {
        Self { id: None, outputs: all_outputs(signature, false) }
    }
}

/// Reads and checks an inference request. Each tensor is written once, into a buffer of `lender` of exactly its size,
/// and not before its name, datatype, shape and bounds were checked.
///
/// # Errors
/// `InvalidInput`, naming the tensor and where it helps the element, counted from 0 in row-major order; `Unsupported` for
/// a `Content-Encoding`, shared memory, classification or sequences; and what the lender fails with.
pub fn decode(headers: &HeaderMap, body: &[u8], info: &ModelInfo, lender: &dyn Lender) -> Result<InferRequest, Fault> {
    read(headers, body, &info.signature, lender).map_err(Fault::from)
}

fn read(headers: &HeaderMap, body: &[u8], signature: &Signature, lender: &dyn Lender) -> Result<InferRequest, Refusal> {
    check_encoding(headers)?;
    let request = match json_length(headers)? {
        None => structured(body, None, signature, lender)?,
        Some(0) => raw(body, signature, lender)?,
        Some(length) => {
            let (json, attached) = body.split_at_checked(length).ok_or_else(|| beyond_body(length, body.len()))?;
            structured(json, Some(attached), signature, lender)?
        }
    };
    signature.check_inputs(&request.inputs)?;
    Ok(request)
}

fn beyond_body(length: usize, body_bytes: usize) -> Refusal {
    invalid(format!("header {HEADER_LENGTH} says {length} bytes, but the body has only {body_bytes}"))
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_plain = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().all(|value| is_plain(value.as_bytes())) {
        Ok(())
    } else {
        Err(unsupported("no content-encoding but `identity` is supported"))
    }
}

/// The value of [`HEADER_LENGTH`], in bytes; none without the header.
fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| values.next().is_none() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match text.and_then(|text| text.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(invalid(format!("header {HEADER_LENGTH} must be given once, as a whole number of bytes"))),
    }
}

fn structured(json: &[u8], attached: Option<&[u8]>, signature: &Signature, lender: &dyn Lender) -> Result<InferRequest, Refusal> {
    let Document { id, inputs, outputs, binary_output, wish } = document::read(json, signature, lender)?;
    let inputs = binary::attach(inputs, attached, lender)?;
    let outputs = if outputs.is_empty() {
        all_outputs(signature, binary_output)
    } else {
        let wanted = |asked: Asked| WantedOutput { position: asked.position, binary: asked.binary.unwrap_or(binary_output) };
        outputs.into_iter().map(wanted).collect()
    };
    Ok(InferRequest { inputs, wanted: Wanted { id, outputs }, wish })
}

fn raw(body: &[u8], signature: &Signature, lender: &dyn Lender) -> Result<InferRequest, Refusal> {
    let [spec] = &signature.inputs[..] else {
        return Err(invalid(format!("a raw request needs a model of one input, this one has {}", signature.inputs.len())));
    };
    let input = binary::read_raw(spec, body, lender)?;
    let wanted = Wanted { id: None, outputs: all_outputs(signature, true) };
    Ok(InferRequest { inputs: vec![input], wanted, wish: Wish::default() })
}

fn all_outputs(signature: &Signature, binary: bool) -> Vec<WantedOutput> {
    (0..signature.outputs.len()).map(|position| WantedOutput { position, binary }).collect()
}
