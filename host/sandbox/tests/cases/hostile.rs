//! Plugins that take more than they are given: time, memory, places, lines of the log. Each ends alone.

use std::future::Future;
use std::time::{Duration, Instant};

use sandmill_domain::ports::Plugin;
use sandmill_domain::{Blame, Code, Deadline, Fault};
use sandmill_sandbox::WasmPlugin;

use crate::guest::{component, pass_through, postprocess, preprocess};
use crate::harness::{self, Harness, body_of, call, output, request, soon};

const PLUGIN_TIME: Duration = Duration::from_millis(60);
/// On a machine that is busy with other things.
const LATE: Duration = Duration::from_secs(20);

/// Runs `future` beside a task on the same thread that does nothing but give way: how often it came to run, too.
async fn beside<T>(future: impl Future<Output = T>) -> (T, u32) {
    let mut turns = 0;
    let others = async {
        loop {
            tokio::task::yield_now().await;
            turns += 1;
        }
    };
    let result = tokio::select! {
        biased;
        result = future => result,
        () = others => unreachable!("it never ends"),
    };
    (result, turns)
}

async fn assert_stopped(plugin: &WasmPlugin) {
    let start = Instant::now();
    let (result, turns) = beside(call(plugin, b"body", soon())).await;
    let fault = result.expect_err("the plugin never ends");
    assert_eq!((fault.code, fault.blame), (Code::PluginTimeout, Blame::Plugin), "{fault}");
    assert_eq!(fault.message, "the plugin ran longer than its plugin_time_ms of 60ms");
    assert!((PLUGIN_TIME..LATE).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(turns >= 5, "others had {turns} turns only");
}

fn patient(harness: &Harness, component: &[u8]) -> WasmPlugin {
    harness.load_with(component, |options| options.limits.time = PLUGIN_TIME)
}

#[tokio::test]
async fn a_loop_without_end_is_stopped_and_others_go_on() {
    let harness = Harness::start();
    let pass = pass_through();
    let guests = [
        preprocess("(loop (br 0)) unreachable"),
        format!("(func $spin (loop (br 0))) (start $spin) {}", preprocess("unreachable")),
        format!(
            r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable) {}"#,
            preprocess("unreachable")
        ),
        // No loop at all: calls that double.
        format!(
            "(func $twice (param i32) (if (local.get 0) (then
                (call $twice (i32.sub (local.get 0) (i32.const 1)))
                (call $twice (i32.sub (local.get 0) (i32.const 1)))))) {}",
            preprocess("(call $twice (i32.const 60)) unreachable")
        ),
        // One instruction that takes long, again and again.
        preprocess(
            "(drop (memory.grow (i32.const 200)))
             (loop (memory.fill (i32.const 65536) (i32.const 1) (i32.const 8000000)) (br 0)) unreachable",
        ),
    ];
    for guest in guests {
        assert_stopped(&patient(&harness, &component("preprocessor", &guest))).await;
        let well = harness.load(&component("processor", &pass));
        assert!(call(&well, b"body", soon()).await.is_ok(), "the next plugin is served");
    }
}

#[tokio::test]
async fn the_time_of_both_halves_is_one() {
    let harness = Harness::start();
    const BUDGET: Duration = Duration::from_millis(1500);
    let spin = "(local $i i64) (loop (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br_if 0 (i64.lt_u (local.get $i) (i64.const 300000000))))";
    let guest =
        preprocess(&format!("{spin} (call $tensor (i32.const 0) (i32.const 0))")) + &postprocess("(loop (br 0)) unreachable");
    let plugin = harness.load_with(&component("processor", &guest), |options| {
        options.limits.time = BUDGET;
    });
    let mut guest = plugin.open(soon()).await.expect("an instance");
    let start = Instant::now();
    guest.preprocess(request(b"")).await.expect("the first half is within the budget");
    let (first, first_took) = (guest.usage().running, start.elapsed());
    // What is waited between the halves, for the model, is not the plugin's.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    let fault = guest.postprocess(&request(b"").head, vec![output(b"")]).await.expect_err("both halves are beyond it");
    assert_eq!(fault.code, Code::PluginTimeout);
    assert!(first_took + start.elapsed() >= BUDGET, "the wait was counted");
    let both = guest.usage().running;
    assert!(both < BUDGET + first, "the second half was counted anew: {first:?}, then {both:?} in all");
}

#[tokio::test]
async fn the_deadline_of_the_request_stops_a_plugin() {
    let harness = Harness::start();
    let plugin = harness.load(&component("preprocessor", &preprocess("(loop (br 0)) unreachable")));
    let deadline = Deadline::after(Instant::now(), PLUGIN_TIME);
    let fault = call(&plugin, b"", deadline).await.unwrap_err();
    assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Plugin));
    assert_eq!(fault.message, "the request's deadline passed while the plugin ran");
    assert!(deadline.is_past(Instant::now()));
    let fault = call(&plugin, b"", deadline).await.unwrap_err();
    assert_eq!((fault.code, fault.blame), (Code::DeadlineExceeded, Blame::Host));
}

#[tokio::test]
async fn a_dropped_call_ends_at_once_and_frees_its_place() {
    let harness = Harness::start();
    let plugin = harness.load(&component("preprocessor", &preprocess("(loop (br 0)) unreachable")));
    for _ in 0..2 * harness::INSTANCES {
        let result = tokio::time::timeout(Duration::from_millis(5), call(&plugin, b"", soon())).await;
        assert!(result.is_err(), "{result:?}");
    }
}

