//! Running the function's own models: for `handler` alone, since the contract has the host run the one model of the other
//! shapes. Tensors go to the host from where they lie, without a copy.

use std::fmt;

use crate::Tensor;
pub use crate::bindings::models::sandmill::plugin::models::ErrorKind;

#[cfg(not(target_family = "wasm"))]
use crate::testing as host;

/// One run of one model.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// A name among [`model::names`](crate::model::names).
    pub model: &'a str,
    /// In any order.
    pub inputs: &'a [Tensor],
}

/// Why a model gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is, for handlers that can do without the model.
    pub kind: ErrorKind,
    /// In words; may name the model's innards, so it is not meant for the client.
    pub message: String,
}

/// Runs a model: its outputs, in the order of its signature. `inputs` may come in any order.
///
/// # Errors
/// [`Error`], which `?` turns into [`crate::Error::internal`].
pub fn infer(model: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    host::infer(Call { model, inputs })
}

/// Runs that do not depend on each other, side by side if the host has room: one result each, in order.
pub fn infer_many(calls: &[Call<'_>]) -> Vec<Result<Vec<Tensor>, Error>> {
    host::infer_many(calls)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Internal whatever the kind: a client who sends what the plugin's checks let through is not to blame.
impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::internal(error)
    }
}

/// Between the author's types and those that are lowered to the host.
#[cfg(target_family = "wasm")]
mod host {
    use super::{Call, Error};
    use crate::Tensor;
    use crate::bindings::models::sandmill::plugin::models::{self, Call as Lowered};
    use crate::bindings::models::sandmill::plugin::types::{TensorParam, TensorResult};

    pub(super) fn infer(call: Call<'_>) -> Result<Vec<Tensor>, Error> {
        let inputs = views(call.inputs);
        models::infer(Lowered { model: call.model, inputs: &inputs }).map(owned)
    }

    pub(super) fn infer_many(calls: &[Call<'_>]) -> Vec<Result<Vec<Tensor>, Error>> {
        let inputs: Vec<_> = calls.iter().map(|call| views(call.inputs)).collect();
        let lowered: Vec<_> = calls.iter().zip(&inputs).map(|(call, inputs)| Lowered { model: call.model, inputs }).collect();
        models::infer_many(&lowered).into_iter().map(|result| result.map(owned)).collect()
    }

    fn views(tensors: &[Tensor]) -> Vec<TensorParam<'_>> {
        let mut views = Vec::with_capacity(tensors.len());
        for Tensor { name, dtype, shape, data } in tensors {
            views.push(TensorParam { name, dtype: *dtype, shape, data });
        }
        views
    }

    /// Moves what the host gave: nothing is copied but pointers.
    fn owned(tensors: Vec<TensorResult>) -> Vec<Tensor> {
        tensors.into_iter().map(|TensorResult { name, dtype, shape, data }| Tensor { name, dtype, shape, data }).collect()
    }
}
