//! What the client asks for, and all that can be wrong with it. Knows JSON and the model's bounds, nothing of tokens.

use std::borrow::Cow;
use std::fmt;

use sandmill_plugin::model::{self, Axis};
use sandmill_plugin::{Error, Request};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::pool::DIMENSIONS;

/// A request that can be answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Input<'a> {
    /// At least one and at most what the model takes at once; none is empty.
    pub(crate) texts: Vec<Cow<'a, str>>,
    pub(crate) format: Format,
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// A list of numbers.
    #[default]
    Float,
    /// The numbers as little-endian f32, in base64: what OpenAI's own client asks for.
    Base64,
}

/// The body as it comes. What else may be in it changes nothing: `model` names one that is not chosen here, `user` nobody.
#[derive(Deserialize)]
#[serde(expecting = "an object with `input`")]
struct Body<'a> {
    #[serde(borrow)]
    input: Texts<'a>,
    encoding_format: Option<Format>,
    dimensions: Option<u64>,
}

struct Texts<'a>(Vec<Cow<'a, str>>);

impl<'a> Input<'a> {
    /// Reads the body, whatever its media type.
    ///
    /// # Errors
    /// [`Error::invalid_input`] that says what is wrong.
    pub(crate) fn read(request: &'a Request) -> Result<Self, Error> {
        let Body { input: Texts(texts), encoding_format, dimensions } = request.json()?;
        check_texts(&texts)?;
        if dimensions.is_some_and(|dimensions| dimensions != DIMENSIONS as u64) {
            return Err(Error::invalid_input(format_args!("`dimensions` can only be {DIMENSIONS}")));
        }
        Ok(Self { texts, format: encoding_format.unwrap_or_default() })
    }
}

fn check_texts(texts: &[Cow<'_, str>]) -> Result<(), Error> {
    if let Some(empty) = texts.iter().position(|text| text.is_empty()) {
        return Err(Error::invalid_input(match texts.len() {
            1 => "`input` is an empty text".into(),
            _ => format!("text {empty} of `input`, counted from 0, is empty"),
        }));
    }
    match texts.len() {
        0 => Err(Error::invalid_input("`input` is an empty list")),
        // One text always fits, so that the host need not be asked.
        1 => Ok(()),
        count => match texts_max() {
            Some(max) if count as u64 > max => {
                Err(Error::invalid_input(format_args!("`input` has {count} texts; at most {max} go at once")))
            }
            _ => Ok(()),
        },
    }
}

/// The bound of the model's first axis; none if it has no such bound.
fn texts_max() -> Option<u64> {
    let signature = model::signature()?;
    match signature.inputs.first()?.shape.first()? {
        Axis::Dynamic(bound) => Some(*bound),
        Axis::Fixed(_) => None,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

/// By hand, for its messages: those of an untagged enum say that nothing matched, and no more.
struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Texts(vec![text.into()]))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Texts(vec![text.to_owned().into()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(Text(text)) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// An element of the list.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text (lists of tokens are not supported)")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(text.to_owned().into()))
    }
}

#[cfg(test)]
mod tests {
    use sandmill_plugin::Dtype;
    use sandmill_plugin::model::{ModelSignature, TensorSpec};
    use sandmill_plugin::testing::{Host, request};

    use super::*;

    fn refusal(body: &str) -> String {
        Input::read(&request(body)).expect_err(body).message
    }

    #[test]
    fn a_text_or_a_list_of_texts_will_do() {
        let one = request(r#"{"input":"hi","model":"text-embedding-3-small","user":"u","encoding_format":null}"#);
        assert_eq!(Input::read(&one), Ok(Input { texts: vec!["hi".into()], format: Format::Float }));
        let two = request(r#"{"model":7,"dimensions":384,"encoding_format":"base64","input":["a\n"," "]}"#);
        assert_eq!(Input::read(&two), Ok(Input { texts: vec!["a\n".into(), " ".into()], format: Format::Base64 }));
    }

    #[test]
    fn texts_are_borrowed_unless_they_hold_escapes() {
        let body = request(r#"{"input":["plain","\u00e9"]}"#);
        let texts = Input::read(&body).unwrap().texts;
        assert!(matches!(texts[..], [Cow::Borrowed("plain"), Cow::Owned(ref text)] if text == "é"));
    }

    #[test]
    fn bad_input_is_refused_in_words() {
        let wanted = "the body is not the JSON that is expected: ";
        let list = "expected a text (lists of tokens are not supported)";
        let cases = [
            (r#"{"input":""}"#, "`input` is an empty text".into()),
            (r#"{"input":[]}"#, "`input` is an empty list".into()),
            (r#"{"input":["a",""]}"#, "text 1 of `input`, counted from 0, is empty".into()),
            (r#"{"input":"a","dimensions":256}"#, "`dimensions` can only be 384".into()),
            ("", format!("{wanted}EOF while parsing a value at line 1 column 0")),
            ("hello", format!("{wanted}expected value at line 1 column 1")),
            ("[]", format!("{wanted}invalid length 0, expected an object with `input` at line 1 column 2")),
            ("7", format!("{wanted}invalid type: integer `7`, expected an object with `input` at line 1 column 1")),
            ("{}", format!("{wanted}missing field `input` at line 1 column 2")),
            (
                r#"{"input":5}"#,
                format!("{wanted}invalid type: integer `5`, expected a text or a list of texts at line 1 column 10"),
            ),
            (r#"{"input":null}"#, format!("{wanted}invalid type: null, expected a text or a list of texts at line 1 column 13")),
            (r#"{"input":[1,2]}"#, format!("{wanted}invalid type: integer `1`, {list} at line 1 column 11")),
            (r#"{"input":[[1]]}"#, format!("{wanted}invalid type: sequence, {list} at line 1 column 10")),
            (
                r#"{"input":"a","encoding_format":"hex"}"#,
                format!("{wanted}unknown variant `hex`, expected `float` or `base64` at line 1 column 36"),
            ),
            (r#"{"input":"\ud800"}"#, format!("{wanted}unexpected end of hex escape at line 1 column 17")),
        ];
        for (body, expected) in cases {
            assert_eq!(refusal(body), expected, "{body}");
        }
    }

    #[test]
    fn no_more_texts_than_the_model_takes_at_once() {
        let spec =
            TensorSpec { name: "input_ids".into(), dtype: Dtype::Int64, shape: vec![Axis::Dynamic(2), Axis::Dynamic(256)] };
        let host = Host::default().model("minilm", ModelSignature { inputs: vec![spec], outputs: vec![] }, &[]);
        let (refused, _) = host.run(|| {
            Input::read(&request(r#"{"input":["a","b"]}"#)).unwrap();
            refusal(r#"{"input":["a","b","c"]}"#)
        });
        assert_eq!(refused, "`input` has 3 texts; at most 2 go at once");
    }
}
