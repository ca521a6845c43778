//! How the calls of one model are run, once it has been measured; and what is remembered of calls until then. Knows no queue and no thread.

use std::time::Duration;

use sandmill_domain::Tensor;
use serde::{Deserialize, Serialize};

use crate::batch::Policy;
use crate::pad::Padding;
use crate::rows::Rows;

/// How calls are run once the model is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    /// None if the model's tensors have no rows.
    pub(crate) rows: Option<Rows>,
    /// Which axes are filled up to their buckets.
    pub(crate) padding: Padding,
    /// Which runs are made on the threads that carry requests, if any.
    pub(crate) inline: Option<Inline>,
}

/// Runs that are short enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inline {
    /// Of inputs of at most so many bytes,
    pub(crate) bytes_max: usize,
    /// which had so many rows when they were measured,
    pub(crate) rows_max: usize,
    /// and took so long.
    pub(crate) time: Duration,
}

impl Plan {
    /// Batches of short runs are as short.
    pub(crate) fn for_tasks(&self) -> Option<Policy> {
        let Inline { bytes_max, rows_max, .. } = self.inline?;
        Some(Policy { rows_max: rows_max.min(self.policy.rows_max), bytes_max, delay: Duration::ZERO })
    }
}

/// What is remembered of an input of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    /// The largest of its whole numbers.
    pub(crate) whole_max: u64,
}

impl Called {
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let mut whole_max = 0;
        if tensor.dtype.is_whole() {
            for element in tensor.data.chunks_exact(tensor.dtype.size().unwrap_or(1)) {
                let negative = tensor.dtype.is_signed() && element.last().is_some_and(|byte| *byte > 127);
                let value = element.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                whole_max = whole_max.max(if negative { 0 } else { value });
            }
        }
        Self { name: tensor.name.clone(), shape: tensor.shape.clone(), whole_max }
    }
}
