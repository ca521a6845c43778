//! `init` and the snapshot that is taken of what it leaves; and instances that serve more than one request.

use std::time::Duration;

use sandmill_domain::ports::{Guest, Plugin, Prepared};
use sandmill_domain::{Asset, Blame, Code, InstanceBudget, InstancePolicy, Setting};
use sandmill_sandbox::{LoadError, PluginOptions, Refusal, Snapshot, Started, WasmPlugin};

use crate::guest::{component, init, postprocess, preprocess};
use crate::harness::{self, Harness, body_of, request, setting, soon};

/// Answers with the eight bytes at 520: what `init` has left there.
fn answer() -> String {
    preprocess("(call $answer (i32.const 200) (i32.const 520) (i32.const 8))")
}

fn guest(body: &str) -> Vec<u8> {
    component("preprocessor-with-init", &(init(body) + &answer()))
}

/// Copies the first four bytes of a text whose address and length lie at `place` to `to`.
fn copy(place: &str, to: u32) -> String {
    format!("(i32.store (i32.const {to}) (i32.load (i32.load {place})))")
}

fn taken(plugin: &WasmPlugin) -> bool {
    matches!(plugin.loaded().made.snapshot, Snapshot::Taken { .. })
}

fn asset(data: &'static [u8]) -> Asset {
    Asset { name: "labels.txt".into(), data: data.into() }
}

#[tokio::test]
async fn init_runs_once_with_settings_and_assets_and_every_request_starts_from_there() {
    let harness = Harness::start();
    let grow = "(drop (memory.grow (i32.const 3)))";
    let body = format!(
        "{grow} {} {}",
        copy("(i32.add (local.get 0) (i32.const 8))", 520),
        copy("(i32.add (local.get 2) (i32.const 8))", 524)
    );
    let with = |data: &'static [u8]| {
        harness.load_with(&guest(&body), |options| {
            options.config = vec![setting("mode", "fast")];
            options.assets = vec![asset(data)];
        })
    };
    let (one, other) = (with(b"cats"), with(b"dogs"));
    assert!(taken(&one) && taken(&other), "{:?}", one.loaded());
    for _ in 0..3 * harness::INSTANCES {
        assert_eq!(body_of(&harness.answer(&one, b"").await), b"fastcats");
        assert_eq!(body_of(&harness.answer(&other, b"").await), b"fastdogs");
    }
    let mut guest = one.open(soon()).await.unwrap();
    guest.preprocess(request(b"")).await.unwrap();
    assert_eq!(guest.usage().memory_bytes, 5 << 16, "what init has grown is there from the start");
}

#[tokio::test]
async fn what_init_may_ask_answers_and_what_it_may_not_is_named() {
    let harness = Harness::start();
    let with = |import: &str, body: &str| component("with-init-and-wasi", &format!("{import} {} {}", init(body), answer()));
    let seed = r#"(import "wasi:random/insecure-seed@0.2.6" "insecure-seed" (func $get (param i32)))"#;
    let seeded = || harness.load(&with(seed, "(call $get (i32.const 520))"));
    let bytes = body_of(&harness.answer(&seeded(), b"").await);
    assert_eq!(body_of(&harness.answer(&seeded(), b"").await), bytes, "a snapshot is the same each time");

    let log = r#"(import "sandmill:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
    let logging = with(log, "(call $log (i32.const 3) (i32.const 104) (i32.const 1))");
    let logged = harness::logged(async { harness.load(&logging) }).await;
    assert!(logged.contains("WARN plugin: x") && logged.contains("function=\"tested\""), "{logged}");

    let cases = [
        (
            r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $f (result i64)))"#,
            "(drop (call $f))",
            "wasi:clocks/monotonic-clock.now",
        ),
        (
            r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func $f (result i64)))"#,
            "(drop (call $f))",
            "wasi:random/random.get-random-u64",
        ),
    ];
    for (import, body, name) in cases {
        let refused = |options: &mut PluginOptions| {
            // A grant is for requests: a snapshot with a moment or a secret in it would be no snapshot.
            options.grants.monotonic_clock = true;
            options.grants.randomness = true;
        };
        let mut options = harness::options();
        refused(&mut options);
        let refusal = harness.0.load(&with(import, body), options).unwrap_err();
        let expected = format!("the plugin used {name} in its init, where it does not answer");
        assert!(matches!(&refusal, LoadError::Refused(Refusal::InitFailed(words)) if *words == expected), "{refusal}");
    }
}

