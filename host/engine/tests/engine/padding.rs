//! Axes with buckets: rows of different lengths that share a run, sizes that are refused, and models that do not bear padding.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use sandmill_domain::ports::Model;
use sandmill_domain::{AXIS_MAX, AxisRule, Batching, Pad, PadValue, Tensor};
use sandmill_engine::{ModelOptions, OnnxModel};

use crate::harness::{as_floats, floats, infer, integers, load, options, outputs, try_load};

/// What padded rows may differ by from single ones.
const TOLERANCE: f32 = 1e-5;

fn zero() -> Option<Pad> {
    Some(Pad::All(PadValue::Whole(0)))
}

fn with(axis: &str, buckets: &[i64], pad: Option<Pad>) -> ModelOptions {
    let rule = AxisRule::new(None, buckets.to_vec(), pad).expect("a rule");
    ModelOptions { axes: [(axis.to_owned(), rule)].into(), ..options() }
}

fn fixed(options: ModelOptions, rows: usize, delay: Duration) -> ModelOptions {
    ModelOptions { batching: Batching::Fixed { rows, delay }, ..options }
}

/// A row of so many elements that are like no other row's.
fn row(length: usize) -> Vec<f32> {
    (0..length).map(|at| ((at * 7 + length * 3) % 11) as f32 / 8.0).collect()
}

fn masked(length: usize) -> Vec<Tensor> {
    let shape = [1, i64::try_from(length).expect("small")];
    vec![floats("x", &shape, &row(length)), integers("mask", &shape, &vec![1; length])]
}

fn plain(length: usize) -> Vec<Tensor> {
    vec![floats("x", &[1, i64::try_from(length).expect("small")], &row(length))]
}

