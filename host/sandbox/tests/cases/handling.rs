//! Handlers: plugins that answer whole requests and run models through the contract's `models`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sandmill_domain::fair::Flow;
use sandmill_domain::ports::{BoxFuture, Plugin, Share};
use sandmill_domain::{Code, Deadline, Dtype, Fault, Priority, Reply, Tensor, Urgency};
use sandmill_sandbox::WasmPlugin;
use tokio::sync::Notify;

use crate::guest::{component, handle, preprocess};
use crate::harness::{Harness, TestModel, request, soon};

const INFER: &str = r#"(import "sandmill:plugin/models@0.1.0" "infer" (func $infer (param i32 i32 i32 i32 i32)))"#;
const INFER_MANY: &str = r#"(import "sandmill:plugin/models@0.1.0" "infer-many" (func $many (param i32 i32 i32)))"#;

/// Writes the tensor `x`, uint8 [length], of the request's body to 600; its shape lies at 640.
const TENSOR: &str = "
    (i32.store (i32.const 600) (i32.const 104)) (i32.store (i32.const 604) (i32.const 1))
    (i32.store8 (i32.const 608) (i32.const 1))
    (i32.store (i32.const 612) (i32.const 640)) (i32.store (i32.const 616) (i32.const 1))
    (i32.store (i32.const 620) (local.get 9)) (i32.store (i32.const 624) (local.get 10))
    (i64.store (i32.const 640) (i64.extend_i32_u (local.get 10)))";

/// Runs the model `echo` on it; the result lies at 700: whether it is an error, and at 704 the outputs.
const RUN: &str = "(call $infer (i32.const 560) (i32.const 4) (i32.const 600) (i32.const 1) (i32.const 700))";

/// Answers with the first output, or with 500 and the error's kind as the body.
const ANSWER: &str = "
    (if (result i32) (i32.load8_u (i32.const 700))
        (then (call $reply (i32.const 500) (i32.const 704) (i32.const 1)))
        (else (call $reply (i32.const 200)
            (i32.load offset=20 (i32.load (i32.const 704))) (i32.load offset=24 (i32.load (i32.const 704))))))";

fn guest(body: &str) -> Vec<u8> {
    component("request-handler", &format!(r#"{INFER} {INFER_MANY} (data (i32.const 560) "echo") {}"#, handle(body)))
}

fn echoing() -> Vec<u8> {
    guest(&format!("{TENSOR} {RUN} {ANSWER}"))
}

/// A model that gives back what it gets.
fn echo() -> Arc<TestModel> {
    TestModel::new("echo", "x", |inputs| Box::pin(async { Ok(inputs) }))
}

fn load(harness: &Harness, component: &[u8], model: &Arc<TestModel>) -> WasmPlugin {
    harness.load_with(component, |options| options.models = vec![model.clone()])
}

async fn run(plugin: &WasmPlugin, body: &[u8]) -> Result<Reply, Fault> {
    plugin.open(soon()).await?.handle(request(body)).await
}

#[tokio::test]
async fn a_handler_runs_a_model_and_answers() {
    let harness = Harness::start();
    let model = echo();
    let plugin = load(&harness, &echoing(), &model);
    assert!(plugin.handles() && !plugin.preprocesses() && !plugin.postprocesses());
    let big: Vec<u8> = (0..600_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut guest = plugin.open(soon()).await.unwrap();
    let reply = guest.handle(request(&big)).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, big.len()));
    assert!(reply.body[..] == big, "other bytes came back");
    let usage = guest.usage();
    assert_eq!((usage.inferences, usage.queued, usage.inference), (1, Duration::from_millis(1), Duration::from_millis(2)));
    assert_eq!(model.returned(), 1);
}

#[tokio::test]
async fn what_goes_wrong_with_a_run_is_the_guests_to_handle() {
    let harness = Harness::start();
    let failing = |code: Code| TestModel::new("echo", "x", move |_| Box::pin(async move { Err(Fault::new(code, "no")) }));
    let cases = [
        (TestModel::new("other", "x", |inputs| Box::pin(async { Ok(inputs) })), 0),
        (TestModel::new("echo", "pixels", |inputs| Box::pin(async { Ok(inputs) })), 1),
        (failing(Code::Overloaded), 2),
        (failing(Code::DeadlineExceeded), 3),
        (failing(Code::ModelFailed), 4),
    ];
    for (model, kind) in cases {
        let reply = run(&load(&harness, &echoing(), &model), b"abc").await.unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (500, &[kind][..]));
    }
    // Data that is shorter than its shape says.
    let lying = guest(&format!("{TENSOR} (i64.store (i32.const 640) (i64.const 99)) {RUN} {ANSWER}"));
    let reply = run(&load(&harness, &lying, &echo()), b"abc").await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (500, &[1][..]));
}

