//! What a model takes and gives, and whether given tensors fit. All checks of names, dtypes, shapes and lengths are here;
//! they run before anything is decoded into memory.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tensor::{Tensor, byte_strings, element_count};
use crate::{AXIS_MAX, Dtype};

/// One axis of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Axis {
    /// Exactly this size.
    Fixed(i64),
    /// Any size from 0 to `max`; axes with the same symbol have the same size within one run.
    Dynamic {
        /// The model's name for it, if it has one.
        symbol: Option<String>,
        /// The bound, from the function's declaration or the default.
        max: i64,
    },
    /// One of these sizes, which ascend, and no other; symbols are as above.
    Sizes {
        /// The model's name for it, if it has one.
        symbol: Option<String>,
        /// At least one.
        sizes: Vec<i64>,
    },
}

impl Axis {
    /// The model's name for it, if it has one.
    pub fn symbol(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Dynamic { symbol, .. } | Self::Sizes { symbol, .. } => symbol.as_deref(),
        }
    }

    /// The size that it may have and that is nearest to this one: no smaller, if there is such.
    pub fn nearest(&self, size: i64) -> i64 {
        match self {
            Self::Fixed(fixed) => *fixed,
            Self::Dynamic { max, .. } => size.min(*max),
            Self::Sizes { sizes, .. } => {
                let at_least = sizes.iter().find(|allowed| **allowed >= size);
                at_least.or(sizes.last()).copied().unwrap_or(size)
            }
        }
    }

    fn takes(&self, size: i64) -> bool {
        match self {
            Self::Fixed(fixed) => size == *fixed,
            Self::Dynamic { max, .. } => (0..=*max).contains(&size),
            Self::Sizes { sizes, .. } => sizes.contains(&size),
        }
    }

    /// The sizes that it takes, in words.
    fn describe(&self) -> String {
        match self {
            Self::Fixed(size) => size.to_string(),
            Self::Dynamic { max, .. } => format!("from 0 to {max}"),
            Self::Sizes { sizes, .. } => listed(sizes),
        }
    }
}

/// `16, 32 or 64`
fn listed(sizes: &[i64]) -> String {
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    match sizes.split_last() {
        Some((only, [])) => only.clone(),
        Some((end, before)) => format!("{} or {end}", before.join(", ")),
        None => "none".to_owned(),
    }
}

/// A tensor that a model takes or gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// One entry per axis; empty for a scalar.
    pub shape: Vec<Axis>,
}

/// What a model takes and gives, in the order of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// All are needed.
    pub inputs: Vec<TensorSpec>,
    /// All are given.
    pub outputs: Vec<TensorSpec>,
}

/// What is known of a loaded model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name under which the function knows it.
    pub name: String,
    /// What it takes and gives.
    pub signature: Signature,
    /// The custom metadata of its file.
    pub metadata: Vec<(String, String)>,
}

/// How a tensor does not fit a signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// The model has no input of that name.
    #[error("tensor `{name}`: the model has no such input; it takes {expected}")]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that there are.
        expected: String,
    },
    /// An input was given twice.
    #[error("tensor `{name}` is given twice")]
    Twice {
        /// Which.
        name: String,
    },
    /// An input was not given.
    #[error("tensor `{name}` is missing: the model needs it")]
    Missing {
        /// Which.
        name: String,
    },
    /// The element type is another.
    #[error("tensor `{name}`: datatype {given}, but the model takes {expected}")]
    Dtype {
        /// Which.
        name: String,
        /// What was given.
        given: Dtype,
        /// What the model takes.
        expected: Dtype,
    },
    /// The number of axes is another.
    #[error("tensor `{name}`: shape {given:?} has {} axes, but the model takes {expected}", given.len())]
    Rank {
        /// Which.
        name: String,
        /// What was given.
        given: Vec<i64>,
        /// What the model takes.
        expected: String,
    },
    /// An axis has a size that the model does not take, is negative or beyond its bound.
    #[error("tensor `{name}`: axis {axis} of shape {given:?} must be {expected}")]
    Axis {
        /// Which.
        name: String,
        /// Counted from 0.
        axis: usize,
        /// What was given.
        given: Vec<i64>,
        /// What the model takes.
        expected: String,
    },
    /// The shape has more elements than can be counted.
    #[error("tensor `{name}`: shape {given:?} has too many elements")]
    Overflow {
        /// Which.
        name: String,
        /// What was given.
        given: Vec<i64>,
    },
    /// The data is longer or shorter than the shape says.
    #[error("tensor `{name}`: {given} bytes of data, but its shape and datatype make {expected}")]
    Length {
        /// Which.
        name: String,
        /// Bytes given.
        given: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// The data of a BYTES tensor does not hold as many elements as its shape says.
    #[error("tensor `{name}`: its data does not hold exactly {expected} byte strings")]
    Strings {
        /// Which.
        name: String,
        /// Elements expected.
        expected: usize,
    },
}

