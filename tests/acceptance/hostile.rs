//! Plugins that mean ill, beside one that means well: theirs is the failure, each with its own answer, and the host goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::guest;
use crate::harness::{PATIENCE, Server, Shared, Workshop, example, wait_until};

/// The time of a call is far beyond the plugin's, so that each limit is seen alone.
const MANIFEST: &str = r#"
[model]
path = "model.onnx"
[preprocess]
path = "plugin.wasm"
[limits]
timeout_ms = 30000
plugin_time_ms = 300
plugin_memory_bytes_max = "16MiB"
"#;

const LOOP: &str = "(loop $for_ever (br $for_ever)) (unreachable)";

/// A function whose preprocess has this body.
fn function(shop: &Workshop, name: &str, body: &str) -> PathBuf {
    let component = guest::component("preprocessor", &guest::preprocess(body));
    shop.function(name, MANIFEST, Some(&component))
}

struct Street {
    server: Server,
    _shop: Workshop,
}

static STREET: Shared<Street> = Shared::new(|| {
    let shop = Workshop::new();
    let functions = [
        example("digits"),
        function(&shop, "loops", LOOP),
        function(&shop, "hogs", "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)"),
        function(&shop, "traps", "(unreachable)"),
        function(&shop, "overflows", "(i32.div_u (i32.const 1) (i32.sub (local.get 10) (local.get 10)))"),
        function(&shop, "lies", "(i32.const 0x7ffffff0)"),
        function(&shop, "misfits", "(call $tensor (local.get 9) (local.get 10))"),
    ];
    Street { server: Server::start(&functions), _shop: shop }
});

/// The well-behaved neighbour.
fn digits_is_well(server: &Server) {
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let answer = server.post("/fn/digits", sample);
    assert_eq!((answer.status, &answer.json()["label"]), (200, &serde_json::json!(2)));
}

fn fails(name: &str, status: u16, code: &str) -> String {
    let street = STREET.get();
    let answer = street.server.post(&format!("/fn/{name}"), b"hello");
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    assert_eq!(answer.json()["code"], code, "{name}");
    digits_is_well(&street.server);
    answer.error()
}

#[test]
fn a_plugin_that_loops_for_ever_ends_at_its_time() {
    let street = STREET.get();
    digits_is_well(&street.server);
    let start = Instant::now();
    let said = fails("loops", 504, "deadline_exceeded");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < PATIENCE, "{took:?}: {said}");
    assert!(said.contains("plugin_time"), "{said}");
}

/// Twice as many loops as there are threads: the neighbour is served while every one of them still runs.
#[test]
fn loops_on_every_thread_do_not_stop_the_neighbour() {
    let street = STREET.get();
    let server = &street.server;
    let line = r#"sandmill_requests_in_flight{function="loops",tenant="default"}"#;
    let loops = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..loops).map(|_| scope.spawn(|| server.post("/fn/loops", b"hello").status)).collect();
        let mut meanwhile = 0;
        while calls.iter().any(|call| !call.is_finished()) {
            digits_is_well(server);
            meanwhile += usize::from(server.metric(line).is_some_and(|count| count > 0.0));
        }
        assert!(meanwhile > 0, "no answer came while the loops ran");
        assert!(calls.into_iter().all(|call| call.join().expect("an answer") == 504));
    });
}

/// As many endless calls as a function may have under way, with every other limit at its default.
#[test]
fn loops_at_their_bound_do_not_stop_the_neighbour() {
    const CALLS: u32 = 64;
    let shop = Workshop::new();
    let manifest = format!("[preprocess]\npath = \"plugin.wasm\"\n[limits]\nconcurrency_max = {CALLS}\n");
    let component = guest::component("preprocessor", &guest::preprocess(LOOP));
    let server = Server::start(&[example("digits"), shop.function("loops", &manifest, Some(&component))]);
    let line = r#"sandmill_requests_in_flight{function="loops",tenant="default"}"#;
    let all_run = || server.metric(line) == Some(f64::from(CALLS));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| server.post("/fn/loops", b"hello").status)).collect();
        wait_until("every loop runs", all_run);
        assert_eq!(server.post("/fn/loops", b"hello").status, 429);
        digits_is_well(&server);
        assert!(all_run(), "the neighbour had to wait for the loops");
        while !calls.iter().all(|call| call.is_finished()) {
            digits_is_well(&server);
        }
        assert!(calls.into_iter().all(|call| call.join().expect("an answer") == 504));
    });
    digits_is_well(&server);
}

#[test]
fn a_plugin_that_takes_all_memory_is_told_its_limit() {
    let _street = STREET.get();
    let said = fails("hogs", 500, "plugin_failed");
    assert!(said.contains("memory"), "{said}");
}

#[test]
fn a_plugin_that_traps_fails_alone() {
    let _street = STREET.get();
    let said = fails("traps", 500, "plugin_failed");
    assert!(said.contains("trap"), "{said}");
    fails("overflows", 500, "plugin_failed");
}

#[test]
fn a_plugin_that_returns_nonsense_fails_alone() {
    let _street = STREET.get();
    fails("lies", 500, "plugin_failed");
}

#[test]
fn a_plugin_whose_tensors_do_not_fit_is_told_which() {
    let _street = STREET.get();
    let said = fails("misfits", 500, "plugin_failed");
    assert!(said.contains("`x`") && said.contains("`X`"), "{said}");
}

#[test]
fn memory_comes_back() {
    let street = STREET.get();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", street.server.pid())).expect("reads");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    for _ in 0..20 {
        fails("hogs", 500, "plugin_failed");
    }
    let before = resident();
    for _ in 0..100 {
        fails("hogs", 500, "plugin_failed");
    }
    let after = resident();
    // One instance's bound is 16 MiB: a hundred that leaked would be 1600.
    assert!(after < before + (64 << 10), "{before} KiB before, {after} KiB after");
}
