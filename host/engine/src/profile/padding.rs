//! Whether a model bears padding: a row that is filled up and cut back must answer as it does at its own size.

use std::time::Instant;

use sandmill_domain::Tensor;

use super::Measure;
use crate::compare::{Difference, differ};
use crate::noise::Noise;
use crate::pad::Padding;

/// So many sizes are compared at most: two for each of the smallest buckets.
const LENGTHS_MAX: usize = 8;

impl Measure<'_> {
    /// The padding that the function declares, if it is proven to be harmless.
    ///
    /// # Errors
    /// Why calls run on their own sizes.
    pub(super) fn padding(&self, noise: Option<&Noise>) -> Result<Padding, String> {
        let padding = Padding::of(self.signature, &self.options.axes).map_err(|error| error.to_string())?;
        if padding.is_empty() {
            return Ok(padding);
        }
        if self.seen.mixes_rows {
            // Noise might show nothing of it.
            return Err("the model quantises dynamically: what is padded counts in the scale of everything".to_owned());
        }
        let proven = noise.map_or(Ok(0), |noise| self.prove(noise, &padding))?;
        match proven {
            0 if self.trial.deadline.is_past(Instant::now()) => {
                Err("there was no time to prove it harmless (profile_ms)".to_owned())
            }
            0 => Err("the model runs on none of the sizes between the buckets".to_owned()),
            _ => Ok(padding),
        }
    }

    /// How often answers were compared, all of which agreed.
    fn prove(&self, noise: &Noise, padding: &Padding) -> Result<usize, String> {
        let lengths: Vec<Vec<i64>> = padding.axes().map(|(_, buckets)| lengths(buckets)).collect();
        let steps = lengths.iter().map(Vec::len).max().unwrap_or(0);
        let mut compared = 0;
        for step in 0..steps {
            let own = noise.of_lengths(self, padding, |at| lengths[at].get(step % lengths[at].len().max(1)).copied());
            // A size that the model does not take at all says nothing; nor does one that there was no time for.
            let Ok(inputs) = self.inputs(&own, 1, step as u64 + 5) else { continue };
            let Ok((alone, _)) = self.infer(inputs.clone()) else { continue };
            self.agree(inputs, &alone, padding)?;
            compared += 1;
        }
        Ok(compared)
    }

    fn agree(&self, inputs: Vec<Tensor>, alone: &[Tensor], padding: &Padding) -> Result<(), String> {
        let (shape, sizes) = (shapes(&inputs), padding.sizes(&inputs));
        let padded = padding.pad(inputs, self.lender).map_err(|fault| fault.report().to_string())?;
        let to = shapes(&padded);
        let ran = self.infer(padded).and_then(|(outputs, _)| padding.cut(outputs, &sizes, self.lender));
        let ran = ran.map_err(|fault| format!("inputs of {shape} fail at {to}: {}", fault.report()))?;
        differ(alone, &ran).map_err(|difference| match difference {
            Difference::Shape { name, one, other } => {
                format!("output `{name}` of inputs of {shape} is {one:?} alone and {other:?} padded to {to}")
            }
            Difference::Value { name, by } => {
                format!("output `{name}` of inputs of {shape} differs by {by:.1e} when they are padded to {to}")
            }
        })
    }
}

impl Noise {
    /// The same with other sizes of the padded axes, by the axis's place.
    fn of_lengths(&self, measure: &Measure<'_>, padding: &Padding, length: impl Fn(usize) -> Option<i64>) -> Self {
        let mut noise = self.clone();
        for at in 0..padding.axes().count() {
            let Some(length) = length(at) else { continue };
            for (name, axis) in padding.places(at) {
                let input = measure.signature.inputs.iter().position(|spec| spec.name == name);
                if let Some(size) = input.and_then(|input| noise.shapes.get_mut(input)?.get_mut(axis)) {
                    *size = length;
                }
            }
        }
        noise
    }

    /// The same at each bucket of its axes, those of several axes side by side.
    pub(super) fn at_buckets(&self, measure: &Measure<'_>, padding: &Padding) -> Vec<Self> {
        let buckets: Vec<&[i64]> = padding.axes().map(|(_, buckets)| buckets).collect();
        let most = buckets.iter().map(|buckets| buckets.len()).max().unwrap_or(0);
        let at = |step: usize| self.of_lengths(measure, padding, |at| buckets[at].get(step).or(buckets[at].last()).copied());
        (0..most).map(at).collect()
    }

    /// The same as the model will see it: what is measured is what runs.
    pub(super) fn filled(&self, measure: &Measure<'_>, padding: &Padding) -> Self {
        let own = |at| {
            let (name, axis) = padding.places(at).next()?;
            let input = measure.signature.inputs.iter().position(|spec| spec.name == name)?;
            self.shapes.get(input)?.get(axis).copied()
        };
        let buckets: Vec<&[i64]> = padding.axes().map(|(_, buckets)| buckets).collect();
        let bucket = |at: usize| {
            let size = own(at)?;
            buckets[at].iter().find(|bucket| **bucket >= size).copied()
        };
        self.of_lengths(measure, padding, bucket)
    }
}

/// The sizes that are compared, between the buckets: there is something to pad, and for half of them much.
fn lengths(buckets: &[i64]) -> Vec<i64> {
    let before = std::iter::once(&0).chain(buckets);
    let between = before.zip(buckets).flat_map(|(before, bucket)| {
        let middle = before + (bucket - before + 1) / 2;
        [middle, bucket - 1].into_iter().filter(move |length| length > before && length < bucket)
    });
    let mut lengths: Vec<i64> = between.take(LENGTHS_MAX).collect();
    lengths.dedup();
    // Of a single element there is little to tell: it may well be one that a mask hides.
    if lengths.iter().any(|length| *length > 1) {
        lengths.retain(|length| *length > 1);
    }
    lengths
}

fn shapes(tensors: &[Tensor]) -> String {
    tensors.iter().map(|tensor| format!("{:?}", tensor.shape)).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_lie_between_the_buckets() {
        let cases: [(&[i64], &[i64]); 5] = [
            (&[16, 32], &[8, 15, 24, 31]),
            (&[2], &[1]),
            (&[2, 4], &[3]),
            (&[1, 2, 3], &[]),
            (&[4, 8, 16, 32, 64, 128], &[2, 3, 6, 7, 12, 15, 24, 31]),
        ];
        for (buckets, expected) in cases {
            assert_eq!(lengths(buckets), expected, "{buckets:?}");
        }
    }
}
