//! What type a file is, told by its content: Magika's pre- and postprocessing, around a model from `bytes` to
//! `target_label`. Knows the rules of the Python package magika 1.0.3, in its default mode, and nothing of files' names.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

mod features;
mod verdict;

use sandmill_plugin::{Error, Prepared, Request, RequestHead, Response, Tensor};

use crate::features::Features;
use crate::verdict::Verdict;

/// The body is the file. To `bytes`, `[1, 2048] i32`; what is empty or too short for the model is answered at once.
fn preprocess(request: Request) -> Result<Prepared, Error> {
    match features::extract(&request.body) {
        Features::Tokens(tokens) => Ok(Tensor::i32("bytes", [1, tokens.len()], tokens.as_slice())?.into()),
        Features::TooShort(content) => Ok(Response::json(&Verdict::without_model(content))?.into()),
    }
}

/// From `target_label`, `[1, 214] f32`, the probabilities of the classes.
fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
    Response::json(&Verdict::of_scores(&Tensor::find(&outputs, "target_label")?.as_f32()?)?)
}

sandmill_plugin::export!(preprocess = preprocess, postprocess = postprocess);

#[cfg(test)]
mod golden_tests;
