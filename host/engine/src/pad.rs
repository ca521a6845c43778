//! Inputs filled up to the buckets of their axes, and outputs cut back to what belongs to the call. Pure: whether a model bears it is
//! for its profile to say.

use std::collections::BTreeMap;

use half::{bf16, f16};
use sandmill_domain::{AxisRule, Buffer, Code, Dtype, Fault, Lender, Pad, PadValue, Signature, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::load::LoadError;

/// How much is filled in at once.
const FILL_BYTES: usize = 1 << 10;

/// How a model's calls are padded; by default not at all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Padding {
    /// Symbols, and the sizes that the model sees.
    axes: Vec<(String, Vec<i64>)>,
    /// In the order of the signature, where there is anything to pad.
    inputs: Vec<Padded>,
    /// By output and axis: which of `axes` it is.
    outputs: Vec<Vec<Option<usize>>>,
}

/// An input that is padded.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Padded {
    name: String,
    /// Which of the padding's axes each of its own is.
    axes: Vec<Option<usize>>,
    /// One element, as it lies in memory.
    element: Vec<u8>,
}

/// The size of each padded axis in one call, and the one that the model sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sizes(Vec<(i64, i64)>);

impl Padding {
    /// What a function's rules mean for this model.
    ///
    /// # Errors
    /// If an axis cannot be padded.
    pub(crate) fn of(signature: &Signature, rules: &BTreeMap<String, AxisRule>) -> Result<Self, LoadError> {
        let mut padding = Self::default();
        for (name, rule) in rules {
            if let Some(pad) = rule.pad() {
                let refused = |why: String| LoadError::Padding { axis: name.clone(), why };
                check(signature, name).map_err(refused)?;
                padding.axes.push((name.clone(), rule.buckets().to_vec()));
                padding.add(signature, pad).map_err(refused)?;
            }
        }
        if !padding.is_empty() {
            padding.outputs = signature.outputs.iter().map(|spec| padding.positions(spec)).collect();
        }
        Ok(padding)
    }

    /// The inputs that have the last of the axes.
    fn add(&mut self, signature: &Signature, pad: &Pad) -> Result<(), String> {
        let newest = self.axes.len() - 1;
        let has = |spec: &&TensorSpec| self.positions(spec).contains(&Some(newest));
        let specs: Vec<&TensorSpec> = signature.inputs.iter().filter(has).collect();
        if let Pad::Each(values) = pad
            && let Some(name) = values.keys().find(|name| specs.iter().all(|spec| spec.name != **name))
        {
            return Err(format!("it is to be padded in `{name}`, which is no input with that axis"));
        }
        for spec in specs {
            let value = match pad {
                Pad::All(value) => *value,
                Pad::Each(values) => *values.get(&spec.name).ok_or_else(|| {
                    format!("input `{}` has it too, but `pad` does not say with what that is padded", spec.name)
                })?,
            };
            let element = element(spec.dtype, value)
                .ok_or_else(|| format!("input `{}` is {}, which cannot be padded with that value", spec.name, spec.dtype))?;
            let axes = self.positions(spec);
            match self.inputs.iter_mut().find(|input| input.name == spec.name) {
                Some(input) if input.element != element => {
                    return Err(format!("input `{}` is padded with another value on another axis", spec.name));
                }
                Some(input) => input.axes = axes,
                None => self.inputs.push(Padded { name: spec.name.clone(), axes, element }),
            }
        }
        Ok(())
    }

    fn positions(&self, spec: &TensorSpec) -> Vec<Option<usize>> {
        let known = |symbol: &str| self.axes.iter().position(|(name, _)| name == symbol);
        spec.shape.iter().map(|axis| axis.symbol().and_then(known)).collect()
    }

    /// Whether nothing is padded.
    pub(crate) fn is_empty(&self) -> bool {
        self.axes.is_empty()
    }

