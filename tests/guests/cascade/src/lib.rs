//! A handler over two models, `first` and `second`: runs the first alone, then both side by side, and asks for one that is not
//! there. Answers with what each said.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

use sandmill_plugin::models::{self, Call};
use sandmill_plugin::{Error, Request, Response, Tensor, model};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    x: Vec<f32>,
}

#[derive(Serialize)]
struct Output {
    models: Vec<String>,
    alone: i64,
    both: Vec<i64>,
    refused: String,
    misfit: String,
}

fn handle(request: Request) -> Result<Response, Error> {
    let Input { x } = request.json()?;
    let inputs = [Tensor::f32("X", [1, 64], &x)?];
    let alone = label(models::infer("first", &inputs)?)?;
    let calls = [Call { model: "first", inputs: &inputs }, Call { model: "second", inputs: &inputs }];
    let both: Result<Vec<i64>, Error> = models::infer_many(&calls).into_iter().map(|outputs| label(outputs?)).collect();
    let refused = models::infer("third", &inputs).map_err(|error| error.to_string()).err().unwrap_or_default();
    let misfit = models::infer("first", &[Tensor::f32("Y", [1, 64], x)?]).map_err(|error| error.to_string());
    let misfit = misfit.err().unwrap_or_default();
    Response::json(&Output { models: model::names(), alone, both: both?, refused, misfit })
}

fn label(outputs: Vec<Tensor>) -> Result<i64, Error> {
    let labels = Tensor::find(&outputs, "label")?.as_i64()?.into_owned();
    labels.first().copied().ok_or_else(|| Error::internal("the model gave no label"))
}

sandmill_plugin::export!(handler = handle);
