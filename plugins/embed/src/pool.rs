//! From a vector per token to one per text, as sentence-transformers does it: the mean, brought to length 1. Knows nothing of
//! tokens but their number.

use sandmill_plugin::{Error, Tensor};

/// The length of the model's vectors.
pub(crate) const DIMENSIONS: usize = 384;

/// One text's.
pub(crate) type Vector = [f32; DIMENSIONS];

/// Below this a norm is taken for zero, as in PyTorch's `normalize`.
const NORM_MIN: f32 = 1e-12;

/// The vectors of all texts, of `[texts, longest, 384] f32`: the mean over each text's first `lengths` tokens, divided by its
/// Euclidean norm.
///
/// # Errors
/// [`Error::internal`] if the tensor has another shape or type, or a text has more tokens than it.
pub(crate) fn mean(hidden: &Tensor, lengths: &[usize]) -> Result<Vec<Vector>, Error> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let wanted = [lengths.len() as u64, longest as u64, DIMENSIONS as u64];
    if hidden.shape != wanted {
        return Err(Error::internal(format_args!("the model gave the shape {:?}, not {wanted:?}", hidden.shape)));
    }
    let values = hidden.as_f32()?;
    let (tokens, _) = values.as_chunks::<DIMENSIONS>();
    Ok(tokens.chunks(longest.max(1)).zip(lengths).map(|(row, &length)| normalized(sum(&row[..length]))).collect())
}

// The mean's own division falls out of the norm.
fn sum(tokens: &[Vector]) -> Vector {
    let mut sum = [0.0; DIMENSIONS];
    for token in tokens {
        for (sum, value) in sum.iter_mut().zip(token) {
            *sum += value;
        }
    }
    sum
}

fn normalized(mut vector: Vector) -> Vector {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(NORM_MIN);
    for value in &mut vector {
        *value /= norm;
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of which all but the first two numbers are zero.
    fn hidden(shape: [usize; 2], tokens: &[[f32; 2]]) -> Tensor {
        let rows = tokens.iter().flat_map(|token| {
            let mut row = [0.0; DIMENSIONS];
            row[..2].copy_from_slice(token);
            row
        });
        Tensor::collect("last_hidden_state", [shape[0], shape[1], DIMENSIONS], rows).unwrap()
    }

    fn heads(vectors: &[Vector]) -> Vec<[f32; 2]> {
        vectors.iter().map(|vector| *vector.first_chunk().unwrap()).collect()
    }

    #[test]
    fn padding_does_not_count() {
        let hidden = hidden([2, 3], &[[1.0, 0.0], [5.0, 8.0], [0.0, -16.0], [0.0, 2.0], [f32::NAN, 1.0], [9.0, 9.0]]);
        assert_eq!(heads(&mean(&hidden, &[3, 1]).unwrap()), [[0.6, -0.8], [0.0, 1.0]]);
    }

    #[test]
    fn a_mean_is_brought_to_length_one() {
        assert_eq!(heads(&mean(&hidden([1, 2], &[[1.0, 0.0], [5.0, 8.0]]), &[2]).unwrap()), [[0.6, 0.8]]);
        assert_eq!(heads(&mean(&hidden([1, 1], &[[0.0, 0.0]]), &[1]).unwrap()), [[0.0, 0.0]]);
    }

    #[test]
    fn another_shape_is_the_models_fault() {
        let error = mean(&hidden([1, 2], &[[1.0, 0.0], [0.0, 1.0]]), &[2, 1]).unwrap_err();
        assert_eq!(error, Error::internal("the model gave the shape [1, 2, 384], not [2, 2, 384]"));
    }
}