#[tokio::test]
async fn a_secret_is_there_for_requests_alone() {
    let harness = Harness::start();
    let get = r#"(import "sandmill:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    // How many settings init was given, and what it gets for `x`; then the same of the request.
    let asks = "(i32.store (i32.const 512) (i32.const 0)) (call $get (i32.const 104) (i32.const 1) (i32.const 512))";
    let init = init(&format!(
        "(i32.store8 (i32.const 540) (local.get 1)) {asks} (i32.store8 (i32.const 541) (i32.load8_u (i32.const 512)))"
    ));
    let pre = preprocess(&format!(
        "{asks} (i32.store8 (i32.const 542) (i32.load8_u (i32.const 512)))
         (call $answer (i32.const 200) (i32.const 540) (i32.const 3))"
    ));
    let plugin = harness.load_with(&component("preprocessor-with-init", &format!("{get} {init} {pre}")), |options| {
        options.config = vec![Setting { key: "x".into(), value: "hush".into(), secret: true }];
    });
    assert!(taken(&plugin));
    assert_eq!(body_of(&harness.answer(&plugin, b"").await), [0, 0, 1]);
}

#[tokio::test]
async fn an_init_that_refuses_fails_or_never_ends_refuses_the_deployment() {
    let harness = Harness::start();
    let refuses = r#"(func (export "sandmill:plugin/init@0.1.0#init") (param i32 i32 i32 i32) (result i32)
        (i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 104)) (i32.store (i32.const 24) (i32.const 1))
        (i32.const 16))"#;
    let refusal = harness.refusal(&component("preprocessor-with-init", &format!("{refuses} {}", answer())));
    assert_eq!(refusal.to_string(), "the plugin's init refuses: x");
    let failing = [
        ("unreachable", "the plugin trapped: wasm `unreachable` instruction executed"),
        ("(loop (br 0))", "the plugin ran longer than its plugin_init_time_ms of 50ms"),
        (
            "(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) unreachable",
            "the plugin failed after it reached its plugin_memory_bytes_max of 16777216",
        ),
    ];
    for (body, words) in failing {
        let mut options = harness::options();
        options.limits.init_time = Duration::from_millis(50);
        let refusal = harness.0.load(&guest(body), options).unwrap_err().to_string();
        assert_eq!(refusal, format!("the plugin's init failed: {words}"));
    }
    let mut options = harness::options();
    options.limits.init_time = Duration::from_millis(50);
    let start = format!("(func $spin (loop (br 0))) (start $spin) {} {}", init(""), answer());
    let refusal = harness.0.load(&component("preprocessor-with-init", &start), options).unwrap_err().to_string();
    assert_eq!(refusal, "the plugin's init failed: the plugin ran longer than its plugin_init_time_ms of 50ms");
}

#[test]
fn a_component_is_looked_at_without_what_a_function_gives_it() {
    let harness = Harness::start();
    let inspect = |component: &[u8]| harness.0.inspect(component, "looked-at");
    let well = inspect(&guest("")).expect("it is taken");
    assert_eq!((&well.shape[..], &well.grants[..]), (&["preprocess"][..], &[][..]));
    assert!(matches!(well.started, Started::Well(Snapshot::Taken { .. })), "{well:?}");
    assert_eq!(well.exports, ["sandmill:plugin/init@0.1.0", "sandmill:plugin/preprocess@0.1.0"]);
    // Neither settings nor assets.
    let wants = guest("(if (i32.or (local.get 1) (local.get 3)) (then)) (if (i32.eqz (local.get 3)) (then (unreachable)))");
    let failed = inspect(&wants).expect("it is taken").started;
    assert!(
        matches!(&failed, Started::Failed(why) if why.starts_with("the plugin's init failed: the plugin trapped")),
        "{failed:?}"
    );
    let none = inspect(&component("preprocessor", &answer())).expect("it is taken");
    assert_eq!(none.started, Started::Well(Snapshot::NoInit));
    for bad in [&b"no component"[..], &guest("")[..200]] {
        assert!(inspect(bad).is_err());
    }
}

#[tokio::test]
async fn without_a_snapshot_init_runs_for_each_instance() {
    let harness = Harness::start();
    let left = copy("(i32.add (local.get 2) (i32.const 8))", 520);
    // A snapshot cannot keep what a vector global holds.
    let text = format!("(global $v (mut v128) (v128.const i64x2 0 0)) {} {}", init(&left), answer());
    let load = |change: fn(&mut PluginOptions)| {
        harness.load_with(&component("preprocessor-with-init", &text), |options| {
            options.assets = vec![asset(b"cats")];
            change(options);
        })
    };
    let vector = load(|_| {});
    let Snapshot::Impossible(reason) = &vector.loaded().made.snapshot else { panic!("{:?}", vector.loaded()) };
    assert!(reason.contains("v128"), "{reason}");
    assert_eq!(body_of(&harness.answer(&vector, b"").await), b"cats\0\0\0\0");

    let large = harness.load_with(&guest(&left), |options| {
        options.assets = vec![asset(b"dogs")];
        options.limits.snapshot_bytes_max = 100;
    });
    let Snapshot::Impossible(reason) = &large.loaded().made.snapshot else { panic!("{:?}", large.loaded()) };
    assert!(reason.contains("plugin_snapshot_bytes_max"), "{reason}");
    assert_eq!(body_of(&harness.answer(&large, b"").await), b"dogs\0\0\0\0");
}