impl TensorSpec {
    /// Whether a tensor of this type and shape fits; gives the number of its elements.
    ///
    /// # Errors
    /// The first thing that does not fit, naming the tensor.
    pub fn check_shape(&self, dtype: Dtype, shape: &[i64]) -> Result<usize, Mismatch> {
        let name = || self.name.clone();
        if dtype != self.dtype {
            return Err(Mismatch::Dtype { name: name(), given: dtype, expected: self.dtype });
        }
        if shape.len() != self.shape.len() {
            return Err(Mismatch::Rank { name: name(), given: shape.to_vec(), expected: self.describe_shape() });
        }
        for (axis, (given, expected)) in shape.iter().zip(&self.shape).enumerate() {
            if !expected.takes(*given) {
                let expected = expected.describe();
                return Err(Mismatch::Axis { name: name(), axis, given: shape.to_vec(), expected });
            }
        }
        element_count(shape)
            .filter(|count| count.checked_mul(dtype.size().unwrap_or(4)).is_some_and(|bytes| isize::try_from(bytes).is_ok()))
            .ok_or_else(|| Mismatch::Overflow { name: name(), given: shape.to_vec() })
    }

    /// Whether a whole tensor fits, data included.
    ///
    /// # Errors
    /// The first thing that does not fit, naming the tensor.
    pub fn check(&self, tensor: &Tensor) -> Result<(), Mismatch> {
        let count = self.check_shape(tensor.dtype, &tensor.shape)?;
        let name = || self.name.clone();
        let Some(size) = tensor.dtype.size() else {
            let mut elements = byte_strings(&tensor.data);
            let whole = elements.by_ref().take(count).filter(Result::is_ok).count() == count && elements.next().is_none();
            return if whole { Ok(()) } else { Err(Mismatch::Strings { name: name(), expected: count }) };
        };
        let expected = count * size;
        if tensor.data.len() == expected {
            Ok(())
        } else {
            Err(Mismatch::Length { name: name(), given: tensor.data.len(), expected })
        }
    }

    fn describe_shape(&self) -> String {
        let axes: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        format!("[{}]", axes.join(", "))
    }
}

/// `64`, or `batch≤32`, or `?≤1024` without a symbol, or `seq=16|32`; without a bound just its name.
impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Dynamic { max: AXIS_MAX, .. } => f.write_str(self.symbol().unwrap_or("?")),
            Self::Dynamic { max, .. } => write!(f, "{}≤{max}", self.symbol().unwrap_or("?")),
            Self::Sizes { sizes, .. } => {
                let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                write!(f, "{}={}", self.symbol().unwrap_or("?"), sizes.join("|"))
            }
        }
    }
}

/// `` `X` FP32 [batch≤32, 64] ``
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {} {}", self.name, self.dtype, self.describe_shape())
    }
}

