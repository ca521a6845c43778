//! Measures what a model's runs take on this machine, for batches of growing size, and whether a row's answer depends on its
//! neighbours: from that follow the batches, and the thread that a run is made on. Knows nothing of the runtime.

mod padding;

use std::time::{Duration, Instant};

use sandmill_domain::{Axis, BatchSize, Batching, Code, Dtype, Fault, Lender, ModelProfile, Signature, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::batch::Policy;
use crate::compare::{Difference, are_finite, differ};
use crate::inspect::Seen;
use crate::load::ModelOptions;
use crate::noise::Noise;
use crate::pad::Padding;
use crate::plan::{Called, Inline, Plan};
use crate::rows::{self, Rows};
use crate::trial::Trial;
use crate::warm_up::Warm;

/// The sizes that axes which vary, but for the first, are given, one after the other until a run succeeds: a short text, the least
/// there can be, a small image.
const AXIS_SIZES: [i64; 3] = [16, 1, 64];
/// One size of batch is run so often, but not longer than `SIZE_TIME`.
const SIZE_RUNS: usize = 5;
const SIZE_TIME: Duration = Duration::from_millis(20);
/// Batches pay if a row in one takes at most so much of what it takes alone.
const PAYS: f64 = 0.8;
/// Why a model has nothing of all that pays.
const NOT_ENDED: &str = "a run that was to be measured did not end";
/// Of the sizes that are nearly as good as the best, the smallest is taken: what it gains in latency nobody loses in throughput.
const NEARLY: f64 = 1.1;
/// Rows of the batch that is compared with its rows alone.
const COMPARED_ROWS: usize = 4;

/// Whole numbers are noise up to one of these, the first that a model takes: an index of more is out of somebody's range, and a mask
/// of more is no mask.
const WHOLE_MAX: [u64; 3] = [1000, 100, 1];

/// What came of measuring.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) plan: Plan,
    pub(crate) profile: ModelProfile,
    /// What another session of the model is warmed up with; none if it fails on noise.
    pub(crate) warm: Option<Warm>,
}

impl Measured {
    /// Of a model that cannot be measured: a run of it does not end.
    pub(crate) fn nothing() -> Self {
        let why = NOT_ENDED;
        let profile = ModelProfile {
            sizes: Vec::new(),
            batches: Err(why.to_owned()),
            inline: Err(why.to_owned()),
            padding: Err(why.to_owned()),
        };
        Self { plan: Plan { policy: Policy::OFF, rows: None, padding: Padding::default(), inline: None }, profile, warm: None }
    }
}

/// Whether it says no more than that the model could not be measured.
pub(crate) fn is_nothing(profile: &ModelProfile) -> bool {
    profile.inline.as_ref().is_err_and(|why| why == NOT_ENDED)
}

/// A warmed model, and what measuring it may take.
pub(crate) struct Measure<'a> {
    pub(crate) trial: Trial<'a>,
    /// What it was last called with.
    pub(crate) called: Vec<Called>,
    pub(crate) signature: &'a Signature,
    pub(crate) lender: &'a dyn Lender,
    pub(crate) options: &'a ModelOptions,
    pub(crate) seen: Seen,
}

