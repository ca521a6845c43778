//! What `preprocess` gives: tensors for the model, or an answer at once. Only conversions, so that functions can return
//! what they have.

use crate::{Prepared, Response, Tensor};

impl From<Tensor> for Prepared {
    fn from(tensor: Tensor) -> Self {
        Self::Tensors(vec![tensor])
    }
}

impl From<Vec<Tensor>> for Prepared {
    fn from(tensors: Vec<Tensor>) -> Self {
        Self::Tensors(tensors)
    }
}

impl<const N: usize> From<[Tensor; N]> for Prepared {
    fn from(tensors: [Tensor; N]) -> Self {
        Self::Tensors(tensors.into())
    }
}

impl From<Response> for Prepared {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}
