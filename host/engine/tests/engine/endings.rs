//! How runs end before their time: by a deadline, by a caller that goes away, by a failure. The context is free afterwards.

use std::future::ready;
use std::time::{Duration, Instant};

use sandmill_domain::ports::{BoxFuture, Inference, Model};
use sandmill_domain::{Blame, Code, Dtype, FailureKind, Fault, ModelEvent, Tensor, Urgency};
use sandmill_engine::{LoadError, ModelOptions, OnnxModel};

use crate::harness::{floats, integers, load, options, outputs, soon, tensor, try_load, within};

const HOUR: Duration = Duration::from_secs(3600);

fn turns(count: i64) -> Vec<Tensor> {
    vec![integers("turns", &[], &[count]), floats("x", &[1], &[0.5])]
}

async fn assert_is_free(model: &OnnxModel) {
    assert_eq!(outputs(model, turns(3)).await, [floats("y", &[1], &[3.5])]);
}

#[tokio::test]
async fn a_deadline_ends_a_run_without_end() {
    let model = load("loop");
    let (begun, time) = (Instant::now(), Duration::from_millis(100));
    let fault = model.infer(turns(i64::MAX), within(time)).await.unwrap_err();
    assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Model));
    assert!(begun.elapsed() >= time);
    assert_is_free(&model).await;
}

type Run<'a> = BoxFuture<'a, Result<Inference, Fault>>;

/// The answer, if it is there already.
async fn now(run: &mut Run<'_>) -> Option<Result<Inference, Fault>> {
    tokio::select! { biased; answer = run => Some(answer), () = ready(()) => None }
}

