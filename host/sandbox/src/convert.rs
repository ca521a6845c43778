//! Between the contract's types and the domain's, and every check of what a plugin gives back. Nothing here calls a guest.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sandmill_domain::ports::Prepared;
use sandmill_domain::{Code, Dtype, Fault, Header, PluginLimits, Reply, RequestHead, Tensor, byte_strings, element_count};

use thiserror::Error;

use crate::bindings as wit;
use crate::lines::printable;

/// Headers of a response.
const HEADERS_MAX: usize = 100;
/// A tensor's name.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// A tensor's axes.
pub(crate) const RANK_MAX: usize = 16;
/// A refusal's message.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The headers as the guest takes them; those with the same name follow each other.
pub(crate) fn headers_to_guest(headers: &HeaderMap) -> Vec<wit::HeaderParam<'_>> {
    headers.iter().map(|(name, value)| wit::HeaderParam { name: name.as_str(), value: value.as_bytes() }).collect()
}

/// The request as the guest takes it, without its body.
pub(crate) fn head_to_guest<'a>(head: &'a RequestHead, headers: &'a [wit::HeaderParam<'a>]) -> wit::RequestHead<'a> {
    wit::RequestHead { method: head.method.as_str(), path: &head.path_rest, query: head.query.as_deref(), headers }
}

/// The shapes of `tensors` as the guest takes them.
pub(crate) fn shapes_to_guest(tensors: &[Tensor]) -> Vec<Vec<u64>> {
    // A domain tensor's axes are not negative.
    let shape = |tensor: &Tensor| tensor.shape.iter().map(|axis| u64::try_from(*axis).unwrap_or(0)).collect();
    tensors.iter().map(shape).collect()
}

/// The tensors as the guest takes them, with their shapes from [`shapes_to_guest`].
pub(crate) fn tensors_to_guest<'a>(tensors: &'a [Tensor], shapes: &'a [Vec<u64>]) -> Vec<wit::TensorParam<'a>> {
    let join = |(tensor, shape): (&'a Tensor, &'a Vec<u64>)| wit::TensorParam {
        name: &tensor.name,
        dtype: dtype_to_guest(tensor.dtype),
        shape,
        data: &tensor.data,
    };
    tensors.iter().zip(shapes).map(join).collect()
}

/// What `preprocess` gave.
///
/// # Errors
/// The plugin's own refusal, or `PluginBadOutput` for what breaks a bound.
pub(crate) fn prepared_from_guest(result: Result<wit::Prepared, wit::Error>, limits: &PluginLimits) -> Result<Prepared, Fault> {
    match result.map_err(|error| refusal(&error))? {
        wit::Prepared::Tensors(tensors) => tensors_from_guest(tensors, limits).map(Prepared::Tensors),
        wit::Prepared::Response(response) => reply(response, limits).map(Prepared::Reply),
    }
}

/// What `postprocess` or `handle` gave.
///
/// # Errors
/// As [`prepared_from_guest`].
pub(crate) fn reply_from_guest(result: Result<wit::Response, wit::Error>, limits: &PluginLimits) -> Result<Reply, Fault> {
    reply(result.map_err(|error| refusal(&error))?, limits)
}

fn failed(message: String) -> Fault {
    Fault::new(Code::PluginBadOutput, message)
}

fn refusal(error: &wit::Error) -> Fault {
    let code = match error.kind {
        wit::ErrorKind::InvalidInput => Code::InvalidInput,
        wit::ErrorKind::NotFound => Code::NotFound,
        wit::ErrorKind::UnsupportedMedia => Code::UnsupportedMedia,
        wit::ErrorKind::Unprocessable => Code::Unprocessable,
        wit::ErrorKind::Internal => {
            let cause = printable(&error.message, MESSAGE_BYTES_MAX);
            return Fault::new(Code::PluginFailed, "the plugin failed").because(cause);
        }
    };
    Fault::new(code, printable(&error.message, MESSAGE_BYTES_MAX))
}

