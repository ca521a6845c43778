//! Runs the function's model on the request's body and answers with how much came back: what the import costs.

use sandmill_plugin::{Dtype, Error, Request, Response, Tensor, models};

fn handle(request: Request) -> Result<Response, Error> {
    let length = request.body.len();
    let outputs = models::infer("model", &[Tensor::raw("x", Dtype::Uint8, [length], request.body)?])?;
    Response::json(&outputs.len())
}

sandmill_plugin::export!(handler = handle);
