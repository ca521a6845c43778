//! Says which release answered, once by what preprocessing sent through the model and once by what postprocessing knows itself: an
//! answer of two releases would be seen.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

use sandmill_plugin::{Error, Request, RequestHead, Response, Tensor, config};

fn release() -> Result<f32, Error> {
    let text = config::get("release").ok_or_else(|| Error::internal("no setting `release`"))?;
    text.parse().map_err(Error::internal)
}

/// To `x`, `[1] f32`.
fn preprocess(_: Request) -> Result<Tensor, Error> {
    Tensor::f32("x", [1], [release()?])
}

/// From `y`, `[1] f32`, which is `-x`.
fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
    let before = -Tensor::find(&outputs, "y")?.as_f32()?.first().copied().unwrap_or_default();
    Ok(Response::text(format!("{before} {}", release()?)))
}

sandmill_plugin::export!(preprocess = preprocess, postprocess = postprocess);