fn reply(response: wit::Response, limits: &PluginLimits) -> Result<Reply, Fault> {
    let status = StatusCode::from_u16(response.status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| failed(format!("the plugin gave the status {}, which is not from 200 to 599", response.status)))?;
    let (bytes, bytes_max) = (response.body.len(), limits.output_bytes_max);
    if bytes > bytes_max {
        return Err(failed(format!("the plugin gave a body of {bytes} bytes; its output limit is {bytes_max}")));
    }
    let headers = headers_from_guest(response.headers, limits.header_bytes_max)?;
    Ok(Reply { status, headers, body: Bytes::from(response.body) })
}

fn headers_from_guest(headers: Vec<wit::HeaderResult>, bytes_max: usize) -> Result<Vec<Header>, Fault> {
    let bytes: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > bytes_max {
        let count = headers.len();
        return Err(failed(format!(
            "the plugin gave {count} headers of {bytes} bytes; at most {HEADERS_MAX} of {bytes_max} are taken"
        )));
    }
    headers.into_iter().map(header_from_guest).collect()
}

fn header_from_guest(header: wit::HeaderResult) -> Result<Header, Fault> {
    let shown = || printable(&header.name, NAME_BYTES_MAX);
    let name = HeaderName::from_bytes(header.name.as_bytes())
        .map_err(|error| failed(format!("the plugin gave a header with the invalid name {:?}", shown())).because(error))?;
    let value = HeaderValue::try_from(header.value)
        .map_err(|error| failed(format!("the plugin gave an invalid value for the header `{}`", shown())).because(error))?;
    Ok((name, value))
}

fn tensors_from_guest(tensors: Vec<wit::TensorResult>, limits: &PluginLimits) -> Result<Vec<Tensor>, Fault> {
    check_sizes(tensors.iter().map(|tensor| tensor.data.len()), limits).map_err(|excess| failed(excess.to_string()))?;
    tensors.into_iter().map(tensor_from_guest).collect()
}

/// What of a call's tensors is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Excess {
    #[error("the plugin gave {0} tensors in one call; at most {1} are taken (plugin_tensors_max)")]
    Count(usize, usize),
    #[error("the plugin gave a tensor of {0} bytes; at most {1} are taken (plugin_tensor_bytes_max)")]
    One(usize, usize),
    #[error("the plugin gave tensors of {0} bytes in all; its output limit is {1}")]
    All(usize, usize),
}

/// Whether tensors of these sizes in bytes, all those of one call, are within the limits.
///
/// # Errors
/// The first limit that they break.
pub(crate) fn check_sizes(sizes: impl ExactSizeIterator<Item = usize>, limits: &PluginLimits) -> Result<(), Excess> {
    if sizes.len() > limits.tensors_max {
        return Err(Excess::Count(sizes.len(), limits.tensors_max));
    }
    let mut all = 0_usize;
    for size in sizes {
        if size > limits.tensor_bytes_max {
            return Err(Excess::One(size, limits.tensor_bytes_max));
        }
        all = all.saturating_add(size);
    }
    if all > limits.output_bytes_max { Err(Excess::All(all, limits.output_bytes_max)) } else { Ok(()) }
}

fn tensor_from_guest(tensor: wit::TensorResult) -> Result<Tensor, Fault> {
    let bad = |what: &str| failed(format!("the plugin gave a tensor `{}` {what}", printable(&tensor.name, NAME_BYTES_MAX)));
    if tensor.name.len() > NAME_BYTES_MAX {
        return Err(bad("whose name is too long"));
    }
    if tensor.shape.len() > RANK_MAX {
        return Err(bad("that has too many axes"));
    }
    let shape: Result<Vec<i64>, _> = tensor.shape.iter().map(|axis| i64::try_from(*axis)).collect();
    let shape = shape.map_err(|_| bad("that has an axis beyond 2^63"))?;
    let dtype = dtype_from_guest(tensor.dtype);
    if !fits(dtype, &shape, &tensor.data) {
        return Err(bad("whose data is not as long as its shape and datatype say"));
    }
    Ok(Tensor { name: tensor.name, dtype, shape, data: Bytes::from(tensor.data) })
}