    /// The axes' symbols, and their buckets.
    pub(crate) fn axes(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.axes.iter().map(|(symbol, buckets)| (symbol.as_str(), buckets.as_slice()))
    }

    /// Which axis of which input is the padding's axis at this place.
    pub(crate) fn places(&self, at: usize) -> impl Iterator<Item = (&str, usize)> {
        self.inputs.iter().flat_map(move |input| {
            let here = move |(axis, which): (usize, &Option<usize>)| (*which == Some(at)).then_some((input.name.as_str(), axis));
            input.axes.iter().enumerate().filter_map(here)
        })
    }

    /// The sizes of a call's padded axes: each is filled up to the next bucket, unless there is nothing of it at all.
    pub(crate) fn sizes(&self, inputs: &[Tensor]) -> Sizes {
        let size = |(at, (_, buckets)): (usize, &(String, Vec<i64>))| {
            let own = self.places(at).find_map(|(name, axis)| {
                inputs.iter().find(|tensor| tensor.name == name).and_then(|tensor| tensor.shape.get(axis))
            });
            let own = own.copied().unwrap_or(0);
            let bucket = buckets.iter().find(|bucket| **bucket >= own && own > 0);
            (own, bucket.copied().unwrap_or(own))
        };
        Sizes(self.axes.iter().enumerate().map(size).collect())
    }

    /// The shape of an input as the model sees it; none if it is its own.
    pub(crate) fn shape(&self, name: &str, tensor: &Tensor, sizes: &Sizes) -> Option<Vec<i64>> {
        let input = self.inputs.iter().find(|input| input.name == name)?;
        sizes.fill(&input.axes, &tensor.shape)
    }

    /// The bytes of all inputs as the model sees them.
    pub(crate) fn bytes(&self, inputs: &[Tensor]) -> usize {
        let sizes = self.sizes(inputs);
        inputs.iter().map(|tensor| self.len(tensor, &sizes)).fold(0, usize::saturating_add)
    }

    fn len(&self, tensor: &Tensor, sizes: &Sizes) -> usize {
        match self.shape(&tensor.name, tensor, sizes) {
            Some(shape) => bytes(&shape, tensor.dtype.size().unwrap_or(1)),
            None => tensor.data.len(),
        }
    }

    /// Memory for so many tensors of one name as the model sees them.
    pub(crate) fn lend(&self, parts: &[(&Tensor, &Sizes)], lender: &dyn Lender) -> Result<Buffer, Fault> {
        lender.lend(parts.iter().map(|(tensor, sizes)| self.len(tensor, sizes)).fold(0, usize::saturating_add))
    }

    /// Writes a tensor as the model sees it; gives its shape.
    pub(crate) fn write(&self, tensor: &Tensor, sizes: &Sizes, buffer: &mut Buffer) -> Result<Vec<i64>, Fault> {
        let input = self.inputs.iter().find(|input| input.name == tensor.name);
        match input.and_then(|input| Some((input, sizes.fill(&input.axes, &tensor.shape)?))) {
            Some((input, shape)) => {
                let unit = input.element.len();
                let many = input.element.repeat((FILL_BYTES / unit).max(1));
                reshape(&tensor.data, &tensor.shape, &shape, &Unit { bytes: unit, fill: &many }, buffer)?;
                Ok(shape)
            }
            None => {
                buffer.push(&tensor.data).map_err(|_room| short())?;
                Ok(tensor.shape.clone())
            }
        }
    }

    /// A call's inputs as the model sees them: one copy of what is padded.
    ///
    /// # Errors
    /// `Overloaded` if there is no memory for them.
    pub(crate) fn pad(&self, inputs: Vec<Tensor>, lender: &dyn Lender) -> Result<Vec<Tensor>, Fault> {
        let sizes = self.sizes(&inputs);
        let pad = |tensor: Tensor| {
            if self.shape(&tensor.name, &tensor, &sizes).is_none() {
                return Ok(tensor);
            }
            let mut buffer = self.lend(&[(&tensor, &sizes)], lender)?;
            let shape = self.write(&tensor, &sizes, &mut buffer)?;
            Ok(Tensor { shape, data: buffer.freeze(), ..tensor })
        };
        inputs.into_iter().map(pad).collect()
    }

