//! Tensors: named, typed, shaped, row-major, little-endian bytes. Knows no wire format beyond the plain form of BYTES.

use bytes::Bytes;

use crate::Dtype;

/// A named array. Whoever makes one keeps the invariant that `data` is as long as `dtype` and `shape` say.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name in the model's signature.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// The size of each axis, none negative; empty for a scalar.
    pub shape: Vec<i64>,
    /// The elements; for [`Dtype::Bytes`] each is a 32-bit little-endian length and its bytes.
    pub data: Bytes,
}

/// The number of elements of a shape; none if an axis is negative or the product overflows.
pub fn element_count(shape: &[i64]) -> Option<usize> {
    // An axis of zero makes the product zero, but not a later axis that is negative any better.
    shape.iter().try_fold(1_usize, |count, axis| count.checked_mul(usize::try_from(*axis).ok()?))
}

/// The elements of a [`Dtype::Bytes`] tensor's data, each as a slice; an `Err` ends the walk where the data is cut short.
pub fn byte_strings(data: &[u8]) -> impl Iterator<Item = Result<&[u8], Truncated>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let element = split_element(rest);
        rest = element.map_or(&[], |(_, tail)| tail);
        Some(element.map(|(head, _)| head).ok_or(Truncated))
    })
}

/// The data of a BYTES tensor ends in the middle of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

fn split_element(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_checked() {
        let cases: [(&[i64], Option<usize>); 6] = [
            (&[], Some(1)),
            (&[2, 3], Some(6)),
            (&[0, 5], Some(0)),
            (&[0, -1], None),
            (&[-1], None),
            (&[1 << 32, 1 << 32], None),
        ];
        for (shape, expected) in cases {
            assert_eq!(element_count(shape), expected, "{shape:?}");
        }
    }

    #[test]
    fn byte_strings_end_where_the_data_lies() {
        let good = b"\x01\0\0\0a\0\0\0\0\x02\0\0\0bc";
        let all: Vec<_> = byte_strings(good).collect();
        assert_eq!(all, [Ok(&b"a"[..]), Ok(b""), Ok(b"bc")]);
        let short: Vec<_> = byte_strings(&good[..good.len() - 1]).collect();
        assert_eq!(short.last(), Some(&Err(Truncated)));
        assert_eq!(byte_strings(b"\xff\xff\xff\xffx").collect::<Vec<_>>(), [Err(Truncated)]);
    }
}