/// Whether data is as long as its datatype and shape say.
pub(crate) fn fits(dtype: Dtype, shape: &[i64], data: &[u8]) -> bool {
    let Some(count) = element_count(shape) else { return false };
    match dtype.size() {
        Some(size) => count.checked_mul(size) == Some(data.len()),
        None => {
            let mut elements = byte_strings(data);
            elements.by_ref().take(count).filter(Result::is_ok).count() == count && elements.next().is_none()
        }
    }
}

/// The contract's name for an element type.
pub(crate) fn dtype_to_guest(dtype: Dtype) -> wit::Dtype {
    match dtype {
        Dtype::Bool => wit::Dtype::Boolean,
        Dtype::Uint8 => wit::Dtype::Uint8,
        Dtype::Uint16 => wit::Dtype::Uint16,
        Dtype::Uint32 => wit::Dtype::Uint32,
        Dtype::Uint64 => wit::Dtype::Uint64,
        Dtype::Int8 => wit::Dtype::Int8,
        Dtype::Int16 => wit::Dtype::Int16,
        Dtype::Int32 => wit::Dtype::Int32,
        Dtype::Int64 => wit::Dtype::Int64,
        Dtype::Fp16 => wit::Dtype::Fp16,
        Dtype::Bf16 => wit::Dtype::Bf16,
        Dtype::Fp32 => wit::Dtype::Fp32,
        Dtype::Fp64 => wit::Dtype::Fp64,
        Dtype::Bytes => wit::Dtype::Bytes,
    }
}