/// Counts the requests that it has seen in memory, in a global and in a table.
fn counter() -> Vec<u8> {
    let count = "
        (i32.store8 (i32.const 520) (i32.add (i32.const 1) (i32.load8_u (i32.const 520))))
        (global.set $count (i32.add (i32.const 1) (global.get $count)))
        (i32.store8 (i32.const 521) (global.get $count))
        (i32.store8 (i32.const 522) (table.size $kept))
        (drop (table.grow $kept (ref.null func) (i32.const 1)))
        (if (i32.eq (i32.load8_u (local.get 9)) (i32.const 33)) (then unreachable))
        (call $answer (i32.const 200) (i32.const 520) (i32.const 3))";
    let globals = "(global $count (mut i32) (i32.const 0)) (table $kept 0 100 funcref)";
    component("preprocessor", &format!("{globals} {}", preprocess(count)))
}

async fn counts(harness: &Harness, plugin: &WasmPlugin, requests: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    for _ in 0..requests {
        let body = body_of(&harness.answer(plugin, b"x").await);
        assert_eq!(body, [body[0], body[0], body[0] - 1], "memory, global and table tell different stories");
        seen.push(body[0]);
    }
    seen
}

#[tokio::test]
async fn reuse_has_a_budget_and_fresh_keeps_nothing() {
    let harness = Harness::start();
    let load = |instances: InstancePolicy| harness.load_with(&counter(), |options| options.instances = instances);
    assert_eq!(counts(&harness, &load(InstancePolicy::Fresh), 5).await, [1; 5]);
    let budget = InstanceBudget { requests_max: 3, age_max: Duration::from_secs(600), jitter_percent: 0 };
    let plugin = load(InstancePolicy::Reuse(budget));
    assert_eq!(counts(&harness, &plugin, 7).await, [1, 2, 3, 1, 2, 3, 1]);
    let fault = harness.fault(&plugin, b"!").await;
    assert_eq!((fault.code, fault.blame), (Code::PluginTrapped, Blame::Plugin));
    assert_eq!(counts(&harness, &plugin, 1).await, [1], "an instance that failed serves nobody else");
    let old = load(InstancePolicy::Reuse(InstanceBudget { age_max: Duration::ZERO, ..budget }));
    assert_eq!(counts(&harness, &old, 3).await, [1; 3]);
}

/// An instance that has not answered its request well, or not at all, holds what nobody else may see.
#[tokio::test]
async fn an_instance_is_reused_only_after_a_good_answer() {
    let harness = Harness::start();
    let budget = InstanceBudget { requests_max: 100, age_max: Duration::from_secs(600), jitter_percent: 0 };
    let count = "(i32.store8 (i32.const 520) (i32.add (i32.const 1) (i32.load8_u (i32.const 520))))";
    let text = preprocess(&format!("{count} (call $tensor (i32.const 520) (i32.const 1))"))
        + &postprocess("(call $reply (i32.load8_u (i32.const 511)) (i32.const 520) (i32.const 1))");
    let load = |status: u8| {
        let data = format!("(data (i32.const 511) \"\\{status:02x}\")");
        harness.load_with(&component("processor", &(data + &text)), |options| options.instances = InstancePolicy::Reuse(budget))
    };
    let first = async |plugin: &WasmPlugin, answer: bool| {
        let mut guest = plugin.open(soon()).await.unwrap();
        let Prepared::Tensors(tensors) = guest.preprocess(request(b"x")).await.unwrap() else { panic!("no tensors") };
        if answer {
            let _well_or_not = guest.postprocess(&request(b"").head, vec![]).await;
        }
        tensors[0].data[0]
    };
    let good = load(200);
    assert_eq!([first(&good, true).await, first(&good, true).await, first(&good, false).await], [1, 2, 3]);
    assert_eq!(first(&good, true).await, 1, "its request was never answered");
    let bad = load(100);
    assert_eq!([first(&bad, true).await, first(&bad, true).await], [1, 1], "a status of 100 is no answer");
}

