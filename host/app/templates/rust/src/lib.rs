//! Is it spam? `{"text": "…"}` to three figures for the model, and the model's score to `{"spam": …, "score": …}`.

use sandmill_plugin::{Error, Request, RequestHead, Response, Tensor};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    text: String,
}

#[derive(Serialize)]
struct Output {
    spam: bool,
    score: f32,
}

/// To `features`, `[1, 3] f32`.
fn preprocess(request: Request) -> Result<Tensor, Error> {
    let Input { text } = request.json()?;
    if text.is_empty() {
        return Err(Error::invalid_input("`text` is empty"));
    }
    Tensor::f32("features", [1, 3], features(&text))
}

/// The share of capitals among the letters, exclamation marks, links.
fn features(text: &str) -> [f32; 3] {
    let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
    let capitals = text.chars().filter(|letter| letter.is_uppercase()).count();
    let links = text.matches("http://").count() + text.matches("https://").count();
    [capitals as f32 / letters.max(1) as f32, text.matches('!').count() as f32, links as f32]
}

/// From `score`, `[1, 1] f32`.
fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
    let score = Tensor::find(&outputs, "score")?.as_f32()?[0];
    Response::json(&Output { spam: score > 0.5, score })
}

sandmill_plugin::export!(preprocess = preprocess, postprocess = postprocess);

#[cfg(test)]
mod tests {
    use sandmill_plugin::testing::{head, request};

    use super::*;

    #[test]
    fn a_text_becomes_three_figures() {
        let tensor = preprocess(request(r#"{"text": "Hi THERE! https://example.com"}"#)).unwrap();
        assert_eq!((tensor.name.as_str(), tensor.shape.as_slice()), ("features", &[1, 3][..]));
        assert_eq!(tensor.as_f32().unwrap()[..], [6.0 / 22.0, 1.0, 1.0]);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for body in ["", "{}", r#"{"text": ""}"#, r#"{"text": 7}"#] {
            assert!(preprocess(request(body)).is_err(), "{body}");
        }
    }

    #[test]
    fn a_score_becomes_an_answer() {
        let response = postprocess(head(), vec![Tensor::f32("score", [1, 1], [0.75]).unwrap()]).unwrap();
        assert_eq!(response.body, br#"{"spam":true,"score":0.75}"#);
    }
}