/// The domain's name for an element type.
pub(crate) fn dtype_from_guest(dtype: wit::Dtype) -> Dtype {
    match dtype {
        wit::Dtype::Boolean => Dtype::Bool,
        wit::Dtype::Uint8 => Dtype::Uint8,
        wit::Dtype::Uint16 => Dtype::Uint16,
        wit::Dtype::Uint32 => Dtype::Uint32,
        wit::Dtype::Uint64 => Dtype::Uint64,
        wit::Dtype::Int8 => Dtype::Int8,
        wit::Dtype::Int16 => Dtype::Int16,
        wit::Dtype::Int32 => Dtype::Int32,
        wit::Dtype::Int64 => Dtype::Int64,
        wit::Dtype::Fp16 => Dtype::Fp16,
        wit::Dtype::Bf16 => Dtype::Bf16,
        wit::Dtype::Fp32 => Dtype::Fp32,
        wit::Dtype::Fp64 => Dtype::Fp64,
        wit::Dtype::Bytes => Dtype::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use sandmill_domain::Blame;

    use super::*;

    fn header(name: &str, value: &[u8]) -> wit::HeaderResult {
        wit::HeaderResult { name: name.into(), value: value.to_vec() }
    }

    fn response(status: u16, headers: Vec<wit::HeaderResult>) -> wit::Response {
        wit::Response { status, headers, body: b"four".to_vec() }
    }

    fn tensor(dtype: wit::Dtype, shape: &[u64], data: &[u8]) -> wit::TensorResult {
        wit::TensorResult { name: "x".into(), dtype, shape: shape.to_vec(), data: data.to_vec() }
    }

    #[test]
    fn dtypes_come_back_as_they_went() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype_from_guest(dtype_to_guest(dtype)), dtype);
        }
    }

    #[test]
    fn statuses_have_bounds() {
        for (status, fits) in [(0, false), (100, false), (199, false), (200, true), (599, true), (600, false), (u16::MAX, false)]
        {
            let result = reply_from_guest(Ok(response(status, vec![])), &bytes(4));
            assert_eq!(result.is_ok(), fits, "{status}");
        }
        assert!(reply_from_guest(Ok(response(200, vec![])), &bytes(3)).is_err());
    }

    #[test]
    fn headers_have_bounds() {
        let many = |count: usize, bytes: usize| (0..count).map(|_| header("a", &vec![b'v'; bytes])).collect();
        let cases: [(Vec<wit::HeaderResult>, bool); 7] = [
            (many(HEADERS_MAX, 1), true),
            (many(HEADERS_MAX + 1, 1), false),
            (many(1, 2 * HEADERS_MAX - 1), true),
            (many(1, 2 * HEADERS_MAX), false),
            (vec![header("a b", b"")], false),
            (vec![header("a", b"x\r\nevil: 1")], false),
            (vec![header("a", b"\xff\xfe")], true),
        ];
        for (at, (headers, fits)) in cases.into_iter().enumerate() {
            assert_eq!(headers_from_guest(headers, 2 * HEADERS_MAX).is_ok(), fits, "case {at}");
        }
    }

    #[test]
    fn tensors_are_as_long_as_they_say() {
        let cases = [
            (tensor(wit::Dtype::Fp32, &[1], &[0; 4]), true),
            (tensor(wit::Dtype::Fp32, &[], &[0; 4]), true),
            (tensor(wit::Dtype::Fp32, &[0, 7], &[]), true),
            (tensor(wit::Dtype::Fp32, &[1], &[0; 3]), false),
            (tensor(wit::Dtype::Fp32, &[1 << 62, 4], &[]), false),
            (tensor(wit::Dtype::Fp64, &[1 << 61], &[]), false),
            (tensor(wit::Dtype::Uint8, &[1 << 63], &[]), false),
            (tensor(wit::Dtype::Uint8, &[1; RANK_MAX], &[0]), true),
            (tensor(wit::Dtype::Uint8, &[1; RANK_MAX + 1], &[0]), false),
            (tensor(wit::Dtype::Bytes, &[2], b"\x01\0\0\0a\0\0\0\0"), true),
            (tensor(wit::Dtype::Bytes, &[3], b"\x01\0\0\0a\0\0\0\0"), false),
            (tensor(wit::Dtype::Bytes, &[1], b"\x02\0\0\0a"), false),
        ];
        for (at, (tensor, fits)) in cases.into_iter().enumerate() {
            assert_eq!(tensor_from_guest(tensor).is_ok(), fits, "case {at}");
        }
    }

    fn bytes(output_bytes_max: usize) -> PluginLimits {
        PluginLimits { output_bytes_max, ..PluginLimits::default() }
    }

    #[test]
    fn tensors_have_bounds_each_and_in_all() {
        let limits = PluginLimits { tensors_max: 3, tensor_bytes_max: 5, output_bytes_max: 10, ..PluginLimits::default() };
        let check = |sizes: &[usize]| check_sizes(sizes.iter().copied(), &limits);
        assert_eq!(check(&[5, 5, 0]), Ok(()));
        assert_eq!(check(&[0; 4]), Err(Excess::Count(4, 3)));
        assert_eq!(check(&[6]), Err(Excess::One(6, 5)));
        assert_eq!(check(&[5, 5, 1]), Err(Excess::All(11, 10)));
        let one = || tensor(wit::Dtype::Uint8, &[1], &[0]);
        assert!(tensors_from_guest(vec![one(); 3], &limits).is_ok());
        assert!(tensors_from_guest(vec![one(); 4], &limits).is_err());
        let long = wit::TensorResult { name: "n".repeat(NAME_BYTES_MAX + 1), ..one() };
        assert!(tensors_from_guest(vec![long], &limits).is_err());
    }

    #[test]
    fn the_kind_of_a_refusal_decides_its_code() {
        let cases = [
            (wit::ErrorKind::InvalidInput, Code::InvalidInput, Blame::Caller),
            (wit::ErrorKind::NotFound, Code::NotFound, Blame::Caller),
            (wit::ErrorKind::UnsupportedMedia, Code::UnsupportedMedia, Blame::Caller),
            (wit::ErrorKind::Unprocessable, Code::Unprocessable, Blame::Caller),
            (wit::ErrorKind::Internal, Code::PluginFailed, Blame::Plugin),
        ];
        for (kind, code, blame) in cases {
            let fault = refusal(&wit::Error { kind, message: format!("why\n{}", "x".repeat(2000)) });
            assert_eq!((fault.code, fault.blame), (code, blame));
            let told = fault.message.starts_with("why x") && fault.message.len() == MESSAGE_BYTES_MAX;
            assert_eq!(told, kind != wit::ErrorKind::Internal);
            assert!(fault.report().to_string().contains("why x"));
        }
    }
}
