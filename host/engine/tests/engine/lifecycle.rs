//! What happens to a model's sessions while calls go on: replaced, unloaded, loaded again, found not to work, left to themselves.
//! The sessions are the runtime's; where one must fail, something stands before it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sandmill_domain::ports::Model;
use sandmill_domain::{Advice, Code, Fault, ModelEvent, ModelStage, RecycleReason, Tensor, UnloadReason};
use sandmill_engine::{Budget, EngineOptions, LoadError, ModelOptions, ModelSource, OnnxModel, Session, Stop};

use crate::harness::{DIGIT, digits_bytes, floats, infer, integers, model_bytes, options, outputs, start, within};

/// Longer than anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn no_budget() -> Budget {
    let (requests_max, age_max, growth_bytes_max, failures_max) = (None, None, None, None);
    Budget { requests_max, age_max, growth_bytes_max, failures_max, jitter_percent: 0, hard_factor: 4, pause: Duration::ZERO }
}

fn with(budget: Budget) -> ModelOptions {
    ModelOptions { budget, ..options() }
}

fn digit() -> Vec<Tensor> {
    vec![floats("X", &[1, 64], &DIGIT)]
}

fn source() -> ModelSource {
    ModelSource::of("digits", digits_bytes())
}

/// What happens to the model's sessions from now on.
fn events(model: &OnnxModel) -> Receiver<ModelEvent> {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    model.watch(move |event| {
        if !matches!(event, ModelEvent::Failed { .. } | ModelEvent::Ran { .. }) {
            drop(sender.lock().unwrap().send(event.clone()));
        }
    });
    events
}

fn next(events: &Receiver<ModelEvent>) -> ModelEvent {
    events.recv_timeout(PATIENCE).expect("something happens")
}

/// Calls from eight callers at once, `each` of them by each; every answer is the same.
async fn call(model: &OnnxModel, each: usize) {
    let expected = outputs(model, digit()).await;
    let caller = async || {
        for _ in 0..each {
            assert_eq!(outputs(model, digit()).await[0], expected[0]);
            tokio::task::yield_now().await;
        }
    };
    join_all((0..8).map(|_| caller())).await;
}

/// Calls until something happens.
async fn call_until_next(model: &OnnxModel, events: &Receiver<ModelEvent>) -> ModelEvent {
    loop {
        call(model, 10).await;
        if let Ok(event) = events.try_recv() {
            return event;
        }
    }
}

/// A session that keeps some memory for every run, as long as it lives.
struct Leaky {
    session: Box<dyn Session>,
    kept: Mutex<Vec<Vec<u8>>>,
    bytes: Arc<AtomicUsize>,
}

const LEAK: usize = 64 << 10;

impl Session for Leaky {
    fn run(&self, inputs: &[Tensor], stop: Stop<'_>) -> Result<Vec<Tensor>, Fault> {
        self.kept.lock().unwrap().push(vec![1; LEAK]);
        self.bytes.fetch_add(LEAK, Ordering::SeqCst);
        self.session.run(inputs, stop)
    }

    fn memory_bytes(&self) -> usize {
        self.session.memory_bytes() + self.kept.lock().unwrap().len() * LEAK
    }
}