    /// A call's part of the outputs, in the order of the signature, with nothing in it of what was filled in. A copy only where what
    /// is left does not lie together.
    ///
    /// # Errors
    /// `ModelFailed` if an output is not as large as its inputs' symbols say; `Overloaded` if there is no memory for a copy.
    pub(crate) fn cut(&self, outputs: Vec<Tensor>, sizes: &Sizes, lender: &dyn Lender) -> Result<Vec<Tensor>, Fault> {
        if self.is_empty() {
            return Ok(outputs);
        }
        let cut = |(at, output): (usize, Tensor)| match self.outputs.get(at) {
            Some(axes) => sizes.cut(axes, output, lender),
            None => Ok(output),
        };
        outputs.into_iter().enumerate().map(cut).collect()
    }
}

/// Whether an axis of that name comes back in the outputs by its name, and is no number of rows.
fn check(signature: &Signature, name: &str) -> Result<(), String> {
    let is_it = |spec: &&TensorSpec| spec.shape.iter().any(|axis| axis.symbol() == Some(name));
    if !signature.inputs.iter().any(|spec| is_it(&spec)) {
        return Err("it has no symbol, by which it could be found in the outputs".to_owned());
    }
    for spec in signature.inputs.iter().chain(&signature.outputs).filter(is_it) {
        if spec.shape.first().is_some_and(|first| first.symbol() == Some(name)) {
            return Err(format!("it is the first of `{}`: rows are joined with those of other requests, not padded", spec.name));
        }
        if spec.dtype == Dtype::Bytes {
            return Err(format!("`{}` holds byte strings, which are not padded", spec.name));
        }
    }
    Ok(())
}

impl Sizes {
    /// A shape with its padded axes filled up; none if nothing is to be filled.
    fn fill(&self, axes: &[Option<usize>], shape: &[i64]) -> Option<Vec<i64>> {
        let bucket = |(which, size): (&Option<usize>, &i64)| which.map_or(*size, |at| self.0[at].1);
        let filled: Vec<i64> = axes.iter().zip(shape).map(bucket).collect();
        (filled != shape).then_some(filled)
    }

    fn cut(&self, axes: &[Option<usize>], output: Tensor, lender: &dyn Lender) -> Result<Tensor, Fault> {
        let mut own = output.shape.clone();
        for (axis, at) in axes.iter().enumerate().filter_map(|(axis, which)| Some((axis, (*which)?))) {
            let (size, bucket) = self.0[at];
            match own.get_mut(axis).filter(|there| **there == bucket) {
                Some(there) => *there = size,
                None => return Err(unlike(&output, axis, bucket)),
            }
        }
        if own == output.shape {
            return Ok(output);
        }
        let unit = output.dtype.size().unwrap_or(1);
        let bytes = bytes(&own, unit);
        let data = if lies_together(&output.shape, &own) {
            output.data.slice(..bytes)
        } else {
            let mut buffer = lender.lend(bytes)?;
            reshape(&output.data, &output.shape, &own, &Unit { bytes: unit, fill: &[] }, &mut buffer)?;
            buffer.freeze()
        };
        Ok(Tensor { shape: own, data, ..output })
    }
}

fn unlike(output: &Tensor, axis: usize, expected: i64) -> Fault {
    let message = format!("axis {axis} of the model's output `{}` is not {expected} in {:?}", output.name, output.shape);
    Fault::new(Code::ModelFailed, message)
}

fn short() -> Fault {
    Fault::new(Code::Internal, "a lent buffer is too short")
}