/// All calls at once; each must get what it gets from `alone`. Gives the rows of each run.
async fn compare(model: &OnnxModel, alone: &OnnxModel, lengths: &[usize], inputs: fn(usize) -> Vec<Tensor>) -> Vec<usize> {
    let answers = join_all(lengths.iter().map(|length| infer(model, inputs(*length)))).await;
    let mut runs = Vec::new();
    for (length, answer) in lengths.iter().zip(answers) {
        let inference = answer.expect("an answer");
        runs.extend(inference.batch.map(|batch| batch.rows));
        for (output, expected) in inference.outputs.iter().zip(outputs(alone, inputs(*length)).await) {
            assert_eq!(output.shape, expected.shape, "a row of {length}");
            let pairs = as_floats(output).into_iter().zip(as_floats(&expected));
            pairs.for_each(|(one, other)| assert!((one - other).abs() < TOLERANCE, "a row of {length}: {one} {other}"));
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_different_lengths_share_a_run_and_get_their_own_answers() {
    let alone = load("masked_mean");
    let options = with("seq", &[4, 8, 16], zero());
    let model = try_load("masked_mean", &fixed(options, 4, Duration::from_secs(60))).unwrap();
    assert_eq!(model.measure().padding, Ok(vec![("seq".to_owned(), vec![4, 8, 16])]));
    // None ever ends unless four of its bucket share a run.
    let lengths = [5, 1, 8, 16, 6, 2, 3, 9, 7, 4, 15, 12];
    assert_eq!(compare(&model, &alone, &lengths, masked).await, [4, 4, 4]);
    // Alone and by chance, too.
    let single = try_load("masked_mean", &ModelOptions { batching: Batching::Off, ..with("seq", &[4, 8, 16], zero()) }).unwrap();
    assert!(single.measure().padding.is_ok());
    let auto = try_load("masked_mean", &with("seq", &[4, 8, 16], zero())).unwrap();
    assert!(auto.measure().padding.is_ok());
    let all: Vec<usize> = (1..=16).cycle().take(64).collect();
    compare(&single, &alone, &all, masked).await;
    compare(&auto, &alone, &all, masked).await;
}

#[tokio::test]
async fn what_is_between_the_buckets_is_padded_and_what_is_beyond_them_refused() {
    let model = try_load("masked_mean", &with("seq", &[4, 8], zero())).unwrap();
    model.measure();
    let long = model.info().signature.check_inputs(&masked(9)).unwrap_err().to_string();
    assert_eq!(long, "tensor `x`: axis 1 of shape [1, 9] must be from 0 to 8");
    assert_eq!(outputs(&model, masked(0)).await[1].shape, [1, 0], "nothing is nothing's to pad");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_counts_what_is_padded_is_not_padded() {
    let alone = load("plain_mean");
    let options = fixed(with("seq", &[4, 8, 16], zero()), 4, Duration::ZERO);
    let model = try_load("plain_mean", &options).unwrap();
    let why = model.measure().padding.clone().unwrap_err();
    assert!(why.starts_with("output `mean` of inputs of [1, 2] differs by ") && why.ends_with("padded to [1, 4]"), "{why}");
    compare(&model, &alone, &(1..=16).collect::<Vec<_>>(), plain).await;

    let window = try_load("window", &with("width", &[8, 16], zero())).unwrap();
    let why = window.measure().padding.clone().unwrap_err();
    assert_eq!(why, "output `y` of inputs of [1, 1, 4] is [1, 1, 2] alone and [1, 1, 6] padded to [1, 1, 8]");
}

#[tokio::test]
async fn without_something_to_pad_with_other_sizes_are_refused() {
    let model = try_load("plain_mean", &with("seq", &[4, 8], None)).unwrap();
    assert_eq!(model.measure().padding, Ok(vec![]));
    for length in [0, 3, 5, 9] {
        let text = model.info().signature.check_inputs(&plain(length)).unwrap_err().to_string();
        assert_eq!(text, format!("tensor `x`: axis 1 of shape [1, {length}] must be 4 or 8"));
    }
    assert_eq!(outputs(&model, plain(8)).await[1].shape, [1, 8]);
    let rows = try_load("plain_mean", &with("n", &[2, 4], None)).unwrap();
    assert_eq!(rows.measure().batches.clone().unwrap_err(), "input `x` has rows in certain numbers only");
    assert!(rows.info().signature.check_inputs(&plain(3)).unwrap_err().to_string().ends_with("must be 2 or 4"));
}

#[tokio::test]
async fn an_axis_without_a_bound_is_one_by_choice() {
    let unbounded: BTreeMap<_, _> = [("seq".to_owned(), AxisRule::from(AXIS_MAX))].into();
    let model = try_load("plain_mean", &ModelOptions { axes: unbounded, ..options() }).unwrap();
    model.measure();
    assert_eq!(outputs(&model, plain(5000)).await[1].shape, [1, 5000]);
    assert!(load("plain_mean").info().signature.check_inputs(&plain(5000)).is_err(), "1024 is the default");
}

#[test]
fn what_cannot_be_padded_is_refused_when_it_is_loaded() {
    let refusal = |model: &str, axis: &str| try_load(model, &with(axis, &[4], zero())).err().expect(axis).to_string();
    let nameless = "the axis `state[2]` cannot be padded: it has no symbol, by which it could be found in the outputs";
    assert_eq!(refusal("symbols", "state[2]"), nameless);
    let rows = "the axis `n` cannot be padded: it is the first of `x`: rows are joined with those of other requests, not padded";
    assert_eq!(refusal("plain_mean", "n"), rows);
    let pad = Some(Pad::Each([("x".to_owned(), PadValue::Whole(0))].into()));
    let half = try_load("masked_mean", &with("seq", &[4], pad)).err().expect("`mask` is left out").to_string();
    assert!(half.ends_with("input `mask` has it too, but `pad` does not say with what that is padded"), "{half}");
}

#[test]
fn one_scale_for_all_that_is_padded_is_no_padding() {
    let options = with("wide", &[4, 8], zero());
    let why = try_load("quantised_wide", &options).unwrap().measure().padding.clone().unwrap_err();
    assert!(why.starts_with("the model quantises dynamically"), "{why}");
}

#[test]
fn what_was_not_proven_is_not_padded() {
    let hasty = ModelOptions { profile_time: Duration::from_nanos(1), ..with("seq", &[4, 8], zero()) };
    let model = try_load("masked_mean", &hasty).unwrap();
    assert_eq!(model.measure().padding.clone().unwrap_err(), "there was no time to prove it harmless (profile_ms)");
}