#[tokio::test]
async fn what_breaks_the_contract_or_a_limit_ends_the_guest() {
    let harness = Harness::start();
    let cases = [
        ("(i32.store8 (i32.const 608) (i32.const 99))", "broke its contract"),
        ("(i32.store (i32.const 620) (i32.const -8))", "broke its contract"),
        ("(i32.store8 (i32.const 560) (i32.const 255))", "broke its contract"),
        ("(i32.store (i32.const 624) (i32.const 2000))", "plugin_tensor_bytes_max of 1000"),
    ];
    for (lie, words) in cases {
        let plugin = harness.load_with(&guest(&format!("{TENSOR} {lie} {RUN} {ANSWER}")), |options| {
            options.models = vec![echo()];
            options.limits.tensor_bytes_max = 1000;
        });
        let fault = run(&plugin, b"abc").await.unwrap_err();
        assert_eq!(fault.code, Code::PluginBadOutput, "{fault}");
        assert!(fault.message.contains(words), "{fault}");
    }
    // More tensors than a call may have, all at the same place.
    let many = guest(&format!(
        "{TENSOR} (call $infer (i32.const 560) (i32.const 4) (i32.const 600) (i32.const 4000) (i32.const 700)) {ANSWER}"
    ));
    let fault = run(&load(&harness, &many, &echo()), b"abc").await.unwrap_err();
    assert_eq!(fault.code, Code::PluginBadOutput, "{fault}");
    let flood = guest(&format!("{TENSOR} (loop {RUN} (br 0)) unreachable"));
    let plugin = harness.load_with(&flood, |options| {
        options.models = vec![echo()];
        options.limits.host_calls_max = 100;
    });
    let fault = run(&plugin, b"abc").await.unwrap_err();
    assert_eq!(fault.code, Code::PluginBadOutput);
    assert!(fault.message.contains("plugin_host_calls_max of 100"), "{fault}");
}

#[tokio::test]
async fn many_runs_are_side_by_side() {
    let harness = Harness::start();
    let waiting = Arc::new((AtomicUsize::new(0), Notify::new()));
    let both = Arc::clone(&waiting);
    // Each run ends only when there are two.
    let model = TestModel::new("echo", "x", move |inputs| {
        let both = Arc::clone(&both);
        Box::pin(async move {
            let second = both.1.notified();
            if both.0.fetch_add(1, Ordering::SeqCst) == 0 {
                second.await
            } else {
                both.1.notify_waiters()
            }
            Ok(inputs)
        })
    });
    // Two calls at 800, each of its model's name and its inputs; results of 16 bytes at 700: a list.
    let calls = "
        (i32.store (i32.const 800) (i32.const 560)) (i32.store (i32.const 804) (i32.const 4))
        (i32.store (i32.const 808) (i32.const 600)) (i32.store (i32.const 812) (i32.const 1))
        (i64.store (i32.const 816) (i64.load (i32.const 800))) (i64.store (i32.const 824) (i64.load (i32.const 808)))
        (call $many (i32.const 800) (i32.const 2) (i32.const 700))
        (i32.store8 (i32.const 840) (i32.load (i32.const 704)))
        (i32.store8 (i32.const 841) (i32.load8_u (i32.load (i32.const 700))))
        (i32.store8 (i32.const 842) (i32.load8_u offset=16 (i32.load (i32.const 700))))
        (call $reply (i32.const 200) (i32.const 840) (i32.const 3))";
    let plugin = load(&harness, &guest(&format!("{TENSOR} {calls}")), &model);
    let reply = run(&plugin, b"abc").await.unwrap();
    assert_eq!(reply.body[..], [2, 0, 0], "two results, no error");
    assert_eq!(waiting.0.load(Ordering::SeqCst), 2);
}

/// Counts what is paced by it.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Share for Counted {
    fn flow(&self) -> Flow {
        Flow::new()
    }

    fn weight(&self) -> NonZeroU32 {
        NonZeroU32::MIN
    }

    fn pace(self: Arc<Self>, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        work
    }
}

#[tokio::test]
async fn runs_take_turns_by_the_handlers_share() {
    let (harness, share) = (Harness::start(), Arc::<Counted>::default());
    let plugin = harness.load_with(&echoing(), |options| {
        options.models = vec![echo()];
        options.share = Some(Arc::clone(&share) as Arc<dyn Share>);
    });
    for runs in 1..=3 {
        assert_eq!(&run(&plugin, b"it").await.unwrap().body[..], b"it");
        assert_eq!(share.0.load(Ordering::Relaxed), runs);
    }
}