fn bytes(shape: &[i64], unit: usize) -> usize {
    let size = |axis: &i64| usize::try_from(*axis).unwrap_or(0);
    shape.iter().map(size).fold(unit, usize::saturating_mul)
}

/// Whether the smaller shape is the beginning of the larger one's data: only one axis differs, and there is one of all before it.
fn lies_together(larger: &[i64], smaller: &[i64]) -> bool {
    let Some(at) = larger.iter().zip(smaller).position(|(larger, smaller)| larger != smaller) else { return true };
    larger[..at].iter().all(|size| *size == 1) && larger[at + 1..] == smaller[at + 1..]
}

/// An element's size, and some elements to fill in.
struct Unit<'a> {
    bytes: usize,
    fill: &'a [u8],
}

/// Writes row-major data of one shape as another, of which each axis is larger, or each smaller.
fn reshape(data: &[u8], from: &[i64], to: &[i64], unit: &Unit<'_>, buffer: &mut Buffer) -> Result<(), Fault> {
    let ([from_first, from_rest @ ..], [to_first, to_rest @ ..]) = (from, to) else {
        return buffer.push(data).map_err(|_room| short());
    };
    let inner = bytes(from_rest, unit.bytes);
    let kept = usize::try_from((*from_first).min(*to_first)).unwrap_or(0);
    let kept_data = data.get(..kept.saturating_mul(inner)).ok_or_else(short)?;
    if from_rest == to_rest {
        buffer.push(kept_data).map_err(|_room| short())?;
    } else if inner > 0 {
        kept_data.chunks_exact(inner).try_for_each(|row| reshape(row, from_rest, to_rest, unit, buffer))?;
    }
    let added = usize::try_from(to_first.saturating_sub(*from_first)).unwrap_or(0);
    let mut left = added.saturating_mul(bytes(to_rest, unit.bytes));
    while left > 0 {
        let part = unit.fill.get(..left.min(unit.fill.len())).filter(|part| !part.is_empty()).ok_or_else(short)?;
        buffer.push(part).map_err(|_room| short())?;
        left -= part.len();
    }
    Ok(())
}

/// A value in a type's own bytes; none if it has no such value.
fn element(dtype: Dtype, value: PadValue) -> Option<Vec<u8>> {
    #[expect(clippy::cast_precision_loss, reason = "as near as a type of floating point can come")]
    let real = match value {
        PadValue::Whole(whole) => whole as f64,
        PadValue::Real(real) => real,
    };
    let PadValue::Whole(whole) = value else {
        return float(dtype, real);
    };
    Some(match dtype {
        Dtype::Bool => vec![u8::try_from(whole).ok().filter(|bit| *bit <= 1)?],
        Dtype::Uint8 => u8::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Uint16 => u16::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Uint32 => u32::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Uint64 => u64::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Int8 => i8::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Int16 => i16::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Int32 => i32::try_from(whole).ok()?.to_le_bytes().to_vec(),
        Dtype::Int64 => whole.to_le_bytes().to_vec(),
        _ => return float(dtype, real),
    })
}

