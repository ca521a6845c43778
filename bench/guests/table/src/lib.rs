//! Builds a table of 30,000 words once and looks one up in each request: what heavy start-up work costs a request.

#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

use std::collections::HashMap;
use std::sync::OnceLock;

use sandmill_plugin::{Dtype, Error, Init, Request, Tensor};

static TABLE: OnceLock<HashMap<String, u32>> = OnceLock::new();

#[allow(clippy::unnecessary_wraps, reason = "the shape of an init")]
fn init(_: Init) -> Result<(), String> {
    TABLE.get_or_init(|| (0..30_000).map(|number| (format!("word-{number}"), number)).collect());
    Ok(())
}

fn preprocess(request: Request) -> Result<Tensor, Error> {
    let table = TABLE.get().ok_or_else(|| Error::internal("init has not run"))?;
    let word = format!("word-{}", request.body.len());
    let number = table.get(&word).copied().ok_or_else(|| Error::not_found(word))?;
    Tensor::raw("x", Dtype::Uint8, [4], number.to_le_bytes().to_vec())
}

sandmill_plugin::export!(init = init, preprocess = preprocess);
