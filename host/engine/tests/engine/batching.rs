//! Calls that share runs: that their answers are their own, and that what is measured of a model is so.

use std::time::Duration;

use futures_util::future::join_all;
use sandmill_domain::ports::Inference;
use sandmill_domain::{BatchReason, Batching, Blame, Code, Fault, Tensor};
use sandmill_engine::{ModelOptions, OnnxModel};

use crate::harness::{DIGIT, as_floats, floats, infer, integers, load, options, outputs, try_load};

/// What batched rows may differ by from single ones: the kernels add up in another order.
const TOLERANCE: f32 = 1e-5;

/// Digits that differ from one another.
fn digit(number: usize) -> Tensor {
    let values: Vec<f32> = DIGIT.iter().enumerate().map(|(at, value)| value * ((at * 7 + number) % 5) as f32 / 4.0).collect();
    floats("X", &[1, 64], &values)
}

fn fixed(rows: usize, delay: Duration) -> ModelOptions {
    ModelOptions { batching: Batching::Fixed { rows, delay }, ..options() }
}

/// The first calls are queued before the first run ends; rows of all runs.
async fn all(model: &OnnxModel, inputs: Vec<Vec<Tensor>>) -> (Vec<Result<Inference, Fault>>, usize) {
    let answers = join_all(inputs.into_iter().map(|inputs| infer(model, inputs))).await;
    let rows = answers.iter().flatten().filter_map(|inference| inference.batch).map(|batch| batch.rows).sum();
    (answers, rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_share_runs_get_their_own_answers() {
    let alone = try_load("digits", &ModelOptions { batching: Batching::Off, inline_max: Duration::ZERO, ..options() }).unwrap();
    alone.measure();
    let mut expected = Vec::new();
    for number in 0..64 {
        expected.push(outputs(&alone, vec![digit(number)]).await);
    }
    for options in [fixed(16, Duration::ZERO), fixed(8, Duration::from_millis(5)), fixed(64, Duration::from_secs(60))] {
        let model = try_load("digits", &options).unwrap();
        model.measure();
        let (answers, rows) = all(&model, (0..64).map(|number| vec![digit(number)]).collect()).await;
        assert_eq!(rows, 64, "every row is in one run");
        // Without a delay, whoever runs them may be as quick as the calls come.
        let runs = answers.iter().flatten().filter(|inference| inference.batch.is_some()).count();
        assert!(
            runs < 64 || matches!(options.batching, Batching::Fixed { delay: Duration::ZERO, .. }),
            "{runs} with {options:?}"
        );
        for (answer, expected) in answers.into_iter().zip(&expected) {
            let outputs = answer.unwrap().outputs;
            assert_eq!(outputs[0], expected[0]);
            assert_eq!(outputs[1].shape, expected[1].shape);
            let pairs = as_floats(&outputs[1]).into_iter().zip(as_floats(&expected[1]));
            pairs.for_each(|(one, other)| assert!((one - other).abs() < TOLERANCE, "{one} {other}"));
        }
    }
}

#[tokio::test]
async fn a_batch_that_waits_is_run_when_it_is_full_or_late() {
    let model = try_load("digits", &fixed(2, Duration::from_millis(500))).unwrap();
    model.measure();
    let (answers, _) = all(&model, (0..3).map(|number| vec![digit(number)]).collect()).await;
    let reasons: Vec<_> =
        answers.iter().flatten().filter_map(|inference| inference.batch).map(|batch| (batch.rows, batch.reason)).collect();
    assert_eq!(reasons, [(2, BatchReason::Full), (1, BatchReason::Delay)]);
    assert!(answers[2].as_ref().unwrap().queued >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_bad_row_fails_nobody_elses() {
    let model = try_load("gather", &fixed(8, Duration::from_secs(60))).unwrap();
    model.measure();
    let indices = [0, 3, 9, 1, 2, 0, 1, 3];
    let (answers, _) = all(&model, indices.map(|index| vec![integers("index", &[1], &[index])]).to_vec()).await;
    for (index, answer) in indices.into_iter().zip(answers) {
        match answer {
            Ok(inference) => assert_eq!(as_floats(&inference.outputs[0]), [index as f32 + 1.0]),
            Err(fault) => assert_eq!((index, fault.code, fault.blame), (9, Code::InvalidInput, Blame::Caller)),
        }
    }
}

#[test]
fn what_pays_is_measured() {
    // Whether it pays is the machine's to say, just now; that rows do not depend on one another is not.
    let digits = load("digits");
    let profile = digits.measure();
    let rows: Vec<usize> = profile.sizes.iter().map(|size| size.rows).collect();
    assert!(rows.starts_with(&[1, 2, 4]), "{profile:?}");
    assert!(profile.sizes.iter().all(|size| size.bytes == size.rows * 256), "{profile:?}");
    match &profile.batches {
        Ok(best) => assert!(rows.contains(best), "{profile:?}"),
        Err(why) => assert_eq!(why, "a row in a batch takes about as long as one alone"),
    }

    let neighbours = load("neighbours");
    let why = neighbours.measure().batches.clone().unwrap_err();
    assert!(why.starts_with("rows depend on one another: output `y` differs by"), "{why}");

    let quantised = load("quantised");
    let why = quantised.measure().batches.clone().unwrap_err();
    assert!(why.starts_with("rows depend on one another: the model quantises dynamically"), "{why}");

    let scalar = load("scalar");
    let why = scalar.measure().batches.clone().unwrap_err();
    assert!(why.ends_with("is a scalar, which has no rows"), "{why}");

    let off = try_load("digits", &ModelOptions { batching: Batching::Off, inline_max: Duration::ZERO, ..options() }).unwrap();
    assert_eq!(off.measure().batches.clone().unwrap_err(), "batching is off");
    assert_eq!(off.measure().inline.clone().unwrap_err(), "runs on the threads of requests are off");
}

#[test]
fn measuring_has_bounds() {
    let hasty = try_load("digits", &ModelOptions { profile_time: Duration::from_nanos(1), ..options() }).unwrap();
    let profile = hasty.measure();
    assert!(profile.sizes.is_empty(), "{profile:?}");
    assert_eq!(profile.batches.clone().unwrap_err(), "there was no time to measure it (profile_ms)");
    assert_eq!(profile.inline.clone().unwrap_err(), "no run was measured");

    let few = try_load("digits", &ModelOptions { batch_rows_max: 2, ..options() }).unwrap();
    let rows: Vec<usize> = few.measure().sizes.iter().map(|size| size.rows).collect();
    assert_eq!(rows, [1, 2]);
    let fixed = try_load("digits", &ModelOptions { batch_rows_max: 2, ..fixed(16, Duration::ZERO) }).unwrap();
    assert_eq!(fixed.measure().batches, Ok(2));
}

#[test]
fn loops_never_run_where_requests_are_carried() {
    let why = load("loop").measure().inline.clone().unwrap_err();
    assert!(why.contains("loops or branches"), "{why}");
}
