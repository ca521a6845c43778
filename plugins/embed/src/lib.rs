//! Text to vectors in the shape of OpenAI's embeddings API: tokenizer, mean and norm of sentence-transformers around a model
//! from `input_ids`, `attention_mask` and `token_type_ids` to `last_hidden_state`. `init` builds the tokenizer, which every
//! request then starts from; `preprocess` leaves what `postprocess` must know of the request.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]

mod answer;
mod input;
mod pool;
#[cfg(target_family = "wasm")]
mod random;
mod tokens;

use std::cell::Cell;
use std::sync::OnceLock;

use sandmill_plugin::{Error, Init, Request, RequestHead, Response, Tensor};

use crate::input::{Format, Input};
use crate::tokens::Tokenizer;

static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();

thread_local! {
    /// The request between its two sides, which are of one instance.
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
}

/// What the model's outputs do not tell.
struct Asked {
    format: Format,
    /// How many tokens each text has: the rest of its row is padding.
    lengths: Vec<usize>,
}

/// Reads the asset `tokenizer.json`.
fn init(start: Init) -> Result<(), String> {
    let tokenizer = Tokenizer::read(start.asset("tokenizer.json")?)?;
    TOKENIZER.get_or_init(|| tokenizer);
    Ok(())
}

/// To `input_ids`, `attention_mask` and `token_type_ids`, all `[texts, longest] i64`.
fn preprocess(request: Request) -> Result<[Tensor; 3], Error> {
    let input = Input::read(&request)?;
    let tokenizer = TOKENIZER.get().ok_or_else(|| Error::internal("there is no tokenizer: `init` did not run"))?;
    let batch = tokenizer.encode(&input.texts)?;
    let tensors = batch.tensors()?;
    ASKED.set(Some(Asked { format: input.format, lengths: batch.lengths }));
    Ok(tensors)
}

/// From `last_hidden_state`, `[texts, longest, 384] f32`.
fn postprocess(_: RequestHead, outputs: Vec<Tensor>) -> Result<Response, Error> {
    let Asked { format, lengths } = ASKED.take().ok_or_else(|| Error::internal("postprocess without its preprocess"))?;
    let vectors = pool::mean(Tensor::find(&outputs, "last_hidden_state")?, &lengths)?;
    answer::response(&vectors, format, lengths.iter().sum())
}

sandmill_plugin::export!(init = init, preprocess = preprocess, postprocess = postprocess);

#[cfg(test)]
mod tests;
