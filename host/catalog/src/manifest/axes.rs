//! An entry of `[model.axes]`: a bound, the word for none, or a table. What the model makes of it is not known here.

use std::collections::BTreeMap;
use std::fmt;

use sandmill_domain::{AXIS_MAX, AxisRule, Pad, PadValue};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::document::{Document, Problem};
use crate::manifest::{AxisBound, axis_bound};

const BUCKETS_MAX: usize = 64;

/// Its word for an axis without a bound.
const UNBOUNDED: &str = "unbounded";

/// What is said of one axis.
pub(super) enum AxisEntry {
    Bound(i64),
    Table(AxisTable),
}

/// `{ max = 256, buckets = [64, 256], pad = 0 }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AxisTable {
    max: Option<Max>,
    buckets: Option<Buckets>,
    pad: Option<PadEntry>,
}

/// A bound, or the word for none.
struct Max(i64);

#[derive(Deserialize)]
#[serde(try_from = "Vec<AxisBound>")]
struct Buckets(Vec<i64>);

impl TryFrom<Vec<AxisBound>> for Buckets {
    type Error = String;

    fn try_from(sizes: Vec<AxisBound>) -> Result<Self, String> {
        match sizes.len() {
            0..=BUCKETS_MAX => Ok(Self(sizes.into_iter().map(axis_bound).collect())),
            count => Err(format!("expected at most {BUCKETS_MAX} sizes, found {count}")),
        }
    }
}

/// One value, or one for each input.
struct PadEntry(Pad);

struct ValueEntry(PadValue);

impl AxisEntry {
    /// What it says, read with [`AxisEntry::check`].
    pub(super) fn rule(&self) -> Result<AxisRule, &'static str> {
        match self {
            Self::Bound(max) => Ok((*max).into()),
            Self::Table(AxisTable { max, buckets, pad }) => {
                let buckets = buckets.as_ref().map(|buckets| buckets.0.clone()).unwrap_or_default();
                AxisRule::new(max.as_ref().map(|max| max.0), buckets, pad.as_ref().map(|pad| pad.0.clone()))
            }
        }
    }

    /// Keys that do not go together; not while any of them, or of the sizes, is wrong in itself.
    pub(super) fn check(&self, document: &Document<'_>, key: &[&str]) -> Option<Problem> {
        let Self::Table(AxisTable { max, buckets, pad }) = self else { return None };
        let keys = [max.is_some(), buckets.is_some(), pad.is_some()].into_iter().filter(|read| *read).count();
        let sizes = buckets.as_ref().map(|buckets| buckets.0.len());
        let is_whole = document.len(key) == Some(keys) && document.len(&[key, &["buckets"]].concat()) == sizes;
        let wrong = self.rule().err().filter(|_| is_whole)?;
        Some(document.problem(key, wrong))
    }
}

fn bound<E: Error>(given: i128) -> Result<i64, E> {
    let fits = i64::try_from(given).ok().filter(|given| (1..=AXIS_MAX).contains(given));
    fits.ok_or_else(|| E::custom(format_args!("expected an integer from 1 to {AXIS_MAX}, found {given}")))
}

fn word<E: Error>(given: &str) -> Result<i64, E> {
    if given == UNBOUNDED {
        return Ok(AXIS_MAX);
    }
    Err(E::custom(format_args!("expected an integer from 1 to {AXIS_MAX} or {UNBOUNDED:?}, found {given:?}")))
}

impl<'de> Deserialize<'de> for AxisEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AxisVisitor)
    }
}

impl<'de> Deserialize<'de> for Max {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MaxVisitor)
    }
}

impl<'de> Deserialize<'de> for PadEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PadVisitor)
    }
}

impl<'de> Deserialize<'de> for ValueEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct AxisVisitor;
struct MaxVisitor;
struct PadVisitor;
struct ValueVisitor;

/// The document's integers are as wide as they need to be.
macro_rules! integers {
    ($value:ty, $from:expr) => {
        fn visit_i64<E: Error>(self, given: i64) -> Result<$value, E> {
            self.visit_i128(given.into())
        }

        fn visit_u64<E: Error>(self, given: u64) -> Result<$value, E> {
            self.visit_i128(given.into())
        }

        fn visit_i128<E: Error>(self, given: i128) -> Result<$value, E> {
            $from(given)
        }
    };
}

impl<'de> Visitor<'de> for AxisVisitor {
    type Value = AxisEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from 1 to {AXIS_MAX}, {UNBOUNDED:?}, or a table of `max`, `buckets` and `pad`")
    }

    integers!(AxisEntry, |given| bound(given).map(AxisEntry::Bound));

    fn visit_str<E: Error>(self, given: &str) -> Result<AxisEntry, E> {
        word(given).map(AxisEntry::Bound)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AxisEntry, A::Error> {
        AxisTable::deserialize(MapAccessDeserializer::new(map)).map(AxisEntry::Table)
    }
}

impl Visitor<'_> for MaxVisitor {
    type Value = Max;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from 1 to {AXIS_MAX} or {UNBOUNDED:?}")
    }

    integers!(Max, |given| bound(given).map(Max));

    fn visit_str<E: Error>(self, given: &str) -> Result<Max, E> {
        word(given).map(Max)
    }
}

impl<'de> Visitor<'de> for PadVisitor {
    type Value = PadEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a table of numbers by the inputs' names")
    }

    integers!(PadEntry, |given| ValueVisitor.visit_i128(given).map(|value| PadEntry(Pad::All(value.0))));

    fn visit_f64<E: Error>(self, given: f64) -> Result<PadEntry, E> {
        Ok(PadEntry(Pad::All(PadValue::Real(given))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PadEntry, A::Error> {
        let values: BTreeMap<String, ValueEntry> = BTreeMap::deserialize(MapAccessDeserializer::new(map))?;
        Ok(PadEntry(Pad::Each(values.into_iter().map(|(input, value)| (input, value.0)).collect())))
    }
}

impl Visitor<'_> for ValueVisitor {
    type Value = ValueEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    integers!(ValueEntry, |given: i128| match i64::try_from(given) {
        Ok(whole) => Ok(ValueEntry(PadValue::Whole(whole))),
        Err(_) => Err(E::custom(format_args!("expected a number of 64 bits, found {given}"))),
    });

    fn visit_f64<E: Error>(self, given: f64) -> Result<ValueEntry, E> {
        Ok(ValueEntry(PadValue::Real(given)))
    }
}