#[tokio::test]
async fn a_run_is_as_urgent_as_its_request() {
    let harness = Harness::start();
    let model = echo();
    let plugin = load(&harness, &echoing(), &model);
    let urgency = Urgency { priority: Priority::Low, ..soon() };
    plugin.open(urgency).await.unwrap().handle(request(b"abc")).await.unwrap();
    assert_eq!(model.asked.lock().unwrap()[..], [urgency]);
}

#[tokio::test]
async fn the_deadline_binds_a_run() {
    let harness = Harness::start();
    let model = TestModel::new("echo", "x", |_| Box::pin(std::future::pending()));
    let plugin = load(&harness, &echoing(), &model);
    let start = Instant::now();
    let deadline = Deadline::after(start, Duration::from_millis(50));
    let result = plugin.open(deadline.into()).await.unwrap().handle(request(b"abc")).await;
    // The guest hears of it, or is ended by then.
    match result {
        Ok(reply) => assert_eq!((reply.status.as_u16(), &reply.body[..]), (500, &[3][..])),
        Err(fault) => assert_eq!(fault.code, Code::DeadlineExceeded),
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// What a sanitizer would see, the test sees by itself: memory that is given back is spoiled, and the guest's own is used by
/// others at once. The engine's thread may look at the inputs long after the request, its instance and its memory are gone.
#[tokio::test]
async fn a_run_outlives_its_caller_without_looking_at_its_memory() {
    let harness = Harness::start();
    let (begun, inputs) = std::sync::mpsc::channel::<Vec<Tensor>>();
    let begin = Arc::new(Notify::new());
    let began = Arc::clone(&begin);
    let model = TestModel::new("echo", "x", move |inputs| {
        // As the engine does: what runs holds the inputs, the caller's future does not.
        begun.send(inputs).expect("the test waits");
        began.notify_one();
        Box::pin(std::future::pending())
    });
    let plugin = load(&harness, &echoing(), &model);
    let body = vec![7; 600_000];
    let mut guest = plugin.open(soon()).await.unwrap();
    tokio::select! {
        _ = guest.handle(request(&body)) => panic!("the model never answers"),
        () = begin.notified() => {}
    }
    drop(guest);
    // Others use the memory that the guest had.
    let other = load(&harness, &echoing(), &echo());
    for _ in 0..2 * crate::harness::INSTANCES {
        run(&other, &vec![9; 600_000]).await.unwrap();
    }
    let inputs = inputs.recv().unwrap();
    assert!(inputs[0].data.iter().all(|byte| *byte == 7), "the run saw another request's memory");
    assert_eq!(model.returned(), 0);
    drop(inputs);
    assert_eq!(model.returned(), 1, "the buffer goes home when the run is over");
}

#[tokio::test]
async fn models_are_for_handlers_alone() {
    let harness = Harness::start();
    let text = format!("{INFER} {}", preprocess("unreachable"));
    let refusal = harness.refusal(&component("preprocessor-with-models", &text));
    assert!(refusal.to_string().contains("sandmill:plugin/models@0.1.0"), "{refusal}");
}

/// What the host does for a guest is not the guest's time.
#[tokio::test]
async fn time_in_a_run_is_not_the_plugins() {
    let harness = Harness::start();
    let model = TestModel::new("echo", "x", |inputs| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(inputs)
        })
    });
    let plugin = harness.load_with(&echoing(), |options| {
        options.models = vec![model];
        options.limits.time = Duration::from_millis(100);
    });
    let mut guest = plugin.open(soon()).await.unwrap();
    let reply = guest.handle(request(b"abc")).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"abc"[..]));
    assert!(guest.usage().running < Duration::from_millis(100), "{:?}", guest.usage());
}

/// Models may give much more than they get.
#[tokio::test]
async fn what_models_give_has_a_bound_too() {
    let harness = Harness::start();
    let model = TestModel::new("echo", "x", |_| {
        let shape = vec![2000];
        let large = Tensor { name: "y".into(), dtype: Dtype::Uint8, shape, data: vec![1; 2000].into() };
        Box::pin(async { Ok(vec![large]) })
    });
    for (max, fits) in [(2000, true), (1999, false)] {
        let plugin = harness.load_with(&echoing(), |options| {
            options.models = vec![model.clone()];
            options.limits.output_bytes_max = max;
        });
        let result = run(&plugin, b"abc").await;
        assert_eq!(result.is_ok(), fits, "{result:?}");
        if let Err(fault) = result {
            assert_eq!(fault.code, Code::PluginBadOutput);
            assert!(fault.message.contains("plugin_output_bytes_max of 1999"), "{fault}");
        }
    }
}