impl Drop for Leaky {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.kept.lock().unwrap().len() * LEAK, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worn_session_is_replaced_and_no_call_notices() {
    let engine = start(&EngineOptions::default());
    let model = engine.load(source(), &with(Budget { requests_max: Some(50), ..no_budget() })).unwrap();
    let events = events(&model);
    for _ in 0..5 {
        let event = call_until_next(&model, &events).await;
        let ModelEvent::Recycled { reason, held, .. } = event else { panic!("{event:?}") };
        assert_eq!((reason, held), (RecycleReason::Requests, Duration::ZERO));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_model_goes_when_nobody_calls_and_is_back_before_anybody_does() {
    let engine = start(&EngineOptions::default());
    let model = engine.load(source(), &with(no_budget())).unwrap();
    let events = events(&model);
    model.spare(Some(Duration::from_millis(1)));
    assert_eq!(next(&events), ModelEvent::Unloaded { reason: UnloadReason::Idle });
    assert!(!model.is_missed(), "nobody needs it");
    model.spare(None);
    assert!(matches!(next(&events), ModelEvent::Loaded { .. }));
    call(&model, 1).await;
    model.spare(Some(Duration::from_millis(1)));
    assert_eq!(next(&events), ModelEvent::Unloaded { reason: UnloadReason::Idle });
    // Who asks for it by its number has it loaded.
    call(&model, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_leaks_goes_with_it() {
    let bytes = Arc::new(AtomicUsize::new(0));
    let leaked = Arc::clone(&bytes);
    let engine = start(&EngineOptions::default())
        .wrapping(move |session| Box::new(Leaky { session, kept: Mutex::default(), bytes: Arc::clone(&leaked) }));
    let model =
        engine.load(source(), &with(Budget { growth_bytes_max: Some(8 << 20), hard_factor: 100, ..no_budget() })).unwrap();
    let events = events(&model);
    for _ in 0..3 {
        let event = call_until_next(&model, &events).await;
        assert!(matches!(event, ModelEvent::Recycled { reason: RecycleReason::Memory, .. }), "{event:?}");
    }
    drop(model);
    drop(engine);
    assert_eq!(bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_two_sessions_do_not_fit_calls_wait_for_the_next() {
    let one = start(&EngineOptions::default()).load(source(), &options()).unwrap().state().warm_memory_bytes;
    assert!(one > 10_000, "the runtime tells what it holds: {one}");
    let engine = start(&EngineOptions { memory_bytes_max: Some(one + one / 2), ..EngineOptions::default() });
    let model = engine.load(source(), &with(Budget { requests_max: Some(50), hard_factor: 2, ..no_budget() })).unwrap();
    let events = events(&model);
    let event = call_until_next(&model, &events).await;
    let ModelEvent::Recycled { reason: RecycleReason::Requests, took, held, .. } = event else { panic!("{event:?}") };
    assert_eq!(held, took, "there was never room for two");
    assert!(held > Duration::ZERO);
}

/// A file that can be taken away.
fn takeable() -> (ModelSource, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let taken = Arc::clone(&gone);
    let bytes: bytes::Bytes = digits_bytes().into();
    let read = move || if taken.load(Ordering::SeqCst) { Err("it is another one now".to_owned()) } else { Ok(bytes.clone()) };
    (ModelSource { name: "digits".into(), read: Arc::new(read), share: None }, gone)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_be_replaced_goes_on() {
    let engine = start(&EngineOptions::default());
    let (source, gone) = takeable();
    let model = engine.load(source, &with(no_budget())).unwrap();
    let events = events(&model);
    gone.store(true, Ordering::SeqCst);
    model.recycle();
    // Nor is it given up when it fails again.
    for _ in 0..2 {
        assert_eq!(next(&events), ModelEvent::RecycleFailed { reason: RecycleReason::ByHand });
    }
    call(&model, 10).await;
    assert_eq!(model.state().stage, ModelStage::Warm);
    gone.store(false, Ordering::SeqCst);
    let event = next(&events);
    assert!(matches!(event, ModelEvent::Recycled { reason: RecycleReason::ByHand, .. }), "{event:?}");
    assert_eq!(model.state().served, 0, "it is tried again by itself");
}

fn sleepy() -> ModelOptions {
    ModelOptions { contexts_min: 0, idle_max: Some(Duration::from_millis(50)), ..with(no_budget()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_nobody_calls_goes_and_is_loaded_once_for_all_who_come() {
    let engine = start(&EngineOptions::default());
    let model = engine.load(source(), &ModelOptions { health_interval: Duration::ZERO, ..sleepy() }).unwrap();
    model.measure();
    let expected = outputs(&model, digit()).await;
    let events = events(&model);
    for _ in 0..2 {
        assert_eq!(next(&events), ModelEvent::Unloaded { reason: UnloadReason::Idle });
        let state = model.state();
        assert_eq!((state.stage, state.memory_bytes), (ModelStage::Unloaded, 0));
        assert_eq!(model.ailing(), None, "it would be there for its next call");
        let answers = join_all((0..32).map(|_| infer(&model, digit()))).await;
        answers.into_iter().for_each(|answer| assert_eq!(answer.unwrap().outputs[0], expected[0]));
        let event = next(&events);
        assert!(matches!(event, ModelEvent::Loaded { .. }), "{event:?}");
    }
}

#[test]
fn a_model_that_is_being_deployed_is_not_idle() {
    let engine = start(&EngineOptions::default());
    let model = engine.load(source(), &sleepy()).unwrap();
    // Longer than it takes until all models are looked at.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(model.state().stage, ModelStage::Warm);
    assert_eq!(next(&events(&model)), ModelEvent::Unloaded { reason: UnloadReason::Idle });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_model_that_cannot_be_loaded_are_told_when_to_come_again() {
    let engine = start(&EngineOptions::default());
    let (source, gone) = takeable();
    let model = engine.load(source, &sleepy()).unwrap();
    let events = events(&model);
    assert_eq!(next(&events), ModelEvent::Unloaded { reason: UnloadReason::Idle });
    gone.store(true, Ordering::SeqCst);
    for answer in join_all((0..8).map(|_| infer(&model, digit()))).await {
        let fault = answer.unwrap_err();
        assert_eq!(fault.code, Code::NotReady);
        assert!(matches!(fault.advice, Some(Advice::RetryAfter(wait)) if wait <= Duration::from_secs(1)), "{fault:?}");
        assert!(fault.report().to_string().contains("it is another one now"));
    }
    assert_eq!(next(&events), ModelEvent::LoadFailed);
    gone.store(false, Ordering::SeqCst);
    while infer(&model, digit()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(next(&events), ModelEvent::Loaded { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_called_goes_when_another_needs_its_memory() {
    let one = start(&EngineOptions::default()).load(source(), &options()).unwrap().state().warm_memory_bytes;
    let engine = start(&EngineOptions { memory_bytes_max: Some(one * 5 / 2), ..EngineOptions::default() });
    let options = ModelOptions { contexts_min: 0, idle_max: None, ..with(no_budget()) };
    let models: Vec<_> = (0..3).map(|_| engine.load(source(), &options).unwrap()).collect();
    let stages = || models.iter().map(|model| model.state().stage).collect::<Vec<_>>();
    assert_eq!(stages(), [ModelStage::Unloaded, ModelStage::Warm, ModelStage::Warm]);
    // Whoever watches it only now is told all the same.
    let gone = ModelEvent::Unloaded { reason: UnloadReason::Memory };
    assert_eq!(next(&events(&models[0])), gone);
    call(&models[1], 1).await;
    call(&models[0], 1).await;
    assert_eq!(stages(), [ModelStage::Warm, ModelStage::Warm, ModelStage::Unloaded]);
    assert_eq!(next(&events(&models[2])), gone);
    assert!(events(&models[1]).try_recv().is_err(), "it never went");
    let kept = ModelOptions { contexts_min: 1, ..options };
    let full = start(&EngineOptions { memory_bytes_max: Some(one / 2), ..EngineOptions::default() });
    assert!(matches!(full.load(source(), &kept).err().unwrap(), LoadError::NoMemory { .. }));
}

/// A session whose answers can be spoilt, or fail.
struct Spoilt(Box<dyn Session>, Arc<AtomicBool>, bool);

impl Session for Spoilt {
    fn run(&self, inputs: &[Tensor], stop: Stop<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut outputs = self.0.run(inputs, stop)?;
        if self.1.load(Ordering::SeqCst) {
            if self.2 {
                return Err(Fault::new(Code::ModelFailed, "as the test wants"));
            }
            outputs[1].data = vec![0; outputs[1].data.len()].into();
        }
        Ok(outputs)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_answers_otherwise_than_when_it_was_loaded_is_not_ready() {
    let spoilt = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&spoilt);
    let engine = start(&EngineOptions::default()).wrapping(move |session| Box::new(Spoilt(session, Arc::clone(&flag), false)));
    let model = engine.load(source(), &ModelOptions { health_interval: Duration::from_millis(1), ..with(no_budget()) }).unwrap();
    let until = async |ails: bool| {
        while model.ailing().is_some() != ails {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    spoilt.store(true, Ordering::SeqCst);
    until(true).await;
    let ailing = model.ailing().unwrap();
    assert!(ailing.contains("differs by 1.0e0 from when it was loaded"), "{ailing}");
    let served = model.state().served;
    spoilt.store(false, Ordering::SeqCst);
    until(false).await;
    assert_eq!(model.state().served, served, "probes are no use of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_a_row_replace_a_session() {
    let fails = Arc::new(AtomicBool::new(false));
    // Those that are made later work.
    let first = Mutex::new(Some(Arc::clone(&fails)));
    let wrap =
        move |session| Box::new(Spoilt(session, first.lock().unwrap().take().unwrap_or_default(), true)) as Box<dyn Session>;
    let engine = start(&EngineOptions::default()).wrapping(wrap);
    let model = engine.load(source(), &with(Budget { failures_max: Some(3), ..no_budget() })).unwrap();
    let events = events(&model);
    fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(infer(&model, digit()).await.unwrap_err().code, Code::ModelFailed);
    }
    let event = next(&events);
    assert!(matches!(event, ModelEvent::Recycled { reason: RecycleReason::Failures, .. }), "{event:?}");
    call(&model, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_run_had_to_be_ended_is_replaced() {
    let engine = start(&EngineOptions::default());
    let model = engine.load(ModelSource::of("loop", model_bytes("loop")), &with(no_budget())).unwrap();
    let events = events(&model);
    let turns = |count| vec![integers("turns", &[], &[count]), floats("x", &[1], &[0.5])];
    let fault = model.infer(turns(i64::MAX), within(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(fault.code, Code::DeadlineExceeded);
    let event = next(&events);
    assert!(matches!(event, ModelEvent::Recycled { reason: RecycleReason::Overrun, .. }), "{event:?}");
    assert_eq!(outputs(&model, turns(3)).await, [floats("y", &[1], &[3.5])]);
}

/// How many rows and columns one core multiplies in some seconds.
const GIANT: i64 = 6000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_does_not_listen_is_left_to_itself() {
    let engine = start(&EngineOptions { abandoned_max: 0, ..EngineOptions::default() });
    let ailing = engine.ailing();
    let model = engine.load(ModelSource::of("giant", model_bytes("giant")), &with(no_budget())).unwrap();
    let other = engine.load(source(), &with(no_budget())).unwrap();
    let events = events(&model);
    let size = |n| vec![integers("n", &[1], &[n])];
    let fault = model.infer(size(GIANT), within(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(fault.code, Code::DeadlineExceeded);
    assert_eq!(next(&events), ModelEvent::Abandoned);
    assert!(ailing().is_some_and(|why| why.contains("abandoned_max")), "one is more than none");
    assert_eq!(model.state().abandoned, 1);
    // Its only context is another thread by now.
    assert_eq!(outputs(&model, size(2)).await, [floats("y", &[], &[8.0])]);
    call(&other, 2).await;
    let event = next(&events);
    assert!(matches!(event, ModelEvent::Recycled { reason: RecycleReason::Abandoned, .. }), "{event:?}");
    assert_eq!(next(&events), ModelEvent::Returned);
    assert_eq!((model.state().abandoned, ailing()), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_outlives_its_model_is_counted_until_it_ends() {
    let engine = start(&EngineOptions { abandoned_max: 0, ..EngineOptions::default() });
    let ailing = engine.ailing();
    let model = engine.load(ModelSource::of("giant", model_bytes("giant")), &with(no_budget())).unwrap();
    let events = events(&model);
    let input = vec![integers("n", &[1], &[GIANT])];
    let fault = model.infer(input, within(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(fault.code, Code::DeadlineExceeded);
    assert_eq!(next(&events), ModelEvent::Abandoned);
    assert!(ailing().is_some());
    // It waits for the run for a while, and then leaves it to itself.
    drop(model);
    let begun = Instant::now();
    while ailing().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the run has ended long ago");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