/// Queues a short run behind a long one that has begun: with room for one in the queue, that is when it is not refused.
async fn queue_behind<'a>(model: &'a OnnxModel, urgency: Urgency) -> Run<'a> {
    loop {
        let mut next = model.infer(turns(3), urgency);
        match now(&mut next).await {
            None => return next,
            Some(answer) => assert_eq!(answer.unwrap_err().code, Code::Overloaded),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_run() {
    let model = try_load("loop", &ModelOptions { queue_max: 1, ..options() }).unwrap();
    let mut endless = model.infer(turns(i64::MAX), within(HOUR));
    let next = queue_behind(&model, soon()).await;
    assert!(now(&mut endless).await.is_none());
    drop(endless);
    assert_eq!(next.await.unwrap().outputs, [floats("y", &[1], &[3.5])]);
}

#[tokio::test]
async fn the_queue_of_a_model_is_bounded() {
    let model = try_load("loop", &ModelOptions { queue_max: 1, ..options() }).unwrap();
    let endless = model.infer(turns(i64::MAX), within(HOUR));
    let waiting = queue_behind(&model, within(HOUR)).await;
    let fault = model.infer(turns(3), soon()).await.unwrap_err();
    assert_eq!((fault.code, fault.blame), (Code::Overloaded, Blame::Host));
    drop((endless, waiting));
    // What was given up keeps its place until the context comes by, which is at once now.
    while let Err(fault) = model.infer(turns(3), soon()).await {
        assert_eq!(fault.code, Code::Overloaded);
        tokio::task::yield_now().await;
    }
    assert_is_free(&model).await;
}

#[tokio::test]
async fn a_model_can_be_dropped_in_the_middle_of_a_run() {
    let model = try_load("loop", &ModelOptions { queue_max: 1, ..options() }).unwrap();
    let endless = model.infer(turns(i64::MAX), within(HOUR));
    drop(queue_behind(&model, within(HOUR)).await);
    drop(endless);
    let begun = Instant::now();
    drop(model);
    assert!(begun.elapsed() < Duration::from_secs(5), "its thread was left behind");
}

#[tokio::test]
async fn a_failed_run_says_little_to_the_client_and_all_to_the_log() {
    let model = load("gather");
    let fault = model.infer(vec![integers("index", &[1], &[9])], soon()).await.unwrap_err();
    // It works on zeros.
    assert_eq!((fault.code, fault.blame), (Code::InvalidInput, Blame::Caller));
    assert_eq!(fault.to_string(), "the model's run failed; on other inputs it works");
    assert!(fault.report().to_string().contains("Gather"), "{}", fault.report());
    assert_eq!(outputs(&model, vec![integers("index", &[1], &[1])]).await, [floats("y", &[1], &[2.0])]);
}

#[tokio::test]
async fn memory_that_is_not_there_is_told_as_that() {
    let model = load("giant");
    let size = |n| vec![integers("n", &[1], &[n])];
    // 64 TiB, which no allocator gives.
    let fault = model.infer(size(4 << 20), soon()).await.unwrap_err();
    // It works on zeros.
    assert_eq!((fault.code, fault.blame), (Code::ModelOutOfMemory, Blame::Caller), "{}", fault.report());
    assert_eq!(outputs(&model, size(2)).await, [floats("y", &[], &[8.0])]);
}

#[tokio::test]
async fn failures_are_told_by_their_kind() {
    let (sender, kinds) = std::sync::mpsc::channel();
    let watched = |name| {
        let (model, sender) = (load(name), std::sync::Mutex::new(sender.clone()));
        model.watch(move |event| {
            if let ModelEvent::Failed { kind } = event {
                sender.lock().unwrap().send(*kind).unwrap();
            }
        });
        model
    };
    let (giant, gather, endless) = (watched("giant"), watched("gather"), watched("loop"));
    for (model, inputs, kind) in [
        (&giant, vec![integers("n", &[1], &[4 << 20])], FailureKind::OutOfMemory),
        (&gather, vec![integers("index", &[1], &[9])], FailureKind::BadInput),
        (&endless, turns(i64::MAX), FailureKind::Timeout),
    ] {
        model.infer(inputs, within(Duration::from_millis(500))).await.unwrap_err();
        assert_eq!(kinds.try_recv().unwrap(), kind);
    }
    outputs(&endless, turns(3)).await;
    assert!(kinds.try_recv().is_err(), "what went well is no failure");
}

#[tokio::test]
async fn inputs_that_nobody_checked_are_refused_and_never_read_beyond_their_end() {
    let model = load("symbols");
    let good = || vec![integers("ids", &[1, 1], &[1]), integers("mask", &[1, 1], &[1]), floats("state", &[2, 1, 1], &[1.0, 2.0])];
    let with = |tensor: Tensor| {
        let mut inputs = good();
        inputs[0] = tensor;
        inputs
    };
    let cases = [
        (good()[1..].to_vec(), Code::InvalidInput),
        (with(integers("ids", &[1, 2], &[1])), Code::InvalidInput),
        (with(integers("ids", &[-1, -1], &[1])), Code::InvalidInput),
        (with(integers("ids", &[1 << 40, 1 << 40], &[1])), Code::InvalidInput),
        (with(integers("ids", &[1], &[1])), Code::InvalidInput),
        (with(tensor("ids", Dtype::Fp64, &[1, 1], vec![0; 8])), Code::InvalidInput),
        (with(tensor("ids", Dtype::Bytes, &[1, 1], vec![9, 0, 0, 0])), Code::InvalidInput),
        (with(tensor("ids", Dtype::Bytes, &[1, 1], vec![0; 8])), Code::InvalidInput),
    ];
    for (inputs, code) in cases {
        assert_eq!(model.infer(inputs.clone(), soon()).await.unwrap_err().code, code, "{inputs:?}");
    }
    outputs(&model, good()).await;
}

#[tokio::test]
async fn a_bool_is_zero_or_one() {
    let model = load("types");
    let inputs = model.info().signature.inputs.iter().map(|spec| {
        let data = if spec.dtype == Dtype::Bool { vec![2] } else { vec![0; spec.dtype.size().unwrap_or(4)] };
        tensor(&spec.name, spec.dtype, &[1], data)
    });
    let fault = model.infer(inputs.collect(), soon()).await.unwrap_err();
    assert_eq!((fault.code, fault.blame), (Code::InvalidInput, Blame::Caller));
    assert_eq!(fault.message, "tensor `in_BOOL`: a BOOL is neither 0 nor 1");
}

#[test]
fn a_warm_up_without_end_is_ended() {
    let options = ModelOptions { warm_up_timeout: Duration::from_millis(100), ..options() };
    let Err(LoadError::WarmUp(fault)) = try_load("endless", &options) else { panic!("it is warm") };
    assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Model));
}
