//! What a model takes and gives, as its file declares it, with a bound for each axis that varies. Knows nothing of running it.

use std::collections::{BTreeMap, BTreeSet};

use ort::session::Session;
use ort::value::{Outlet, ValueType};
use ort_sys::ONNXTensorElementDataType;
use sandmill_domain::{Axis, AxisRule, Dtype, Signature, TensorSpec};

use crate::load::LoadError;
use crate::raw;

/// The bounds of the axes that vary.
pub(crate) struct AxisBounds<'a> {
    /// Of a first axis, unless it is named below.
    pub(crate) batch_max: i64,
    /// Of any other.
    pub(crate) axis_max: i64,
    /// By the model's symbol, or `tensor[axis]` for an axis without one.
    pub(crate) named: &'a BTreeMap<String, AxisRule>,
}

/// Reads the signature of a loaded model.
pub(crate) fn read(session: &Session, bounds: &AxisBounds<'_>) -> Result<Signature, LoadError> {
    let inputs = session.inputs().iter().map(|input| Declared::read("input", input)).collect::<Result<Vec<_>, _>>()?;
    let outputs = session.outputs().iter().map(|output| Declared::read("output", output)).collect::<Result<Vec<_>, _>>()?;
    for (index, input) in inputs.iter().enumerate() {
        if !raw::input_has_rank(session, index).map_err(|error| LoadError::Model(error.to_string()))? {
            return Err(LoadError::NoRank { name: input.name.clone() });
        }
    }
    bound(&inputs, &outputs, bounds)
}

/// A tensor as the file declares it.
struct Declared {
    name: String,
    dtype: Dtype,
    axes: Vec<Size>,
}

/// The size of an axis as the file declares it.
enum Size {
    Fixed(i64),
    Symbol(String),
    Unknown,
}

impl Declared {
    fn read(side: &'static str, outlet: &Outlet) -> Result<Self, LoadError> {
        let name = outlet.name().to_owned();
        let refused = || LoadError::Unsupported { side, name: name.clone(), kind: outlet.dtype().to_string() };
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else { return Err(refused()) };
        let dtype = raw::dtype(ONNXTensorElementDataType::from(*ty) as i32).ok_or_else(refused)?;
        let axes = shape.iter().zip(dimension_symbols.iter()).map(|(size, symbol)| Size::read(*size, symbol)).collect();
        Ok(Self { name, dtype, axes })
    }

    fn spec(&self, vary: impl Fn(&str, usize, Option<&str>) -> Axis) -> TensorSpec {
        let axis = |(index, size): (usize, &Size)| match size {
            Size::Fixed(size) => Axis::Fixed(*size),
            Size::Symbol(symbol) => vary(&self.name, index, Some(symbol)),
            Size::Unknown => vary(&self.name, index, None),
        };
        TensorSpec { name: self.name.clone(), dtype: self.dtype, shape: self.axes.iter().enumerate().map(axis).collect() }
    }

    /// The names under which a bound can be given for its axes.
    fn axis_names(&self) -> impl Iterator<Item = String> {
        self.axes.iter().enumerate().filter_map(|(index, size)| match size {
            Size::Fixed(_) => None,
            Size::Symbol(symbol) => Some(symbol.clone()),
            Size::Unknown => Some(axis_name(&self.name, index)),
        })
    }
}

impl Size {
    fn read(size: i64, symbol: &str) -> Self {
        match (size, symbol) {
            (0.., _) => Self::Fixed(size),
            // Paddle's exporter calls every axis that it does not know `?`, and means no two to be equal.
            (_, "" | "?") => Self::Unknown,
            (_, symbol) => Self::Symbol(symbol.to_owned()),
        }
    }
}

/// How a rule names an axis without a symbol.
pub(crate) fn axis_name(tensor: &str, axis: usize) -> String {
    format!("{tensor}[{axis}]")
}

fn bound(inputs: &[Declared], outputs: &[Declared], bounds: &AxisBounds<'_>) -> Result<Signature, LoadError> {
    let known: BTreeSet<_> = inputs.iter().flat_map(Declared::axis_names).collect();
    if let Some(name) = bounds.named.keys().find(|name| !known.contains(*name)) {
        return Err(LoadError::Axis { name: name.clone(), known: known.into_iter().collect() });
    }
    // A symbol that names an input's batch is one wherever else it stands: one symbol has one bound.
    let batch_symbol = |tensor: &'_ Declared| match tensor.axes.first() {
        Some(Size::Symbol(symbol)) => Some(symbol.clone()),
        _ => None,
    };
    let batches: BTreeSet<_> = inputs.iter().filter_map(batch_symbol).collect();
    let vary = |tensor: &str, index: usize, symbol: Option<&str>| {
        let name = symbol.map_or_else(|| axis_name(tensor, index), str::to_owned);
        let is_batch = symbol.map_or(index == 0, |symbol| batches.contains(symbol));
        let default = if is_batch { bounds.batch_max } else { bounds.axis_max };
        let rule = bounds.named.get(&name);
        let symbol = symbol.map(str::to_owned);
        match rule.filter(|rule| rule.pad().is_none() && !rule.buckets().is_empty()) {
            Some(rule) => Axis::Sizes { symbol, sizes: rule.buckets().to_vec() },
            None => Axis::Dynamic { symbol, max: rule.map_or(default, AxisRule::max) },
        }
    };
    let specs = |tensors: &[Declared]| tensors.iter().map(|tensor| tensor.spec(vary)).collect();
    Ok(Signature { inputs: specs(inputs), outputs: specs(outputs) })
}
