//! Handwritten digits: `{"x":[64 numbers]}` to `{"label":2,"p":[10 probabilities]}`, around a model from `X` to `label` and
//! `probabilities`. Knows JSON and shapes, nothing of digits.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

use sandmill_plugin::{Error, Request, RequestHead, Response, Tensor};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    x: Vec<f32>,
}

#[derive(Serialize)]
struct Output {
    label: i64,
    // As f64, whose digits are those that Python prints of an f32.
    p: Vec<f64>,
}

/// To `X`, `[1, 64] f32`.
fn preprocess(request: Request) -> Result<Tensor, Error> {
    let Input { x } = request.json()?;
    if x.len() != 64 {
        return Err(Error::invalid_input(format_args!("`x` must be 64 numbers, not {}", x.len())));
    }
    Tensor::f32("X", [1, 64], x)
}

/// From `label`, `[1] i64`, and `probabilities`, `[1, 10] f32`.
fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
    let label = Tensor::find(&outputs, "label")?.as_i64()?;
    let p = Tensor::find(&outputs, "probabilities")?.as_f32()?;
    let label = *label.first().ok_or_else(|| Error::internal("the model gave no label"))?;
    Response::json(&Output { label, p: p.iter().copied().map(f64::from).collect() })
}

sandmill_plugin::export!(preprocess = preprocess, postprocess = postprocess);

#[cfg(test)]
mod tests {
    use sandmill_plugin::testing::{head, request};

    use super::*;

    #[test]
    fn sixty_four_numbers_become_a_tensor() {
        let x: Vec<_> = (0..64_u8).collect();
        let tensor = preprocess(request(format!(r#"{{"x":{x:?}}}"#))).unwrap();
        assert_eq!((tensor.name.as_str(), tensor.shape.as_slice()), ("X", &[1, 64][..]));
        assert_eq!(tensor.as_f32().unwrap()[..3], [0.0, 1.0, 2.0]);
    }

    #[test]
    fn what_is_no_digit_is_refused_in_words() {
        let wanted = "the body is not the JSON that is expected: ";
        let cases = [
            (r#"{"x":[1,2]}"#, "`x` must be 64 numbers, not 2".into()),
            ("{}", format!("{wanted}missing field `x` at line 1 column 2")),
            (r#"{"x":["a"]}"#, format!("{wanted}invalid type: string \"a\", expected f32 at line 1 column 9")),
            ("", format!("{wanted}EOF while parsing a value at line 1 column 0")),
        ];
        for (body, expected) in cases {
            assert_eq!(preprocess(request(body)), Err(Error::invalid_input(expected)), "{body}");
        }
    }

    #[test]
    fn the_answer_names_label_and_probabilities() {
        let outputs =
            vec![Tensor::i64("label", [1], [2]).unwrap(), Tensor::f32("probabilities", [1, 2], [0.25, 0.999_998_7]).unwrap()];
        let response = postprocess(head(), outputs).unwrap();
        assert_eq!(String::from_utf8(response.body).unwrap(), r#"{"label":2,"p":[0.25,0.9999986886978149]}"#);
    }
}
