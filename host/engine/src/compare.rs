//! Whether two runs gave the same answer, within what arithmetic in another order may change. Pure.

use bytes::Bytes;
use half::{bf16, f16};
use sandmill_domain::{Dtype, Tensor};

/// What answers may differ by, relative to the largest number in them; more for types that are not as precise themselves.
const TOLERANCE: f64 = 1e-4;
const TOLERANCE_16_BITS: f64 = 1e-2;

/// The first output that differs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Difference {
    /// In its shape.
    Shape { name: String, one: Vec<i64>, other: Vec<i64> },
    /// By so much, relative to its largest number.
    Value { name: String, by: f64 },
}

/// How the outputs differ, in the order of the first; two runs seldom agree to the last bit.
pub(crate) fn differ(one: &[Tensor], other: &[Tensor]) -> Result<(), Difference> {
    for (one, other) in one.iter().zip(other) {
        let by = distance(one, other);
        let tolerance = if matches!(one.dtype, Dtype::Fp16 | Dtype::Bf16) { TOLERANCE_16_BITS } else { TOLERANCE };
        let name = one.name.clone();
        if one.shape != other.shape {
            return Err(Difference::Shape { name, one: one.shape.clone(), other: other.shape.clone() });
        }
        if by > tolerance {
            return Err(Difference::Value { name, by });
        }
    }
    Ok(())
}

/// Whether all numbers are finite.
pub(crate) fn are_finite(tensor: &Tensor) -> bool {
    numbers(tensor.dtype).is_none_or(|numbers| numbers(&tensor.data).all(f64::is_finite))
}

/// The largest difference of two elements, by the largest of all elements; endless if the tensors cannot be compared.
fn distance(one: &Tensor, other: &Tensor) -> f64 {
    if one.dtype != other.dtype || one.shape != other.shape || one.data.len() != other.data.len() {
        return f64::INFINITY;
    }
    let Some(numbers) = numbers(one.dtype) else { return if one.data == other.data { 0.0 } else { f64::INFINITY } };
    let finite = |data| numbers(data).filter(|number| number.is_finite()).fold(0.0, |most: f64, number| most.max(number.abs()));
    let scale = finite(&one.data).max(finite(&other.data)).max(f64::MIN_POSITIVE);
    let differs = |(a, b): (f64, f64)| if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() / scale };
    let pairs = numbers(&one.data).zip(numbers(&other.data));
    pairs.map(differs).fold(0.0, |most, by| if by.is_nan() { f64::INFINITY } else { most.max(by) })
}

type Numbers = fn(&Bytes) -> Box<dyn Iterator<Item = f64> + '_>;

/// How to read a type that is not exact.
fn numbers(dtype: Dtype) -> Option<Numbers> {
    match dtype {
        Dtype::Fp32 => Some(|data| Box::new(data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))))),
        Dtype::Fp64 => Some(|data| Box::new(data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)))),
        Dtype::Fp16 => Some(|data| Box::new(data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64()))),
        Dtype::Bf16 => Some(|data| Box::new(data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f64()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_by_the_precision_of_their_type() {
        let floats = |values: &[f32]| Tensor {
            name: "y".into(),
            dtype: Dtype::Fp32,
            shape: vec![values.len() as i64],
            data: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
        };
        let differs = |one: &[f32], other: &[f32]| differ(&[floats(one)], &[floats(other)]).is_err();
        assert!(!differs(&[1.0, f32::NAN, f32::INFINITY], &[1.00005, f32::NAN, f32::INFINITY]));
        assert!(!differs(&[1e6], &[1e6 + 50.0]));
        assert!(differs(&[1.0], &[1.001]));
        assert!(differs(&[1e-6], &[1.1e-6]), "small is no excuse");
        assert!(differs(&[0.0], &[f32::NAN]));
        assert!(differs(&[f32::INFINITY], &[1.0]));
        assert!(differs(&[1.0, 2.0], &[1.0]));
        let whole = |byte: u8| Tensor { name: "n".into(), dtype: Dtype::Uint8, shape: vec![1], data: vec![byte].into() };
        assert!(differ(&[whole(1)], &[whole(2)]).is_err());
        assert!(differ(&[whole(1)], &[whole(1)]).is_ok());
    }
}
