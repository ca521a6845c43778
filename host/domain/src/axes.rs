//! What a function says of an axis whose size varies: its bound, the sizes that it may have, and what fills it up to one of them.
//! Knows no model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The largest bound of an axis, and what an axis has that is unbounded by choice: sizes beyond it overflow somewhere in the
/// runtime's kernels.
pub const AXIS_MAX: i64 = i32::MAX as i64;

/// The sizes that one axis may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AxisRule {
    max: i64,
    buckets: Vec<i64>,
    pad: Option<Pad>,
}

/// What fills an axis up to the next of its buckets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pad {
    /// The same in every input.
    All(PadValue),
    /// By the inputs' names.
    Each(BTreeMap<String, PadValue>),
}

/// An element that means nothing to the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum PadValue {
    /// For every type but byte strings.
    Whole(i64),
    /// For types of floating point.
    Real(f64),
}

impl AxisRule {
    /// Sizes up to `max`; with buckets, of which `max` is then the last, these sizes alone, or, with something to pad with, each
    /// filled up to the next of them.
    ///
    /// # Errors
    /// What does not go together, in words for whoever wrote it.
    pub fn new(max: Option<i64>, buckets: Vec<i64>, pad: Option<Pad>) -> Result<Self, &'static str> {
        if buckets.first().is_some_and(|first| *first < 1) || !buckets.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("the `buckets` must be sizes from 1 that ascend");
        }
        if pad.is_some() && buckets.is_empty() {
            return Err("to pad takes `buckets` to pad to");
        }
        match (max, buckets.last()) {
            (None, None) => Err("either `max` or `buckets` must be given"),
            (Some(max), Some(last)) if max != *last => Err("the last of the `buckets` must be as large as `max`"),
            (Some(max), _) | (None, Some(&max)) => Ok(Self { max, buckets, pad }),
        }
    }

    /// The largest size.
    pub fn max(&self) -> i64 {
        self.max
    }

    /// The sizes that the model sees, which ascend; all up to the largest if there are none.
    pub fn buckets(&self) -> &[i64] {
        &self.buckets
    }

    /// With what other sizes are filled up; none if they are refused.
    pub fn pad(&self) -> Option<&Pad> {
        self.pad.as_ref()
    }
}

/// All sizes up to this.
impl From<i64> for AxisRule {
    fn from(max: i64) -> Self {
        Self { max, buckets: Vec::new(), pad: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_must_make_sense() {
        let pad = || Some(Pad::All(PadValue::Whole(0)));
        let cases = [
            (Some(5), vec![], None, Ok(5)),
            (None, vec![2, 4], None, Ok(4)),
            (Some(4), vec![2, 4], pad(), Ok(4)),
            (None, vec![], None, Err("either `max` or `buckets` must be given")),
            (Some(5), vec![], pad(), Err("to pad takes `buckets` to pad to")),
            (Some(5), vec![2, 4], None, Err("the last of the `buckets` must be as large as `max`")),
            (None, vec![4, 2], None, Err("the `buckets` must be sizes from 1 that ascend")),
            (None, vec![2, 2], None, Err("the `buckets` must be sizes from 1 that ascend")),
            (None, vec![0, 2], None, Err("the `buckets` must be sizes from 1 that ascend")),
        ];
        for (max, buckets, pad, expected) in cases {
            let shown = format!("{max:?} {buckets:?} {pad:?}");
            assert_eq!(AxisRule::new(max, buckets, pad).map(|rule| rule.max()), expected, "{shown}");
        }
    }
}
