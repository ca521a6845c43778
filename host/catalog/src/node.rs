//! A serde deserializer over a parsed document that says where a value was refused, in words for whoever wrote the document.
//!
//! It reads around the entries that were refused before, so that a document can be read again for its next error. The
//! `toml` crate's own would tell positions too, but not a missing key from a refused one.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

/// The entries that were refused, by the offset of their key, or of the value in an array.
pub(crate) type Refused = HashSet<usize>;

/// A value of the document.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a DeValue<'a>,
    pub(crate) offset: usize,
    pub(crate) refused: &'a Refused,
}

/// Why and where a value was refused.
#[derive(Debug, Error)]
#[error("{cause:?}")]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    /// The byte to point at; none if it is the value that the caller knows.
    pub(crate) offset: Option<usize>,
    /// The keys that lead there from the node that was read.
    pub(crate) path: Vec<String>,
    /// The entry to read around; none if it is the node itself that was refused.
    pub(crate) entry: Option<usize>,
}

#[derive(Debug)]
pub(crate) enum Cause {
    Said(String),
    Missing(&'static str),
    /// A key is missing because its value was refused.
    Consequence,
}

impl Refusal {
    fn new(message: String) -> Self {
        Self { cause: Cause::Said(message), offset: None, path: Vec::new(), entry: None }
    }

    /// The same, seen from the table that has it at `key`.
    fn under(mut self, key: &Spanned<DeString<'_>>, offset: usize) -> Self {
        self.path.insert(0, show_key(key.get_ref()));
        self.located(offset, Some(key.span().start))
    }

    fn located(mut self, offset: usize, entry: Option<usize>) -> Self {
        self.offset.get_or_insert(offset);
        self.entry = self.entry.or(entry);
        self
    }

    /// The same, knowing which table was read: only now can a missing key be told from a refused one.
    fn within(mut self, table: &DeTable<'_>, offset: usize) -> Self {
        if let Cause::Missing(key) = self.cause {
            let written = table.contains_key(key);
            self.cause = if written { Cause::Consequence } else { Cause::Said("this key is missing".into()) };
            self.path.insert(0, show_key(key));
            self.offset = Some(offset);
        }
        self
    }
}

/// A key as it is written in a dotted path.
pub(crate) fn show_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

impl serde::de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {}", show_expected(expected), show_found(found)))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("expected one of {}, found {found:?}", expected.join(", ")))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        let near = expected.iter().map(|key| (distance(found, key), key)).min();
        Self::new(match near {
            Some((0..=2, key)) => format!("unknown key, did you mean `{key}`?"),
            Some(_) => format!("unknown key; there are {}", expected.join(", ")),
            None => "unknown key".into(),
        })
    }

    fn missing_field(key: &'static str) -> Self {
        Self { cause: Cause::Missing(key), offset: None, path: Vec::new(), entry: None }
    }
}

/// serde words its expectations for programmers.
fn show_expected(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "an integer".into(),
        "f32" | "f64" => "a number".into(),
        "a sequence" => "an array".into(),
        "a map" => "a table".into(),
        _ => text,
    }
}

fn show_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(_) => "a boolean".into(),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer".into(),
        Unexpected::Float(_) => "a float".into(),
        Unexpected::Str(_) => "a string".into(),
        Unexpected::Seq => "an array".into(),
        Unexpected::Map => "a table".into(),
        other => other.to_string(),
    }
}

/// Levenshtein's; keys that are no near miss by their length alone are not compared.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl<'a> Node<'a> {
    fn at(self, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { value: value.get_ref(), offset: value.span().start, ..self }
    }

    fn expected(self, expected: &str) -> Refusal {
        let article = if self.value.is_integer() || self.value.is_array() { "an" } else { "a" };
        Refusal::new(format!("expected {expected}, found {article} {}", self.value.type_str()))
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(integer) => visit_integer(integer, visitor),
            DeValue::Float(float) => {
                visitor.visit_f64(float.as_str().parse().map_err(|_| Refusal::new("this number is too large".into()))?)
            }
            DeValue::Boolean(boolean) => visitor.visit_bool(*boolean),
            DeValue::Datetime(_) => Err(Refusal::new("dates and times mean nothing here".into())),
            DeValue::Array(array) => visitor.visit_seq(Elements { node: self, rest: array.iter() }),
            DeValue::Table(table) => visitor
                .visit_map(Entries { node: self, rest: table.iter(), current: None })
                .map_err(|refusal| refusal.within(table, self.offset)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        // serde's derived structs read an array as well, by position.
        if self.value.is_table() { self.deserialize_any(visitor) } else { Err(self.expected("a table")) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let text = self.value.as_str().ok_or_else(|| self.expected("a string"))?;
        visitor.visit_enum(StrDeserializer::new(text))
    }

    forward_to_deserialize_any! {
        bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 char str string seq bytes byte_buf map unit
        ignored_any unit_struct tuple_struct tuple identifier
    }
}

fn visit_integer<'de, V: Visitor<'de>>(integer: &DeInteger<'_>, visitor: V) -> Result<V::Value, Refusal> {
    let value = i128::from_str_radix(integer.as_str(), integer.radix());
    let value = value.map_err(|_| Refusal::new("this number is too large".into()))?;
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => visitor.visit_i64(value),
        (_, Ok(value)) => visitor.visit_u64(value),
        _ => visitor.visit_i128(value),
    }
}

struct Elements<'a> {
    node: Node<'a>,
    rest: std::slice::Iter<'a, Spanned<DeValue<'a>>>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        let Some(value) = self.rest.find(|value| !self.node.refused.contains(&value.span().start)) else { return Ok(None) };
        let start = value.span().start;
        // A table is read around alone; for anything smaller the whole array is refused, lest it look shorter than it is.
        let entry = value.get_ref().is_table().then_some(start);
        seed.deserialize(self.node.at(value)).map(Some).map_err(|refusal| refusal.located(start, entry))
    }
}

struct Entries<'a> {
    node: Node<'a>,
    rest: toml::map::Iter<'a, Spanned<DeString<'a>>, Spanned<DeValue<'a>>>,
    current: Option<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        self.current = self.rest.find(|(key, _)| !self.node.refused.contains(&key.span().start));
        let Some((key, _)) = self.current else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(key.get_ref()))
            .map(Some)
            .map_err(|refusal: Refusal| refusal.under(key, key.span().start))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let (key, value) = self.current.take().expect("invariant: serde asks for a key before its value");
        seed.deserialize(self.node.at(value)).map_err(|refusal| refusal.under(key, value.span().start))
    }
}