impl Measure<'_> {
    /// Blocks, to the deadline at most.
    pub(crate) fn take(&self) -> Measured {
        let rows = Rows::of(self.signature);
        let noise = self.noise();
        let padding = self.padding(noise.as_ref());
        let filled = |noise: Noise| padding.as_ref().map_or(noise.clone(), |padding| noise.filled(self, padding));
        let noise = noise.map(filled);
        let (sizes, paying) = match &noise {
            Some(noise) => self.measure(noise, rows.as_ref().ok()),
            None if self.trial.deadline.is_past(Instant::now()) => {
                (Vec::new(), Err(Unfit::Other("there was no time to measure it (profile_ms)".to_owned())))
            }
            None => (Vec::new(), Err(Unfit::Other("the model fails on every shape that was tried".to_owned()))),
        };
        let batches = match (&rows, self.options.batching) {
            (Err(why), _) => Err(why.clone()),
            (Ok(_), Batching::Auto) if self.seen.mixes_rows => {
                Err("rows depend on one another: the model quantises dynamically, with one scale for all of them".to_owned())
            }
            (Ok(_), Batching::Auto) => paying.map_err(Unfit::told),
            (Ok(_), Batching::Off) => Err("batching is off".to_owned()),
            (Ok(_), Batching::Fixed { rows, .. }) => match paying {
                Err(Unfit::Shape(why)) => Err(why),
                Ok(_) | Err(Unfit::Other(_)) => Ok(rows.min(self.rows_max())),
            },
        };
        let delay = match self.options.batching {
            Batching::Fixed { delay, .. } => delay,
            Batching::Auto | Batching::Off => Duration::ZERO,
        };
        let rows_max = batches.as_ref().map_or(1, |rows| *rows);
        // What was not measured may not pay, or not end in time.
        let measured = sizes.iter().find(|size| size.rows == rows_max && self.options.batching == Batching::Auto);
        let policy = Policy { rows_max, bytes_max: measured.map_or(usize::MAX, |size| size.bytes), delay };
        let inline = self.inline(&sizes, policy);
        let told = inline.as_ref().map(|inline| inline.bytes_max).map_err(Clone::clone);
        let padded = |padding: &Padding| padding.axes().map(|(axis, buckets)| (axis.to_owned(), buckets.to_vec())).collect();
        let profile = ModelProfile { sizes, batches, inline: told, padding: padding.as_ref().map(padded).map_err(Clone::clone) };
        let sizes = profile.sizes.iter().copied().take_while(|size| size.rows <= rows_max).collect();
        let buckets = |noise: &Noise| padding.as_ref().map_or(Vec::new(), |padding| noise.at_buckets(self, padding));
        let warm = noise.map(|noise| Warm { buckets: buckets(&noise), noise, sizes });
        let plan = Plan { policy, rows: rows.ok(), padding: padding.unwrap_or_default(), inline: inline.ok() };
        Measured { plan, profile, warm }
    }

    /// The noise that the model takes: of the shapes that it was last called with, else of others, one after the other.
    fn noise(&self) -> Option<Noise> {
        if let Some(noise) = self.like_seen().filter(|noise| self.is_sound(noise)) {
            return Some(noise);
        }
        let mut noise = AXIS_SIZES.into_iter().map(|size| self.of(size)).find(|noise| self.is_sound(noise))?;
        for at in 0..noise.whole_max.len() {
            for max in WHOLE_MAX {
                noise.whole_max[at] = max;
                if max == 1 || self.is_sound(&noise) {
                    break;
                }
            }
        }
        Some(noise)
    }

    /// As the last call's inputs were.
    fn like_seen(&self) -> Option<Noise> {
        let like = |spec: &TensorSpec| self.called.iter().find(|seen| seen.name == spec.name);
        let like: Option<Vec<_>> = self.signature.inputs.iter().map(like).collect();
        let (shapes, whole_max) = like?.into_iter().map(|seen| (seen.shape.clone(), seen.whole_max.max(1))).unzip();
        Some(Noise { shapes, whole_max })
    }

    /// Noise whose axes that vary have this size, or their bound.
    fn of(&self, size: i64) -> Noise {
        let shapes = self.signature.inputs.iter();
        let shapes = shapes.map(|spec| spec.shape.iter().map(|axis| axis.nearest(size)).collect()).collect();
        Noise { shapes, whole_max: vec![1; self.signature.inputs.len()] }
    }

    /// Whether the model makes numbers of it.
    fn is_sound(&self, noise: &Noise) -> bool {
        let outputs = self.inputs(noise, 1, 1).and_then(|inputs| self.infer(inputs));
        outputs.is_ok_and(|(outputs, _)| outputs.iter().all(are_finite))
    }

    /// The time of each size of batch, and the size that pays, or why none does.
    fn measure(&self, noise: &Noise, rows: Option<&Rows>) -> (Vec<BatchSize>, Result<usize, Unfit>) {
        let rows_max = if rows.is_some() { self.rows_max() } else { 1 };
        let mut sizes: Vec<BatchSize> = Vec::new();
        for count in std::iter::successors(Some(1_usize), |rows| rows.checked_mul(2)).take_while(|rows| *rows <= rows_max) {
            let Ok(size) = self.inputs(noise, count, count as u64).and_then(|inputs| self.time(count, &inputs)) else { break };
            sizes.push(size);
            if is_no_better(&sizes) {
                break;
            }
        }
        let paying = match rows {
            Some(rows) if sizes.len() > 1 => self.compare(noise, rows).and_then(|()| best(&sizes).ok_or_else(no_gain)),
            _ => Err(no_gain()),
        };
        (sizes, paying)
    }

    /// The quickest of some runs.
    fn time(&self, rows: usize, inputs: &[Tensor]) -> Result<BatchSize, Fault> {
        let begun = Instant::now();
        let mut time = self.infer(inputs.to_vec())?.1;
        for _ in 1..SIZE_RUNS {
            if begun.elapsed() > SIZE_TIME {
                break;
            }
            time = time.min(self.infer(inputs.to_vec())?.1);
        }
        Ok(BatchSize { rows, bytes: inputs.iter().map(|tensor| tensor.data.len()).sum(), time })
    }

    /// Whether rows answer the same alone, in a batch, and beside others.
    fn compare(&self, noise: &Noise, rows: &Rows) -> Result<(), Unfit> {
        let count = COMPARED_ROWS.min(self.rows_max());
        let failed = |fault: Fault| Unfit::Shape(format!("rows cannot be compared: {}", fault.report()));
        let run = |inputs: Vec<Tensor>| self.infer(inputs).map(|(outputs, _)| outputs).map_err(failed);
        let split = |tensors: &[Tensor]| rows::split(tensors, &vec![1; count]).map_err(failed);
        let (some, others) = (self.inputs(noise, count, 2).map_err(failed)?, self.inputs(noise, count, 3).map_err(failed)?);
        let singles = split(&some)?;
        let together = split(&run(some)?)?;
        for (single, together) in singles.iter().zip(&together) {
            differ(&run(single.clone())?, together).map_err(depend)?;
        }
        // The first row once more, beside others.
        let mut company = split(&others)?;
        company[0].clone_from(&singles[0]);
        let joined = rows.join(&company, &Padding::default(), self.lender).map_err(failed)?;
        differ(&split(&run(joined)?)?[0], &together[0]).map_err(depend)?;
        // And beside giants, by which a scale that all rows share would be made.
        company.iter_mut().skip(1).flatten().for_each(enlarge);
        let joined = rows.join(&company, &Padding::default(), self.lender).map_err(failed)?;
        differ(&split(&run(joined)?)?[0], &together[0]).map_err(depend)
    }

    #[expect(clippy::needless_pass_by_value, reason = "lent memory goes home with it")]
    fn infer(&self, inputs: Vec<Tensor>) -> Result<(Vec<Tensor>, Duration), Fault> {
        self.trial.run(&inputs)
    }

    /// So many rows of noise, if the model's tensors have rows.
    fn inputs(&self, noise: &Noise, rows: usize, seed: u64) -> Result<Vec<Tensor>, Fault> {
        if self.trial.deadline.is_past(Instant::now()) {
            return Err(Fault::new(Code::DeadlineExceeded, "measuring took too long"));
        }
        noise.inputs(self.signature, self.lender, rows, seed)
    }

    /// The most rows that a batch may have: the host's bound, and that of every input.
    fn rows_max(&self) -> usize {
        let first = |axis: Option<&Axis>| match axis {
            Some(Axis::Dynamic { max, .. }) => usize::try_from(*max).unwrap_or(usize::MAX),
            Some(Axis::Fixed(_) | Axis::Sizes { .. }) | None => 1,
        };
        let bounds = self.signature.inputs.iter().map(|spec| first(spec.shape.first()));
        bounds.fold(self.options.batch_rows_max, usize::min).max(1)
    }

    /// Which runs are short, or why none is.
    fn inline(&self, sizes: &[BatchSize], policy: Policy) -> Result<Inline, String> {
        let max = self.options.inline_max;
        if max.is_zero() {
            return Err("runs on the threads of requests are off".to_owned());
        }
        if self.seen.control_flow {
            return Err("the model has loops or branches, which take as long as they take".to_owned());
        }
        if self.seen.sized_by_values {
            return Err("the values of the inputs may decide how long a run takes".to_owned());
        }
        if self.options.intra_threads > 1 {
            return Err("a run takes several threads".to_owned());
        }
        if !policy.delay.is_zero() {
            return Err("batches wait for calls".to_owned());
        }
        if self.signature.inputs.iter().any(|spec| spec.dtype == Dtype::Bytes) {
            return Err("byte strings take as long as they are".to_owned());
        }
        let Some(longest) = sizes.iter().rev().find(|size| size.time <= max) else {
            return Err(match sizes.first() {
                Some(shortest) => format!("a run takes {:.1?}, more than {max:.1?}", shortest.time),
                None => "no run was measured".to_owned(),
            });
        };
        Ok(Inline { bytes_max: longest.bytes, rows_max: longest.rows, time: longest.time })
    }
}

