//! The rows of a model's tensors: joins the inputs of several calls into one run's, and splits the outputs again. Knows nothing of
//! queues and of the runtime.

use sandmill_domain::{Axis, Code, Fault, Lender, Signature, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::pad::{Padding, Sizes};

/// The inputs of a model that runs many rows at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rows {
    /// In the order of the signature.
    inputs: Vec<String>,
}

impl Rows {
    /// Whether the model's signature allows that calls share a run.
    ///
    /// # Errors
    /// Why not, for whoever asks why there are no batches.
    pub(crate) fn of(signature: &Signature) -> Result<Self, String> {
        if signature.inputs.is_empty() {
            return Err("the model has no inputs".to_owned());
        }
        let symbols: Vec<_> =
            signature.inputs.iter().filter_map(|spec| symbol(spec).map(|symbol| (&spec.name, symbol))).collect();
        if let Some(pair) = symbols.windows(2).find(|pair| pair[0].1 != pair[1].1) {
            let [(one, first), (other, second)] = pair else { return Err("no rows".to_owned()) };
            return Err(format!("the rows of input `{one}` are `{first}` and those of `{other}` are `{second}`"));
        }
        for (side, specs) in [("input", &signature.inputs), ("output", &signature.outputs)] {
            for spec in specs {
                check(spec).map_err(|why| format!("{side} `{}` {why}", spec.name))?;
            }
        }
        Ok(Self { inputs: signature.inputs.iter().map(|spec| spec.name.clone()).collect() })
    }

    /// How many rows a call's inputs have, and the sizes of all other axes as the model will see them; none if they do not agree.
    pub(crate) fn count(&self, inputs: &[Tensor], padding: &Padding) -> Option<(usize, Vec<i64>)> {
        let sizes = padding.sizes(inputs);
        let mut rows = None;
        let mut tail = Vec::with_capacity(2 * self.inputs.len());
        for name in &self.inputs {
            let tensor = inputs.iter().find(|tensor| tensor.name == *name)?;
            let (first, rest) = tensor.shape.split_first()?;
            if rows.is_some_and(|rows| rows != *first) {
                return None;
            }
            rows = Some(*first);
            // The number of axes, which the signature has fixed, keeps the inputs apart.
            match padding.shape(name, tensor, &sizes) {
                Some(padded) => tail.extend(padded.into_iter().skip(1)),
                None => tail.extend_from_slice(rest),
            }
        }
        let rows = usize::try_from(rows?).ok().filter(|rows| *rows > 0)?;
        Some((rows, tail))
    }

    /// One run's inputs of those of several calls: one copy of each, padded on the way.
    ///
    /// # Errors
    /// `Overloaded` if there is no memory for them.
    pub(crate) fn join(&self, calls: &[Vec<Tensor>], padding: &Padding, lender: &dyn Lender) -> Result<Vec<Tensor>, Fault> {
        let sizes: Vec<Sizes> = calls.iter().map(|inputs| padding.sizes(inputs)).collect();
        self.inputs.iter().map(|name| join(name, calls, &sizes, padding, lender)).collect()
    }
}

/// Each call's part of one run's outputs, by the rows that it brought. No copy.
///
/// # Errors
/// If an output has not one row for each that went in.
pub(crate) fn split(outputs: &[Tensor], rows: &[usize]) -> Result<Vec<Vec<Tensor>>, Fault> {
    let total: usize = rows.iter().sum();
    let torn = |output: &Tensor| {
        Fault::new(Code::ModelFailed, format!("the model's output `{}` has not one row for each that went in", output.name))
    };
    for output in outputs {
        let all = output.shape.first().and_then(|first| usize::try_from(*first).ok());
        if all != Some(total) || !output.data.len().is_multiple_of(total.max(1)) {
            return Err(torn(output));
        }
    }
    let mut from = 0;
    Ok(rows
        .iter()
        .map(|count| {
            let part = outputs.iter().map(|output| part(output, from, *count, total)).collect();
            from += count;
            part
        })
        .collect())
}

/// The model's own name for rows.
fn symbol(spec: &TensorSpec) -> Option<&str> {
    spec.shape.first().and_then(Axis::symbol)
}

fn check(spec: &TensorSpec) -> Result<(), &'static str> {
    match spec.shape.first() {
        None => Err("is a scalar, which has no rows"),
        Some(Axis::Fixed(_)) => Err("has a fixed number of rows"),
        Some(Axis::Sizes { .. }) => Err("has rows in certain numbers only"),
        Some(Axis::Dynamic { .. }) if spec.dtype.size().is_none() => Err("holds byte strings, whose rows differ in length"),
        Some(Axis::Dynamic { .. }) => Ok(()),
    }
}

fn join(name: &str, calls: &[Vec<Tensor>], sizes: &[Sizes], padding: &Padding, lender: &dyn Lender) -> Result<Tensor, Fault> {
    let missing = || Fault::new(Code::Internal, format!("tensor `{name}` is missing from a batch"));
    let find = |inputs: &'_ [Tensor]| inputs.iter().position(|tensor| tensor.name == name).ok_or_else(missing);
    let part = |(inputs, sizes)| find(inputs).map(|at| (&inputs[at], sizes));
    let parts: Vec<(&Tensor, &Sizes)> = calls.iter().map(Vec::as_slice).zip(sizes).map(part).collect::<Result<_, _>>()?;
    let (first, _) = parts.first().ok_or_else(missing)?;
    let mut buffer = padding.lend(&parts, lender)?;
    let (mut rows, mut shape) = (0, Vec::new());
    for (part, sizes) in &parts {
        shape = padding.write(part, sizes, &mut buffer)?;
        rows += shape.first().unwrap_or(&0);
    }
    shape.iter_mut().take(1).for_each(|first| *first = rows);
    Ok(Tensor { name: name.to_owned(), dtype: first.dtype, shape, data: buffer.freeze() })
}

