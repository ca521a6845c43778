//! Runs a session until it is at its pace, before it carries any call. Knows nothing of the runtime.

use std::time::Duration;

use sandmill_domain::{Axis, BatchSize, Code, Fault, Lender, Signature, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::golden::Golden;
use crate::noise::{Noise, short, unfit};
use crate::trial::Trial;

/// The size that axes which vary are given.
const AXIS_SMALLEST: i64 = 1;
/// The size for a second try: some models fail on images of a single pixel.
const AXIS_LARGER: i64 = 64;
/// The zeros that are written at once.
const ZEROS: [u8; 4096] = [0; 4096];

/// A session is warm when a run takes at most so many times what was measured of the model,
const PACE: u32 = 4;
/// or less than this, where a page fault is already a surprise.
const PACE_LEAST: Duration = Duration::from_micros(500);
/// Rounds until it must be.
const ROUNDS: usize = 3;

/// What a further session of a model that was measured is warmed up with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Warm {
    pub(crate) noise: Noise,
    /// The batches that are made of its calls.
    pub(crate) sizes: Vec<BatchSize>,
    /// Every bucket of its axes, if they are padded.
    pub(crate) buckets: Vec<Noise>,
}

/// A session that is loaded, and what it is warmed up for.
pub(crate) struct WarmUp<'a> {
    pub(crate) trial: Trial<'a>,
    pub(crate) signature: &'a Signature,
    pub(crate) lender: &'a dyn Lender,
    /// Runs of one size.
    pub(crate) runs: usize,
    /// Whether calls wait for it: then one that is slow, as all is on a busy machine, is better than none.
    pub(crate) urgent: bool,
}

impl WarmUp<'_> {
    /// The first session of a model: on zeros, of the smallest shapes that succeed. Gives the pair by which it is known to work, and
    /// the time of one more run. Blocks, to the deadline at most.
    pub(crate) fn first(&self) -> Result<(Golden, Duration), Fault> {
        let (inputs, outputs) = self.try_zeros()?;
        for _ in 1..self.runs {
            self.trial.run(&inputs)?;
        }
        let (again, took) = self.trial.run(&inputs)?;
        Ok((Golden::new(inputs, outputs, &again, took), took))
    }

    /// A further session: it must answer the golden inputs as the first did, and come to its pace on every size of batch that calls
    /// are run in. Blocks, to the deadline at most.
    pub(crate) fn again(&self, golden: &Golden, warm: Option<&Warm>) -> Result<(), Fault> {
        for _ in 0..self.runs {
            self.trial.run(golden.inputs())?;
        }
        golden.check(self.trial).map_err(|why| Fault::new(Code::ModelFailed, why))?;
        let Some(warm) = warm else { return Ok(()) };
        for bucket in &warm.buckets {
            let inputs = bucket.inputs(self.signature, self.lender, 1, 1)?;
            for _ in 0..self.runs {
                self.trial.run(&inputs)?;
            }
        }
        warm.sizes.iter().try_for_each(|size| self.pace(warm, size))
    }

    fn pace(&self, warm: &Warm, size: &BatchSize) -> Result<(), Fault> {
        let inputs = warm.noise.inputs(self.signature, self.lender, size.rows, size.rows as u64)?;
        let most = (size.time * PACE).max(PACE_LEAST);
        let mut took = Duration::MAX;
        for _ in 0..ROUNDS {
            for _ in 0..self.runs {
                self.trial.run(&inputs)?;
            }
            took = self.trial.run(&inputs)?.1;
            if took <= most {
                return Ok(());
            }
        }
        let (rows, time) = (size.rows, size.time);
        if self.urgent {
            tracing::warn!(rows, ?took, measured = ?time, "a session is slower after its warm-up than was measured");
            return Ok(());
        }
        let message = format!("a batch of {rows} rows took {took:.1?} after its warm-up, and {time:.1?} when it was measured");
        Err(Fault::new(Code::ModelFailed, message))
    }

    fn try_zeros(&self) -> Result<(Vec<Tensor>, Vec<Tensor>), Fault> {
        let smallest = self.zeros(AXIS_SMALLEST)?;
        let fault = match self.trial.run(&smallest) {
            Ok((outputs, _)) => return Ok((smallest, outputs)),
            Err(fault) => fault,
        };
        let larger = self.zeros(AXIS_LARGER)?;
        if fault.code != Code::ModelFailed || larger == smallest {
            return Err(fault);
        }
        // The first fault says more: it is about the shapes that are tried for every model.
        self.trial.run(&larger).map(|(outputs, _)| (larger, outputs)).map_err(|_| fault)
    }

    /// Zeros, and empty byte strings, for every input.
    fn zeros(&self, axis_size: i64) -> Result<Vec<Tensor>, Fault> {
        self.signature.inputs.iter().map(|spec| zero(spec, axis_size, self.lender)).collect()
    }
}

fn zero(spec: &TensorSpec, axis_size: i64, lender: &dyn Lender) -> Result<Tensor, Fault> {
    let shape: Vec<i64> = spec.shape.iter().enumerate().map(|(index, axis)| size(index, axis, axis_size)).collect();
    let count = spec.check_shape(spec.dtype, &shape).map_err(|error| unfit(&error))?;
    // The plain form of an empty byte string is a length of zero.
    let bytes = count.saturating_mul(spec.dtype.size().unwrap_or(4));
    let mut buffer = lender.lend(bytes)?;
    while buffer.len() < bytes {
        let room = ZEROS.len().min(bytes - buffer.len());
        buffer.push(&ZEROS[..room]).map_err(|_| short())?;
    }
    Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data: buffer.freeze() })
}

/// The first axis is mostly the batch, which may well be 1.
fn size(index: usize, axis: &Axis, axis_size: i64) -> i64 {
    axis.nearest(if index == 0 { 1 } else { axis_size })
}