impl Signature {
    /// The input of that name.
    ///
    /// # Errors
    /// [`Mismatch::Unknown`] if the model has none.
    pub fn input(&self, name: &str) -> Result<&TensorSpec, Mismatch> {
        self.inputs.iter().find(|spec| spec.name == name).ok_or_else(|| Mismatch::Unknown {
            name: name.chars().take(100).collect(),
            expected: self.inputs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether these are exactly the model's inputs, in any order, each whole and fitting.
    ///
    /// # Errors
    /// The first thing that does not fit, naming the tensor.
    pub fn check_inputs(&self, tensors: &[Tensor]) -> Result<(), Mismatch> {
        let mut symbols = HashMap::new();
        for (at, tensor) in tensors.iter().enumerate() {
            let spec = self.input(&tensor.name)?;
            if tensors[..at].iter().any(|earlier| earlier.name == tensor.name) {
                return Err(Mismatch::Twice { name: tensor.name.clone() });
            }
            spec.check(tensor)?;
            check_symbols(spec, tensor, &mut symbols)?;
        }
        match self.inputs.iter().find(|spec| tensors.iter().all(|tensor| tensor.name != spec.name)) {
            Some(spec) => Err(Mismatch::Missing { name: spec.name.clone() }),
            None => Ok(()),
        }
    }
}

/// Axes with one symbol have one size: `sizes` remembers it, with the tensor that gave it.
fn check_symbols<'a>(
    spec: &'a TensorSpec,
    tensor: &Tensor,
    sizes: &mut HashMap<&'a str, (i64, &'a str)>,
) -> Result<(), Mismatch> {
    for (axis, (given, expected)) in tensor.shape.iter().zip(&spec.shape).enumerate() {
        let Some(symbol) = expected.symbol() else { continue };
        let (size, other) = *sizes.entry(symbol).or_insert((*given, &spec.name));
        if size != *given {
            let expected = format!("{size}, as `{symbol}` is in tensor `{other}`");
            return Err(Mismatch::Axis { name: spec.name.clone(), axis, given: tensor.shape.clone(), expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn dynamic(symbol: &str, max: i64) -> Axis {
        Axis::Dynamic { symbol: Some(symbol.into()), max }
    }

    fn spec(name: &str, dtype: Dtype, shape: Vec<Axis>) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape }
    }

    fn tensor(name: &str, dtype: Dtype, shape: &[i64], bytes: usize) -> Tensor {
        Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: Bytes::from(vec![0; bytes]) }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![
                spec("ids", Dtype::Int64, vec![dynamic("n", 4), dynamic("seq", 8)]),
                spec("mask", Dtype::Int64, vec![dynamic("n", 4), dynamic("seq", 8)]),
            ],
            outputs: vec![],
        }
    }

    #[test]
    fn inputs_that_fit_pass_in_any_order() {
        let ids = tensor("ids", Dtype::Int64, &[1, 2], 16);
        let mask = tensor("mask", Dtype::Int64, &[1, 2], 16);
        assert_eq!(signature().check_inputs(&[ids.clone(), mask.clone()]), Ok(()));
        assert_eq!(signature().check_inputs(&[mask, ids]), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ids = tensor("ids", Dtype::Int64, &[1, 2], 16);
        let cases = [
            (vec![ids.clone()], "tensor `mask` is missing"),
            (vec![ids.clone(), ids.clone()], "tensor `ids` is given twice"),
            (vec![tensor("x", Dtype::Int64, &[1, 2], 16)], "tensor `x`: the model has no such input; it takes `ids`, `mask`"),
            (vec![tensor("ids", Dtype::Int32, &[1, 2], 8)], "tensor `ids`: datatype INT32, but the model takes INT64"),
            (vec![tensor("ids", Dtype::Int64, &[2], 16)], "tensor `ids`: shape [2] has 1 axes, but the model takes [n≤4, seq≤8]"),
            (vec![tensor("ids", Dtype::Int64, &[5, 2], 80)], "tensor `ids`: axis 0 of shape [5, 2] must be from 0 to 4"),
            (vec![tensor("ids", Dtype::Int64, &[1, -2], 16)], "tensor `ids`: axis 1 of shape [1, -2] must be from 0 to 8"),
            (
                vec![tensor("ids", Dtype::Int64, &[1, 2], 15)],
                "tensor `ids`: 15 bytes of data, but its shape and datatype make 16",
            ),
            (
                vec![ids, tensor("mask", Dtype::Int64, &[1, 3], 24)],
                "tensor `mask`: axis 1 of shape [1, 3] must be 2, as `seq` is in tensor `ids`",
            ),
        ];
        for (tensors, expected) in cases {
            let error = signature().check_inputs(&tensors).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{error:?} is not {expected:?}");
        }
    }

    #[test]
    fn an_axis_of_certain_sizes_takes_no_other() {
        let of = |sizes: &[i64]| spec("x", Dtype::Uint8, vec![Axis::Sizes { symbol: Some("seq".into()), sizes: sizes.to_vec() }]);
        let some = of(&[16, 32, 64]);
        assert_eq!(some.to_string(), "`x` UINT8 [seq=16|32|64]");
        assert_eq!(some.check_shape(Dtype::Uint8, &[32]), Ok(32));
        for size in [0, 15, 17, 65, -16] {
            let error = some.check_shape(Dtype::Uint8, &[size]).expect_err("no such size").to_string();
            assert_eq!(error, format!("tensor `x`: axis 0 of shape [{size}] must be 16, 32 or 64"));
        }
        let only = of(&[8]).check_shape(Dtype::Uint8, &[9]).expect_err("no such size").to_string();
        assert!(only.ends_with("must be 8"), "{only}");
        for (size, nearest) in [(1, 16), (16, 16), (17, 32), (99, 64)] {
            assert_eq!(some.shape[0].nearest(size), nearest);
        }
        assert_eq!(spec("x", Dtype::Uint8, vec![dynamic("n", AXIS_MAX)]).to_string(), "`x` UINT8 [n]");
    }

    #[test]
    fn a_product_that_overflows_is_refused() {
        let huge = spec("x", Dtype::Fp32, vec![dynamic("a", i64::MAX), dynamic("b", i64::MAX)]);
        assert!(matches!(huge.check_shape(Dtype::Fp32, &[1 << 40, 1 << 40]), Err(Mismatch::Overflow { .. })));
        assert!(matches!(huge.check_shape(Dtype::Fp32, &[1 << 62, 1]), Err(Mismatch::Overflow { .. })));
    }

    #[test]
    fn byte_strings_are_counted() {
        let strings = spec("s", Dtype::Bytes, vec![dynamic("n", 4)]);
        let of = |count, data: &'static [u8]| Tensor {
            name: "s".into(),
            dtype: Dtype::Bytes,
            shape: vec![count],
            data: Bytes::from_static(data),
        };
        assert_eq!(strings.check(&of(2, b"\x01\0\0\0a\0\0\0\0")), Ok(()));
        for (count, data) in
            [(1, &b"\x01\0\0\0a\0\0\0\0"[..]), (3, b"\x01\0\0\0a\0\0\0\0"), (1, b"\x02\0\0\0a"), (0, b"\0\0\0\0")]
        {
            assert!(matches!(strings.check(&of(count, data)), Err(Mismatch::Strings { .. })), "{count} {data:?}");
        }
    }
}
