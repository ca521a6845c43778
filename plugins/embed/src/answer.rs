//! Vectors in the shape of OpenAI's embeddings API. Only the form: no number changes here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandmill_plugin::{Error, Response};
use serde::Serialize;

use crate::input::Format;
use crate::pool::Vector;

const MODEL: &str = "all-MiniLM-L6-v2";

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'static str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Embedding<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding<'a> {
    /// In the fewest digits that read back as the same f32.
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// 200 with the vectors in their order; `tokens` is how many the model was given, without padding.
///
/// # Errors
/// Never: all of it has a form in JSON.
pub(crate) fn response(vectors: &[Vector], format: Format, tokens: usize) -> Result<Response, Error> {
    let item = |(index, vector)| Item { object: "embedding", index, embedding: Embedding::of(vector, format) };
    Response::json(&Answer {
        object: "list",
        data: vectors.iter().enumerate().map(item).collect(),
        model: MODEL,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    })
}

impl<'a> Embedding<'a> {
    fn of(vector: &'a Vector, format: Format) -> Self {
        match format {
            Format::Float => Self::Float(vector),
            Format::Base64 => Self::Base64(STANDARD.encode(vector.map(f32::to_le_bytes).as_flattened())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::DIMENSIONS;

    fn text(format: Format) -> String {
        let mut vector = [0.0; DIMENSIONS];
        vector[..3].copy_from_slice(&[0.1, -1.0, 1.5e-8]);
        String::from_utf8(response(&[vector, vector], format, 7).unwrap().body).unwrap()
    }

    #[test]
    fn the_answer_reads_like_this() {
        let floats = format!("[0.1,-1.0,1.5e-8{}]", ",0.0".repeat(DIMENSIONS - 3));
        let expected = format!(
            concat!(
                r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":{0}}},"#,
                r#"{{"object":"embedding","index":1,"embedding":{0}}}],"#,
                r#""model":"all-MiniLM-L6-v2","usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#
            ),
            floats
        );
        assert_eq!(text(Format::Float), expected);
    }

    #[test]
    fn base64_holds_the_numbers_bytes() {
        // `base64.b64encode(struct.pack("<3f", .1, -1, 1.5e-8) + bytes(381 * 4))` of Python.
        let expected = format!(r#""embedding":"zczMPQAAgL9Z2YAy{}"}}"#, "A".repeat(381 * 4 / 3 * 4));
        assert!(text(Format::Base64).contains(&expected), "{}", text(Format::Base64));
    }
}
