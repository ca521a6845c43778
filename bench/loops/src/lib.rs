//! The bad neighbour of the benches: a plugin that never answers, so that the host has to end it.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

use sandmill_plugin::{Error, Request, Response};

fn preprocess(request: Request) -> Result<Response, Error> {
    loop {
        std::hint::black_box(&request);
    }
}

sandmill_plugin::export!(preprocess = preprocess);