#[tokio::test]
async fn memory_has_a_limit() {
    let harness = Harness::start();
    let hog = "(loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))";
    let dies = harness.load(&component("preprocessor", &preprocess(&format!("{hog} unreachable"))));
    let fault = harness.fault(&dies, b"").await;
    assert_eq!((fault.code, fault.blame), (Code::PluginOutOfMemory, Blame::Plugin));
    assert_eq!(fault.message, "the plugin failed after it reached its plugin_memory_bytes_max of 16777216");

    // One that takes no for an answer goes on, with all that it may have: 256 pages, of which the test sees a byte.
    let lives = preprocess(&format!(
        "{hog} (i32.store (i32.const 512) (i32.sub (memory.size) (i32.const 200))) (call $answer (i32.const 200) (i32.const 512) (i32.const 1))"
    ));
    assert_eq!(body_of(&harness.answer(&harness.load(&component("preprocessor", &lives)), b"").await), [56]);

    // A request beyond what the guest's allocator can have.
    let plugin = harness.load(&component("processor", &pass_through()));
    let fault = call(&plugin, &vec![0; 17 << 20], soon()).await.unwrap_err();
    assert!(fault.message.contains("plugin_memory_bytes_max"), "{fault}");
}

#[tokio::test]
async fn tables_have_a_limit() {
    let harness = Harness::start();
    let grow = preprocess(
        "(loop (br_if 0 (i32.ne (i32.const -1) (table.grow $all (ref.null func) (i32.const 1000)))))
         (i32.store (i32.const 512) (table.size $all)) (call $answer (i32.const 200) (i32.const 512) (i32.const 4))",
    );
    let plugin = harness.load(&component("preprocessor", &format!("(table $all 0 funcref) {grow}")));
    assert_eq!(body_of(&harness.answer(&plugin, b"").await), 20_000_u32.to_le_bytes());
}

#[tokio::test]
async fn a_trap_is_named_and_its_place_kept_for_the_log() {
    let harness = Harness::start();
    let cases = [
        ("unreachable", "the plugin trapped: wasm `unreachable` instruction executed"),
        ("(drop (i32.load (i32.const -4))) unreachable", "the plugin trapped: out of bounds memory access"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0))) unreachable", "the plugin trapped: integer divide by zero"),
        ("(call $deep) unreachable", "the plugin trapped: call stack exhausted"),
    ];
    for (body, message) in cases {
        let guest = format!("(func $deep (call $deep)) {}", preprocess(body));
        let fault = harness.fault(&harness.load(&component("preprocessor", &guest)), b"").await;
        assert_eq!((fault.code, fault.blame, fault.message.as_str()), (Code::PluginTrapped, Blame::Plugin, message));
        let report = fault.report().to_string();
        assert!(report.contains("wasm backtrace"), "{report}");
        assert!(report.contains("deep") == body.contains("deep"), "the log knows functions by their names: {report}");
    }
}

#[tokio::test]
async fn an_instance_is_of_no_use_after_a_trap() {
    let harness = Harness::start();
    let plugin = harness.load(&component("processor", &(preprocess("unreachable") + &postprocess("unreachable"))));
    let mut guest = plugin.open(soon()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(guest.preprocess(request(b"")).await.unwrap_err().code, Code::PluginTrapped);
    }
    assert_eq!(guest.postprocess(&request(b"").head, vec![]).await.unwrap_err().code, Code::PluginTrapped);
}

#[tokio::test]
async fn no_more_instances_than_places() {
    let harness = Harness::start();
    let plugin = harness.load(&component("processor", &pass_through()));
    let mut guests = Vec::new();
    for _ in 0..harness::INSTANCES {
        guests.push(plugin.open(soon()).await.unwrap());
    }
    let fault: Fault = plugin.open(soon()).await.err().unwrap();
    assert_eq!((fault.code, fault.message.as_str()), (Code::Overloaded, "no plugin instance is free"));
    for guest in &mut guests {
        guest.preprocess(request(b"body")).await.unwrap();
    }
    guests.pop();
    assert!(plugin.open(soon()).await.is_ok());
}

#[tokio::test]
async fn the_log_has_a_bound() {
    let log = |body: &str| {
        let import = r#"(import "sandmill:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
        component("preprocessor", &format!("{import} {}", preprocess(body)))
    };
    let harness = Harness::start();
    let flood = log("(local $i i32)
        (loop (call $log (i32.const 3) (local.get 9) (local.get 10))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))
        (call $answer (i32.const 200) (i32.const 0) (i32.const 0))");
    let plugin = harness.load(&flood);
    let logged = harness::logged(harness.answer(&plugin, b"first line\nsecond \x1b[31mline")).await;
    assert_eq!(logged.lines().count(), 101, "{logged}");
    assert!(logged.lines().all(|line| line.contains("WARN plugin: ") && line.contains("function=\"tested\"")));
    assert_eq!(logged.lines().filter(|line| line.contains("first line second  [31mline")).count(), 100);
    assert_eq!(logged.lines().filter(|line| line.contains("further lines of this request are dropped")).count(), 1);

    let logged = harness::logged(harness.answer(&plugin, &[b'x'; 100_000])).await;
    assert!(logged.lines().all(|line| line.len() < 8 * 1024 + 100));

    let plugin = harness.load(&log("(call $log (i32.const 9) (i32.const 0) (i32.const 0)) unreachable"));
    assert_eq!(harness.fault(&plugin, b"").await.code, Code::PluginBadOutput, "there is no level 9");
    let plugin = harness.load(&log("(call $log (i32.const 1) (i32.const -8) (i32.const 100)) unreachable"));
    assert_eq!(harness.fault(&plugin, b"").await.code, Code::PluginBadOutput, "the text lies beyond the memory");
}