fn float(dtype: Dtype, value: f64) -> Option<Vec<u8>> {
    match dtype {
        Dtype::Fp16 => Some(f16::from_f64(value).to_le_bytes().to_vec()),
        Dtype::Bf16 => Some(bf16::from_f64(value).to_le_bytes().to_vec()),
        #[expect(clippy::cast_possible_truncation, reason = "as near as the type can come")]
        Dtype::Fp32 => Some((value as f32).to_le_bytes().to_vec()),
        Dtype::Fp64 => Some(value.to_le_bytes().to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sandmill_domain::Axis;

    use super::*;
    use crate::pool::Pool;

    fn spec(name: &str, dtype: Dtype, symbols: &[&str]) -> TensorSpec {
        let axis = |symbol: &&str| Axis::Dynamic { symbol: (*symbol != "?").then(|| (*symbol).to_owned()), max: 99 };
        TensorSpec { name: name.into(), dtype, shape: symbols.iter().map(axis).collect() }
    }

    fn signature() -> Signature {
        let inputs = vec![spec("ids", Dtype::Int16, &["n", "seq"]), spec("mask", Dtype::Bool, &["n", "seq"])];
        Signature { inputs, outputs: vec![spec("y", Dtype::Uint8, &["n", "seq", "w"]), spec("z", Dtype::Uint8, &["n"])] }
    }

    fn rule(buckets: &[i64], pad: Pad) -> AxisRule {
        AxisRule::new(None, buckets.to_vec(), Some(pad)).unwrap()
    }

    fn padding(signature: &Signature, axis: &str, pad: Pad) -> Result<Padding, String> {
        Padding::of(signature, &[(axis.to_owned(), rule(&[2, 4], pad))].into()).map_err(|error| error.to_string())
    }

    fn each(values: &[(&str, PadValue)]) -> Pad {
        Pad::Each(values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    fn tensor(name: &str, dtype: Dtype, shape: &[i64], data: &[u8]) -> Tensor {
        Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: bytes::Bytes::copy_from_slice(data) }
    }

    const ONE: PadValue = PadValue::Whole(1);

    #[test]
    fn what_cannot_be_padded_is_refused_with_a_reason() {
        let strings = Signature { inputs: vec![spec("s", Dtype::Bytes, &["n", "seq"])], outputs: vec![] };
        let nameless = Signature { inputs: vec![spec("x", Dtype::Fp32, &["n", "?"])], outputs: vec![] };
        let cases = [
            (padding(&nameless, "x[1]", Pad::All(ONE)), "it has no symbol, by which it could be found in the outputs"),
            (padding(&signature(), "n", Pad::All(ONE)), "it is the first of `ids`: rows are joined with those of other requests"),
            (padding(&strings, "seq", Pad::All(ONE)), "`s` holds byte strings, which are not padded"),
            (padding(&signature(), "seq", each(&[("ids", ONE)])), "input `mask` has it too, but `pad` does not say"),
            (padding(&signature(), "seq", each(&[("x", ONE)])), "it is to be padded in `x`, which is no input with that axis"),
            (
                padding(&signature(), "seq", Pad::All(PadValue::Whole(2))),
                "input `mask` is BOOL, which cannot be padded with that",
            ),
            (padding(&signature(), "seq", Pad::All(PadValue::Real(0.5))), "input `ids` is INT16, which cannot be padded with"),
            (padding(&signature(), "seq", Pad::All(PadValue::Whole(40_000))), "input `ids` is INT16, which cannot be padded"),
        ];
        for (refused, expected) in cases {
            let text = refused.expect_err(expected);
            let (axis, why) = text.split_once(" cannot be padded: ").expect("it says so");
            assert!(axis.starts_with("the axis `") && why.starts_with(expected), "{text}");
        }
        assert!(padding(&signature(), "seq", Pad::All(ONE)).is_ok());
    }

    #[test]
    fn inputs_are_filled_up_to_the_next_bucket_and_outputs_cut_back() {
        let padding = padding(&signature(), "seq", each(&[("ids", PadValue::Whole(-1)), ("mask", PadValue::Whole(0))])).unwrap();
        let pool = Pool::new(1 << 20, 0);
        let inputs = vec![
            tensor("mask", Dtype::Bool, &[2, 3], &[1; 6]),
            tensor("ids", Dtype::Int16, &[2, 3], &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]),
        ];
        let sizes = padding.sizes(&inputs);
        assert_eq!((sizes.0.clone(), padding.bytes(&inputs)), (vec![(3, 4)], 24));
        let padded = padding.pad(inputs, &pool).unwrap();
        assert_eq!(padded[0], tensor("mask", Dtype::Bool, &[2, 4], &[1, 1, 1, 0, 1, 1, 1, 0]));
        let ids = [1, 0, 2, 0, 3, 0, 255, 255, 4, 0, 5, 0, 6, 0, 255, 255];
        assert_eq!(padded[1], tensor("ids", Dtype::Int16, &[2, 4], &ids));

        let outputs =
            vec![tensor("y", Dtype::Uint8, &[2, 4, 1], &[1, 2, 3, 0, 4, 5, 6, 0]), tensor("z", Dtype::Uint8, &[2], &[7, 8])];
        let cut = padding.cut(outputs.clone(), &sizes, &pool).unwrap();
        assert_eq!(cut, [tensor("y", Dtype::Uint8, &[2, 3, 1], &[1, 2, 3, 4, 5, 6]), outputs[1].clone()]);
        let fault = padding.cut(vec![tensor("y", Dtype::Uint8, &[2, 3, 1], &[0; 6])], &sizes, &pool).unwrap_err();
        assert_eq!(fault.message, "axis 1 of the model's output `y` is not 4 in [2, 3, 1]");
        // What lies together is not copied.
        let whole = tensor("y", Dtype::Uint8, &[1, 4, 2], &[1, 2, 3, 4, 5, 6, 0, 0]);
        let cut = padding.cut(vec![whole.clone()], &sizes, &pool).unwrap();
        assert_eq!(cut[0].data, &[1, 2, 3, 4, 5, 6][..]);
        assert_eq!(cut[0].data.as_ptr(), whole.data.as_ptr());
    }

    #[test]
    fn what_is_as_large_as_a_bucket_or_has_nothing_stays_as_it_is() {
        let padding = padding(&signature(), "seq", Pad::All(ONE)).unwrap();
        for size in [0, 2, 4, 5] {
            let data = vec![1; usize::try_from(size).unwrap()];
            let inputs = vec![tensor("mask", Dtype::Bool, &[1, size], &data)];
            assert_eq!(padding.sizes(&inputs).0, [(size, size)]);
            let padded = padding.pad(inputs.clone(), &Pool::new(0, 0)).unwrap();
            assert_eq!(padded, inputs);
        }
        let nothing = Padding::default();
        let inputs = vec![tensor("mask", Dtype::Bool, &[1, 3], &[1; 3])];
        assert_eq!((nothing.is_empty(), nothing.bytes(&inputs)), (true, 3));
        assert_eq!(nothing.pad(inputs.clone(), &Pool::new(0, 0)).unwrap(), inputs);
    }

    proptest! {
        #[test]
        fn what_is_padded_and_cut_back_is_what_it_was(
            n in 0_i64..4, a in 0_i64..9, b in 0_i64..5, tail in 1_i64..4, seed in 0_u8..255,
        ) {
            let symbols = ["n", "a", "b", "t"];
            let both = || vec![spec("x", Dtype::Int16, &symbols)];
            let signature = Signature { inputs: both(), outputs: both() };
            let rules = [
                ("a".to_owned(), rule(&[3, 8], Pad::All(ONE))),
                ("b".to_owned(), rule(&[1, 4], Pad::All(ONE))),
            ];
            let padding = Padding::of(&signature, &rules.into()).unwrap();
            let shape = [n, a, b, tail];
            let data: Vec<u8> = (0..bytes(&shape, 2)).map(|at| at.to_le_bytes()[0] ^ seed).collect();
            let inputs = vec![tensor("x", Dtype::Int16, &shape, &data)];
            let (sizes, pool) = (padding.sizes(&inputs), Pool::new(1 << 20, 0));
            let padded = padding.pad(inputs.clone(), &pool).unwrap();
            prop_assert_eq!(padded[0].data.len(), bytes(&padded[0].shape, 2));
            prop_assert_eq!(padding.bytes(&inputs), padded[0].data.len());
            prop_assert!(padded[0].shape[1] <= 8 && padded[0].shape[2] <= 4);
            prop_assert_eq!(padding.cut(padded, &sizes, &pool).unwrap(), inputs);
        }
    }
}