/// Nobody has to come for an instance's time to be over.
#[tokio::test]
async fn an_idle_instance_does_not_outlive_its_budget() {
    let harness = Harness::start();
    let budget = InstanceBudget { requests_max: 100, age_max: Duration::from_millis(50), jitter_percent: 0 };
    let plugin = harness.load_with(&counter(), |options| options.instances = InstancePolicy::Reuse(budget));
    let before = harness.0.idle_instances();
    counts(&harness, &plugin, 1).await;
    assert_eq!(harness.0.idle_instances(), before + 1);
    while harness.0.idle_instances() > before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_instance_that_waits_for_reuse_takes_nobodys_place_and_a_request_has_all_its_limits() {
    let harness = Harness::start();
    let budget = InstanceBudget { requests_max: 100, age_max: Duration::from_secs(600), jitter_percent: 10 };
    let plugin = harness.load_with(&counter(), |options| {
        options.instances = InstancePolicy::Reuse(budget);
        options.limits.host_calls_max = 3;
    });
    assert_eq!(counts(&harness, &plugin, 20).await.len(), 20, "host calls are counted for each request");
    let mut guests: Vec<Box<dyn Guest>> = Vec::new();
    for _ in 0..harness::INSTANCES {
        guests.push(plugin.open(soon()).await.unwrap());
    }
    assert_eq!(plugin.open(soon()).await.err().unwrap().code, Code::Overloaded);
    for guest in &mut guests {
        assert!(matches!(guest.preprocess(request(b"x")).await, Ok(Prepared::Reply(_))));
    }
    drop(guests);
    let other = harness.load(&counter());
    let all: Vec<_> = (0..harness::INSTANCES).map(|_| other.open(soon())).collect();
    for guest in futures_util::future::join_all(all).await {
        guest.expect("idle instances leave all places free");
    }
}

/// What a snapshot may not hold is not there for an `init` that runs in each instance either.
#[tokio::test]
async fn without_a_snapshot_init_finds_no_more_than_with_one() {
    let harness = Harness::start();
    let text = |import: &str, body: &str| {
        let vector = "(global $v (mut v128) (v128.const i64x2 0 0))";
        component("with-init-and-wasi", &format!("{import} {vector} {} {}", init(body), answer()))
    };
    let secret = |options: &mut PluginOptions| {
        options.config = vec![Setting { key: "x".into(), value: "hush".into(), secret: true }];
        options.grants.monotonic_clock = true;
        options.grants.randomness = true;
    };
    let get = r#"(import "sandmill:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let asks =
        "(call $get (i32.const 104) (i32.const 1) (i32.const 540)) (i32.store8 (i32.const 520) (i32.load8_u (i32.const 540)))";
    let plugin = harness.load_with(&text(get, asks), secret);
    assert!(matches!(plugin.loaded().made.snapshot, Snapshot::Impossible(_)));
    assert_eq!(body_of(&harness.answer(&plugin, b"").await)[0], 0, "the secret was there");
    let seed = r#"(import "wasi:random/insecure-seed@0.2.6" "insecure-seed" (func $get (param i32)))"#;
    let plugin = harness.load_with(&text(seed, "(call $get (i32.const 520))"), secret);
    assert_eq!(harness.answer(&plugin, b"").await.body, harness.answer(&plugin, b"").await.body);
    for (import, name) in [
        (r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $f (result i64)))"#, "wasi:clocks/monotonic-clock.now"),
        (r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func $f (result i64)))"#, "wasi:random/random.get-random-u64"),
    ] {
        let fault = harness.fault(&harness.load_with(&text(import, "(drop (call $f))"), secret), b"").await;
        let expected = format!("the plugin used {name} in its init, where it does not answer");
        assert_eq!((fault.code, fault.message), (Code::PluginForbidden, expected));
    }
    let plugin = harness.load_with(&text("", "(loop (br 0))"), |options| options.limits.time = Duration::from_millis(50));
    assert_eq!(harness.fault(&plugin, b"").await.code, Code::PluginTimeout);
}

/// A guest that is granted randomness draws something else in each request, although all of them start from one snapshot.
#[tokio::test]
async fn randomness_is_fresh_in_each_request() {
    let harness = Harness::start();
    let draws = [
        (
            r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func $f (result i64)))"#,
            "(i64.store (i32.const 520) (call $f))",
        ),
        (r#"(import "wasi:random/insecure-seed@0.2.6" "insecure-seed" (func $f (param i32)))"#, "(call $f (i32.const 520))"),
    ];
    for (import, draw) in draws {
        let pre = preprocess(&format!("{draw} (call $answer (i32.const 200) (i32.const 520) (i32.const 8))"));
        let text = format!("{import} {} {pre}", init(""));
        let plugin = harness.load_with(&component("with-init-and-wasi", &text), |options| options.grants.randomness = true);
        assert!(taken(&plugin));
        assert_ne!(harness.answer(&plugin, b"").await.body, harness.answer(&plugin, b"").await.body);
    }
}

#[tokio::test]
async fn a_memory_larger_than_the_output_limit_is_part_of_the_snapshot() {
    let harness = Harness::start();
    let grown = guest("(drop (memory.grow (i32.const 40)))");
    let plugin = harness.load_with(&grown, |options| options.limits.output_bytes_max = 1000);
    assert!(taken(&plugin), "{:?}", plugin.loaded());
}
