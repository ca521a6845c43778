//! Tensors as they stand in a body behind the JSON, or as the whole body: cut out, checked and copied once, because the
//! body aligns them for nothing.

use bytes::Bytes;
use sandmill_domain::{Axis, Code, Dtype, Fault, Lender, Mismatch, Tensor, TensorSpec, element_count};

use crate::decode::HEADER_LENGTH;
use crate::document::{Input, Source};
use crate::refusal::{Refusal, invalid};

/// Makes tensors of `inputs`, in their order; those that are not decoded yet stand one behind the other in `attached`,
/// which is none if the request does not tell where its JSON ends.
///
/// # Errors
/// If a tensor is cut short or has a length that its shape does not, and if anything is left behind the last.
pub(crate) fn attach(inputs: Vec<Input<'_>>, attached: Option<&[u8]>, lender: &dyn Lender) -> Result<Vec<Tensor>, Refusal> {
    let mut rest = attached;
    let mut tensors = Vec::with_capacity(inputs.len());
    for Input { spec, shape, count, source } in inputs {
        let data = match source {
            Source::Decoded(bytes) => bytes,
            Source::Attached(bytes) => read(spec, count, cut(spec, &mut rest, bytes)?, lender)?,
        };
        tensors.push(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data });
    }
    match rest.map_or(0, <[u8]>::len) {
        0 => Ok(tensors),
        extra => Err(invalid(format!("unexpected additional input data: {extra} bytes behind the last tensor"))),
    }
}

/// The next `bytes` bytes of `rest`.
fn cut<'b>(spec: &TensorSpec, rest: &mut Option<&'b [u8]>, bytes: usize) -> Result<&'b [u8], Refusal> {
    let name = &spec.name;
    let all =
        rest.ok_or_else(|| invalid(format!("tensor `{name}` has `binary_data_size`, which needs header {HEADER_LENGTH}")))?;
    let (data, behind) = all.split_at_checked(bytes).ok_or_else(|| {
        invalid(format!("tensor `{name}` is truncated: `binary_data_size` is {bytes}, but the body has {} left", all.len()))
    })?;
    *rest = Some(behind);
    Ok(data)
}

fn read(spec: &TensorSpec, count: usize, data: &[u8], lender: &dyn Lender) -> Result<Bytes, Refusal> {
    let name = &spec.name;
    if let Some(expected) = spec.dtype.size().map(|size| size * count).filter(|expected| *expected != data.len()) {
        return Err(Mismatch::Length { name: name.clone(), given: data.len(), expected }.into());
    }
    // Any other value would be undefined behaviour in code that takes it for a bool.
    if spec.dtype == Dtype::Bool
        && let Some(index) = data.iter().position(|byte| *byte > 1)
    {
        return Err(invalid(format!("tensor `{name}`: element {index}: byte {} where BOOL has 0 or 1", data[index])));
    }
    copy(&[data], lender)
}

fn copy(parts: &[&[u8]], lender: &dyn Lender) -> Result<Bytes, Refusal> {
    let mut buffer = lender.lend(parts.iter().map(|part| part.len()).sum())?;
    for part in parts {
        buffer.push(part).map_err(|_| Fault::new(Code::Internal, "a lent buffer is too small"))?;
    }
    Ok(buffer.freeze())
}

/// The whole body as the one tensor that the model takes, a batch of one row.
///
/// # Errors
/// If the model's shape leaves open what the body is, or the body has another length.
pub(crate) fn read_raw(spec: &TensorSpec, body: &[u8], lender: &dyn Lender) -> Result<Tensor, Refusal> {
    let name = &spec.name;
    let shape = raw_shape(spec, body.len())
        .ok_or_else(|| invalid(format!("tensor `{name}`: its shape cannot be told from a raw request; send JSON with it")))?;
    let count = spec.check_shape(spec.dtype, &shape)?;
    let data = if spec.dtype == Dtype::Bytes {
        let length = u32::try_from(body.len()).map_err(|_| invalid(format!("tensor `{name}`: too long for BYTES")))?;
        copy(&[&length.to_le_bytes(), body], lender)?
    } else {
        read(spec, count, body, lender)?
    };
    Ok(Tensor { name: name.clone(), dtype: spec.dtype, shape, data })
}

/// The shape of a raw tensor: one axis of variable size follows from the body's length; of two the first must be the
/// batch, which is 1. BYTES is a single element. None if that does not settle it.
fn raw_shape(spec: &TensorSpec, body_bytes: usize) -> Option<Vec<i64>> {
    let (mut shape, mut open) = (Vec::with_capacity(spec.shape.len()), Vec::new());
    for (position, axis) in spec.shape.iter().enumerate() {
        match axis {
            Axis::Fixed(size) => shape.push(*size),
            Axis::Dynamic { .. } | Axis::Sizes { .. } => {
                shape.push(1);
                open.push(position);
            }
        }
    }
    let Some(size) = spec.dtype.size() else {
        return (element_count(&shape) == Some(1)).then_some(shape);
    };
    match open[..] {
        [] => {}
        [axis] | [0, axis] => {
            let row_bytes = element_count(&shape)?.checked_mul(size)?;
            shape[axis] = i64::try_from(body_bytes.checked_div(row_bytes)?).ok()?;
        }
        _ => return None,
    }
    Some(shape)
}