fn part(output: &Tensor, from: usize, count: usize, total: usize) -> Tensor {
    let row = output.data.len() / total;
    let shape = std::iter::once(count as i64).chain(output.shape.iter().skip(1).copied()).collect();
    let data = output.data.slice(from * row..(from + count) * row);
    Tensor { name: output.name.clone(), dtype: output.dtype, shape, data }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sandmill_domain::Dtype;

    use super::*;
    use crate::pool::Pool;

    fn tensor(name: &str, shape: &[i64], data: &[u8]) -> Tensor {
        Tensor { name: name.into(), dtype: Dtype::Uint8, shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
    }

    fn spec(name: &str, dtype: Dtype, shape: &[Option<i64>]) -> TensorSpec {
        let axis = |size: &Option<i64>| size.map_or(Axis::Dynamic { symbol: None, max: 9 }, Axis::Fixed);
        TensorSpec { name: name.into(), dtype, shape: shape.iter().map(axis).collect() }
    }

    fn rows(names: &[&str]) -> Rows {
        let inputs = names.iter().map(|name| spec(name, Dtype::Uint8, &[None, None])).collect();
        Rows::of(&Signature { inputs, outputs: vec![spec("y", Dtype::Fp32, &[None])] }).unwrap()
    }

    #[test]
    fn models_without_rows_are_told_why() {
        let why =
            |input: TensorSpec, output: TensorSpec| Rows::of(&Signature { inputs: vec![input], outputs: vec![output] }).err();
        let good = || spec("x", Dtype::Fp32, &[None, Some(3)]);
        assert_eq!(why(good(), good()), None);
        assert_eq!(why(spec("sr", Dtype::Int64, &[]), good()).unwrap(), "input `sr` is a scalar, which has no rows");
        assert_eq!(why(good(), spec("y", Dtype::Fp32, &[Some(1)])).unwrap(), "output `y` has a fixed number of rows");
        let of = |name: &str, symbol: &str| {
            let shape = vec![Axis::Dynamic { symbol: Some(symbol.into()), max: 9 }];
            TensorSpec { name: name.into(), dtype: Dtype::Fp32, shape }
        };
        let graph = Signature { inputs: vec![of("nodes", "n"), of("edges", "e")], outputs: vec![of("y", "n")] };
        assert_eq!(Rows::of(&graph).err().unwrap(), "the rows of input `nodes` are `n` and those of `edges` are `e`");
        let strings = spec("s", Dtype::Bytes, &[None]);
        assert_eq!(why(strings, good()).unwrap(), "input `s` holds byte strings, whose rows differ in length");
    }

    #[test]
    fn what_went_in_row_by_row_comes_out_row_by_row() {
        let (rows, none) = (rows(&["a", "b"]), Padding::default());
        // In any order.
        let one = vec![tensor("b", &[1, 1], &[9]), tensor("a", &[1, 2], &[1, 2])];
        let two = vec![tensor("a", &[2, 2], &[3, 4, 5, 6]), tensor("b", &[2, 1], &[8, 7])];
        assert_eq!(rows.count(&one, &none), Some((1, vec![2, 1])));
        assert_eq!(rows.count(&two, &none), Some((2, vec![2, 1])));
        let joined = rows.join(&[one, two], &none, &Pool::new(1 << 20, 0)).unwrap();
        assert_eq!(joined, [tensor("a", &[3, 2], &[1, 2, 3, 4, 5, 6]), tensor("b", &[3, 1], &[9, 8, 7])]);
        let parts = split(&joined, &[1, 2]).unwrap();
        assert_eq!(parts[0], [tensor("a", &[1, 2], &[1, 2]), tensor("b", &[1, 1], &[9])]);
        assert_eq!(parts[1], [tensor("a", &[2, 2], &[3, 4, 5, 6]), tensor("b", &[2, 1], &[8, 7])]);
    }

    #[test]
    fn rows_that_do_not_agree_are_no_rows() {
        let (rows, none) = (rows(&["a", "b"]), Padding::default());
        let both = |a: &[i64], b: &[i64]| rows.count(&[tensor("a", a, &[]), tensor("b", b, &[])], &none);
        assert_eq!(both(&[2, 1], &[3, 1]), None);
        assert_eq!(both(&[0, 1], &[0, 1]), None);
        assert_eq!(both(&[], &[]), None);
        assert_eq!(rows.count(&[tensor("a", &[1, 1], &[])], &none), None);
    }

    #[test]
    fn outputs_without_a_row_for_each_are_not_split() {
        for shape in [&[2_i64][..], &[], &[4]] {
            let fault = split(&[tensor("y", shape, &[1, 2])], &[1, 2]).unwrap_err();
            assert_eq!(fault.code, Code::ModelFailed, "{shape:?}");
        }
    }
}
