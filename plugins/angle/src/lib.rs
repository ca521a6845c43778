//! Raw little-endian float32 in and out, for a model from an image `x`, `[1, 3, 48, 192]`, to scores of its orientation.
//! Passes bytes on without looking at them.

use sandmill_plugin::{Dtype, Error, Request, RequestHead, Response, Tensor};

const SHAPE: [usize; 4] = [1, 3, 48, 192];
const LENGTH: usize = 3 * 48 * 192 * size_of::<f32>();

/// To `x`, `[1, 3, 48, 192] f32`: the body as it came.
fn preprocess(request: Request) -> Result<Tensor, Error> {
    if request.body.len() != LENGTH {
        let message = format!("the body must be {LENGTH} bytes, float32 of shape {SHAPE:?}, not {}", request.body.len());
        return Err(Error::invalid_input(message));
    }
    Tensor::raw("x", Dtype::Fp32, SHAPE, request.body)
}

/// From the model's only output, `f32`: its bytes.
fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
    let scores = Tensor::only(outputs)?;
    scores.as_f32()?;
    Ok(Response::bytes("application/octet-stream", scores.data))
}

sandmill_plugin::export!(preprocess = preprocess, postprocess = postprocess);

#[cfg(test)]
mod tests {
    use sandmill_plugin::testing::{head, request};

    use super::*;

    #[test]
    fn bytes_pass_through() {
        let tensor = preprocess(request(vec![7; 110_592])).unwrap();
        assert_eq!((tensor.name.as_str(), tensor.shape.as_slice(), tensor.data.len()), ("x", &[1, 3, 48, 192][..], 110_592));
        let scores = Tensor::f32("save_infer_model", [1, 2], [0.75, 0.25]).unwrap();
        let response = postprocess(head(), vec![scores.clone()]).unwrap();
        assert_eq!(response.body, scores.data);
    }

    #[test]
    fn a_wrong_length_is_refused_in_words() {
        let error = preprocess(request(vec![0; 110_591])).unwrap_err();
        assert_eq!(error.message, "the body must be 110592 bytes, float32 of shape [1, 3, 48, 192], not 110591");
    }

    #[test]
    fn scores_of_another_type_are_the_models_fault() {
        let error = postprocess(head(), vec![Tensor::i64("y", [1], [1]).unwrap()]).unwrap_err();
        assert_eq!(error.message, "tensor `y`: datatype INT64, but FP32 is asked for");
    }
}