/// Why calls share no run.
enum Unfit {
    /// The outputs have not one row for each that went in.
    Shape(String),
    /// It does not pay, or answers differ: whoever wants batches all the same may have them.
    Other(String),
}

impl Unfit {
    fn told(self) -> String {
        let (Self::Shape(why) | Self::Other(why)) = self;
        why
    }
}

/// Of a row alone and the same in a batch.
fn depend(difference: Difference) -> Unfit {
    let text = |how: String| format!("rows depend on one another: output {how}");
    match difference {
        Difference::Shape { name, one, other } => {
            Unfit::Shape(text(format!("`{name}` of a row is {one:?} alone and {other:?} in a batch")))
        }
        Difference::Value { name, by } => {
            Unfit::Other(text(format!("`{name}` differs by {by:.1e} between a row alone and in a batch")))
        }
    }
}

fn no_gain() -> Unfit {
    Unfit::Other("a row in a batch takes about as long as one alone".to_owned())
}

/// The largest neighbours that arithmetic in 32 bits can bear.
fn enlarge(tensor: &mut Tensor) {
    if tensor.dtype == Dtype::Fp32 {
        let large = |bytes: &[u8; 4]| (f32::from_le_bytes(*bytes) * 1e6).to_le_bytes();
        tensor.data = tensor.data.as_chunks().0.iter().flat_map(large).collect::<Vec<u8>>().into();
    }
}

