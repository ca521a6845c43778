//! From a model's outputs to the body of an inference reply: JSON, and behind it the outputs wanted as binary data.

use bytes::Bytes;
use half::{bf16, f16};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use sandmill_domain::{Code, Dtype, Fault, Header, ReleaseNumber, Reply, Tensor, byte_strings};

use crate::decode::{HEADER_LENGTH, Wanted};

/// Writes the reply that `wanted` asks for; `outputs` are all of the model's, in the order of its signature.
///
/// Numbers are written so that they read back as the same bits; what is no number as `NaN`, `Infinity` and `-Infinity`.
///
/// # Errors
/// `Unprocessable` if a byte string that is wanted as JSON is no UTF-8: the model did its part, and the same request
/// succeeds if it asks for binary data. `Internal` if `outputs` lack what was promised.
pub fn encode(wanted: &Wanted, model_name: &str, release: ReleaseNumber, outputs: &[Tensor]) -> Result<Reply, Fault> {
    let chosen: Vec<(&Tensor, bool)> = wanted
        .outputs
        .iter()
        .map(|output| outputs.get(output.position).map(|tensor| (tensor, output.binary)))
        .collect::<Option<_>>()
        .ok_or_else(|| Fault::new(Code::Internal, "the model gave fewer outputs than its signature has"))?;
    let mut body = Vec::with_capacity(256 + model_name.len() + chosen.iter().map(estimate).sum::<usize>());
    write_json(&mut body, wanted.id.as_deref(), model_name, release, &chosen)?;
    let json_bytes = body.len();
    for (tensor, _) in chosen.iter().filter(|(_, binary)| *binary) {
        body.extend_from_slice(&tensor.data);
    }
    let is_binary = chosen.iter().any(|(_, binary)| *binary);
    Ok(Reply { status: StatusCode::OK, headers: headers(is_binary.then_some(json_bytes)), body: Bytes::from(body) })
}

fn headers(binary_after: Option<usize>) -> Vec<Header> {
    match binary_after {
        None => vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        Some(json_bytes) => vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (HEADER_LENGTH, HeaderValue::from(json_bytes)),
        ],
    }
}

/// Room for one output, so that the body is allocated once: exact for binary data, generous for JSON.
fn estimate((tensor, binary): &(&Tensor, bool)) -> usize {
    let data = match tensor.dtype {
        _ if *binary => 1,
        Dtype::Bool => 6,
        Dtype::Uint8 | Dtype::Int8 | Dtype::Uint16 | Dtype::Int16 => 5,
        Dtype::Fp16 | Dtype::Bf16 => 8,
        Dtype::Uint32 | Dtype::Int32 | Dtype::Uint64 | Dtype::Int64 | Dtype::Fp32 | Dtype::Fp64 => 3,
        Dtype::Bytes => 2,
    };
    tensor.data.len().saturating_mul(data) + tensor.name.len() + 20 * tensor.shape.len() + 96
}

fn write_json(
    out: &mut Vec<u8>,
    id: Option<&str>,
    model_name: &str,
    release: ReleaseNumber,
    outputs: &[(&Tensor, bool)],
) -> Result<(), Fault> {
    out.push(b'{');
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        out.extend_from_slice(b"\"id\":");
        write_string(out, id);
        out.push(b',');
    }
    out.extend_from_slice(b"\"model_name\":");
    write_string(out, model_name);
    out.extend_from_slice(b",\"model_version\":\"");
    write_integer(out, release.0.get());
    out.extend_from_slice(b"\",\"outputs\":[");
    for (position, (tensor, binary)) in outputs.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_output(out, tensor, *binary)?;
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

fn write_output(out: &mut Vec<u8>, tensor: &Tensor, binary: bool) -> Result<(), Fault> {
    out.extend_from_slice(b"{\"name\":");
    write_string(out, &tensor.name);
    out.extend_from_slice(b",\"datatype\":\"");
    out.extend_from_slice(tensor.dtype.name().as_bytes());
    out.extend_from_slice(b"\",\"shape\":");
    write_list(out, tensor.shape.iter(), |out, size| write_integer(out, *size));
    if binary {
        out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
        write_integer(out, tensor.data.len());
        out.push(b'}');
    } else {
        out.extend_from_slice(b",\"data\":");
        write_data(out, tensor)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_data(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Fault> {
    let data = &tensor.data[..];
    match tensor.dtype {
        Dtype::Bool => write_elements(out, data, |out, [byte]| out.extend_from_slice(if byte == 0 { b"false" } else { b"true" })),
        Dtype::Uint8 => write_elements(out, data, |out, bytes| write_integer(out, u8::from_le_bytes(bytes))),
        Dtype::Uint16 => write_elements(out, data, |out, bytes| write_integer(out, u16::from_le_bytes(bytes))),
        Dtype::Uint32 => write_elements(out, data, |out, bytes| write_integer(out, u32::from_le_bytes(bytes))),
        Dtype::Uint64 => write_elements(out, data, |out, bytes| write_integer(out, u64::from_le_bytes(bytes))),
        Dtype::Int8 => write_elements(out, data, |out, bytes| write_integer(out, i8::from_le_bytes(bytes))),
        Dtype::Int16 => write_elements(out, data, |out, bytes| write_integer(out, i16::from_le_bytes(bytes))),
        Dtype::Int32 => write_elements(out, data, |out, bytes| write_integer(out, i32::from_le_bytes(bytes))),
        Dtype::Int64 => write_elements(out, data, |out, bytes| write_integer(out, i64::from_le_bytes(bytes))),
        Dtype::Fp16 => write_elements(out, data, |out, bytes| write_float(out, f16::from_le_bytes(bytes).to_f32())),
        Dtype::Bf16 => write_elements(out, data, |out, bytes| write_float(out, bf16::from_le_bytes(bytes).to_f32())),
        Dtype::Fp32 => write_elements(out, data, |out, bytes| write_float(out, f32::from_le_bytes(bytes))),
        Dtype::Fp64 => write_elements(out, data, |out, bytes| write_float(out, f64::from_le_bytes(bytes))),
        Dtype::Bytes => return write_strings(out, tensor),
    }
    Ok(())
}

fn write_elements<const N: usize>(out: &mut Vec<u8>, data: &[u8], write: impl Fn(&mut Vec<u8>, [u8; N])) {
    write_list(out, data.as_chunks::<N>().0.iter(), |out, bytes| write(out, *bytes));
}

fn write_list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn write_strings(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Fault> {
    let mut texts = Vec::new();
    for (index, bytes) in byte_strings(&tensor.data).enumerate() {
        let bytes = bytes.map_err(|_| Fault::new(Code::Internal, format!("output `{}` is cut short", tensor.name)))?;
        texts.push(str::from_utf8(bytes).map_err(|_| no_text(&tensor.name, index))?);
    }
    write_list(out, texts.into_iter(), write_string);
    Ok(())
}

fn no_text(output: &str, index: usize) -> Fault {
    let message = format!("output `{output}`: element {index} is no UTF-8, which JSON cannot hold: ask for `binary_data`");
    Fault::new(Code::Unprocessable, message)
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("invariant: a vector takes any string");
}

fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_float<T: ryu::Float + Into<f64>>(out: &mut Vec<u8>, value: T) {
    let wide: f64 = value.into();
    let mut digits = ryu::Buffer::new();
    let text = if wide.is_finite() {
        digits.format_finite(value)
    } else if wide.is_nan() {
        "NaN"
    } else if wide > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    out.extend_from_slice(text.as_bytes());
}
