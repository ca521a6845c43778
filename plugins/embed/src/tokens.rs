//! From texts to the model's integers: BERT's tokenizer as the asset describes it, but for truncation and padding, which are
//! ours. Knows nothing of requests or vectors.

use std::borrow::Cow;
use std::iter::repeat_n;

use sandmill_plugin::{Error, Tensor};
use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Encoding, TokenizerImpl, TruncationParams};

/// What the model was trained to take at most, with the two tokens that frame a text.
pub(crate) const TOKENS_MAX: usize = 256;

/// How many tokens of a text's beginning tell that its first [`TOKENS_MAX`] are those of the whole text. Where a beginning
/// ends, a word may be torn, or one of the special tokens: BERT gives a word 100 tokens at most, and a torn `[MASK` two.
const CERTAIN: usize = TOKENS_MAX + 104;

/// The first beginning that is tried. In English it has 450 tokens, more than are wanted.
const BEGINNING_BYTES: usize = 2048;

/// The token that fills rows.
const PAD: i64 = 0;

/// The parts by their types, not by `tokenizers`' wrappers of all that there are: that is a third less code.
type Parts = TokenizerImpl<WordPiece, BertNormalizer, BertPreTokenizer, TemplateProcessing, Decoder>;

/// Gives each text its tokens.
pub(crate) struct Tokenizer(Parts);

/// The tokens of the texts of one request.
pub(crate) struct Batch {
    /// Those of all texts, one after the other.
    ids: Vec<u32>,
    /// How many each text has; at least one text.
    pub(crate) lengths: Vec<usize>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. The truncation and the padding that it asks for do not count: its padding to a fixed length
    /// would have the model work for nothing.
    ///
    /// # Errors
    /// If it is none, or not one of BERT's kind.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        let read = |error| format!("tokenizer.json is not one that this plugin can use: {error}");
        let mut parts = Parts::from_bytes(json).map_err(read)?;
        parts.with_padding(None);
        parts.with_truncation(Some(TruncationParams { max_length: CERTAIN, ..TruncationParams::default() })).map_err(read)?;
        Ok(Self(parts))
    }

    /// The tokens of each text, framed, and cut after [`TOKENS_MAX`].
    ///
    /// # Errors
    /// [`Error::internal`] if the tokenizer fails, which takes a vocabulary without `[UNK]`.
    pub(crate) fn encode(&self, texts: &[Cow<'_, str>]) -> Result<Batch, Error> {
        let mut batch = Batch { ids: Vec::new(), lengths: Vec::with_capacity(texts.len()) };
        for text in texts {
            batch.push(self.beginning(text).map_err(Error::internal)?.get_ids());
        }
        Ok(batch)
    }

    /// The tokens of a text, or more than [`TOKENS_MAX`] of them. The tokenizer takes some 50 bytes of memory for each of the
    /// text and up to 400 for each token, so it is not shown more than it takes.
    fn beginning(&self, text: &str) -> tokenizers::Result<Encoding> {
        let mut bytes = BEGINNING_BYTES;
        loop {
            let beginning = &text[..text.floor_char_boundary(bytes)];
            // Fast: without the places of the tokens in the text.
            let encoding = self.0.encode_fast(beginning, true)?;
            if encoding.len() >= CERTAIN || beginning.len() == text.len() {
                return Ok(encoding);
            }
            bytes *= 2;
        }
    }
}

impl Batch {
    /// Adds a text's tokens, of which the last one closes the frame.
    fn push(&mut self, ids: &[u32]) {
        let kept = ids.len().min(TOKENS_MAX);
        self.ids.extend_from_slice(&ids[..kept]);
        if let (true, Some(frame), Some(last)) = (kept < ids.len(), ids.last(), self.ids.last_mut()) {
            *last = *frame;
        }
        self.lengths.push(kept);
    }

    /// The model's inputs, `[texts, longest] i64` each: tokens, 1 for each token and 0 for each padding, and zeros, as all
    /// texts are first of their pairs.
    ///
    /// # Errors
    /// Never: the shapes are of the rows' own making.
    pub(crate) fn tensors(&self) -> Result<[Tensor; 3], Error> {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let shape = [self.lengths.len(), longest];
        let mut rest = self.ids.as_slice();
        let ids = self.lengths.iter().flat_map(|&length| {
            let (row, after) = rest.split_at(length);
            rest = after;
            row.iter().map(|&id| i64::from(id)).chain(repeat_n(PAD, longest - length))
        });
        let mask = self.lengths.iter().flat_map(|&length| repeat_n(1_i64, length).chain(repeat_n(0, longest - length)));
        Ok([
            Tensor::collect("input_ids", shape, ids)?,
            Tensor::collect("attention_mask", shape, mask)?,
            Tensor::collect("token_type_ids", shape, repeat_n(0_i64, shape[0] * longest))?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tokenizer_json;

    /// The tokens of the whole text, cut by `tokenizers` itself.
    fn whole(parts: &mut Parts, text: &str) -> Vec<u32> {
        parts.with_truncation(Some(TruncationParams { max_length: TOKENS_MAX, ..TruncationParams::default() })).unwrap();
        parts.encode_fast(text, true).unwrap().get_ids().to_vec()
    }

    #[test]
    fn the_beginning_of_a_long_text_is_enough() {
        let tokenizer = Tokenizer::read(&tokenizer_json()).unwrap();
        let mut reference = Parts::from_bytes(tokenizer_json()).unwrap();
        reference.with_padding(None);
        let words = "Grüße, 世界! [SEP] don't [MASK] ".repeat(300);
        let mut texts = vec![words.clone(), "x".repeat(20_000), ".".repeat(20_000), "字".repeat(9000), "e\u{301}".repeat(9000)];
        // A word across where the first beginning ends, with too few tokens before it, just enough, and in between.
        for spaces in (1000..2100).step_by(113) {
            texts.push([&" ".repeat(spaces), &"ab".repeat(50), " ", words.as_str()].concat());
            texts.push([&".".repeat(200), &" ".repeat(spaces - 200), &"ab".repeat(51), "[CLS]", words.as_str()].concat());
            texts.push(["é.".repeat(120), "\u{200b}".repeat(spaces / 3), "q".repeat(140), "Σ ".repeat(2000)].concat());
        }
        for text in texts {
            let batch = tokenizer.encode(&[text.as_str().into()]).unwrap();
            let expected = whole(&mut reference, &text);
            assert_eq!((batch.lengths, batch.ids), (vec![expected.len()], expected), "{:?}", text.get(..300));
        }
    }
}