fn per_row(size: &BatchSize) -> f64 {
    size.time.as_secs_f64() / size.rows as f64
}

/// The size of batch that pays; none if none does.
fn best(sizes: &[BatchSize]) -> Option<usize> {
    let least = sizes.iter().map(per_row).min_by(f64::total_cmp)?;
    let alone = per_row(sizes.first()?);
    let good = sizes.iter().find(|size| per_row(size) <= least * NEARLY)?;
    (least <= alone * PAYS && good.rows > 1).then_some(good.rows)
}

/// Whether the last two sizes have gained nothing over those before.
fn is_no_better(sizes: &[BatchSize]) -> bool {
    let (before, last) = sizes.split_at(sizes.len().saturating_sub(2));
    let least = |sizes: &[BatchSize]| sizes.iter().map(per_row).fold(f64::INFINITY, f64::min);
    !before.is_empty() && least(last) > least(before) * 0.97
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(per_batch: &[(usize, u64)]) -> Vec<BatchSize> {
        per_batch
            .iter()
            .map(|(rows, micros)| BatchSize { rows: *rows, bytes: 4 * rows, time: Duration::from_micros(*micros) })
            .collect()
    }

    #[test]
    fn batches_are_as_large_as_it_pays() {
        let cases = [
            ("small and dense", times(&[(1, 55), (2, 56), (4, 64), (8, 105), (16, 180), (32, 330)]), Some(16)),
            ("no gain beyond eight", times(&[(1, 55), (2, 56), (4, 64), (8, 80), (16, 165)]), Some(8)),
            ("convolutions", times(&[(1, 536), (2, 1060), (4, 2108)]), None),
            ("a little", times(&[(1, 100), (2, 190), (4, 370)]), None),
            ("one size alone", times(&[(1, 100)]), None),
            ("nothing", vec![], None),
        ];
        for (name, times, expected) in cases {
            assert_eq!(best(&times), expected, "{name}");
        }
    }

    #[test]
    fn measuring_ends_when_there_is_nothing_to_gain() {
        assert!(is_no_better(&times(&[(1, 536), (2, 1060), (4, 2108)])));
        assert!(!is_no_better(&times(&[(1, 55), (2, 56), (4, 64)])));
        assert!(!is_no_better(&times(&[(1, 55), (2, 110)])));
        assert!(!is_no_better(&[]));
    }
}
