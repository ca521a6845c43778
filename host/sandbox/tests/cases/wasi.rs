//! Plugins built for `wasm32-wasip2`: they load without a grant, and find nothing there.

use sandmill_domain::{Blame, Code};

use crate::guest::{component, preprocess};
use crate::harness::{self, Harness, body_of};

fn guest(imports: &str, body: &str) -> Vec<u8> {
    component("with-wasi", &format!("{imports} {} {}", preprocess(body), crate::guest::postprocess("unreachable")))
}

#[tokio::test]
async fn what_is_not_granted_is_named_when_it_is_called() {
    let harness = Harness::start();
    let cases = [
        (
            r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $call (result i64)))"#,
            "(drop (call $call))",
            Code::PluginForbidden,
            "the plugin used wasi:clocks/monotonic-clock.now, which it is not granted",
        ),
        (
            r#"(import "wasi:clocks/wall-clock@0.2.0" "now" (func $call (param i32)))"#,
            "(call $call (i32.const 512))",
            Code::PluginForbidden,
            "the plugin used wasi:clocks/wall-clock.now, which it is not granted",
        ),
        (
            r#"(import "wasi:random/random@0.2.6" "get-random-u64" (func $call (result i64)))"#,
            "(drop (call $call))",
            Code::PluginForbidden,
            "the plugin used wasi:random/random.get-random-u64, which it is not granted",
        ),
        (
            r#"(import "wasi:cli/exit@0.2.6" "exit" (func $call (param i32)))"#,
            "(call $call (i32.const 0))",
            Code::PluginTrapped,
            "the plugin called wasi:cli/exit.exit",
        ),
    ];
    for (import, body, code, message) in cases {
        let plugin = harness.load(&guest(import, &format!("{body} unreachable")));
        let fault = harness.fault(&plugin, b"").await;
        assert_eq!((fault.code, fault.blame, fault.message.as_str()), (code, Blame::Plugin, message));
    }
}

#[tokio::test]
async fn there_is_no_environment_and_no_folder() {
    let harness = Harness::start();
    for (interface, function) in [
        ("wasi:cli/environment@0.2.6", "get-environment"),
        ("wasi:cli/environment@0.2.6", "get-arguments"),
        ("wasi:filesystem/preopens@0.2.6", "get-directories"),
    ] {
        let import = format!(r#"(import "{interface}" "{function}" (func $get (param i32)))"#);
        // The length of the list, as a byte.
        let body = "(i32.store (i32.const 516) (i32.const 77)) (call $get (i32.const 512)) (call $answer (i32.const 200) (i32.const 516) (i32.const 1))";
        assert_eq!(body_of(&harness.answer(&harness.load(&guest(&import, body)), b"").await), [0], "{function}");
    }
}

#[tokio::test]
async fn insecure_randomness_answers_and_differs() {
    let harness = Harness::start();
    let seed = r#"(import "wasi:random/insecure-seed@0.2.6" "insecure-seed" (func $get (param i32)))"#;
    let seeded = guest(seed, "(call $get (i32.const 512)) (call $answer (i32.const 200) (i32.const 512) (i32.const 16))");
    let word = r#"(import "wasi:random/insecure@0.2.6" "get-insecure-random-u64" (func $get (result i64)))"#;
    let worded =
        guest(word, "(i64.store (i32.const 512) (call $get)) (call $answer (i32.const 200) (i32.const 512) (i32.const 8))");
    for component in [seeded, worded] {
        let plugin = harness.load(&component);
        assert_ne!(harness.answer(&plugin, b"").await.body, harness.answer(&plugin, b"").await.body);
    }
}

#[tokio::test]
async fn standard_output_is_the_plugins_log() {
    let stream = |interface: &str, function: &str, io: &str, body: &str| {
        let imports = format!(
            r#"(import "{interface}" "{function}" (func $open (result i32)))
               (import "wasi:io/streams@{io}" "[method]output-stream.blocking-write-and-flush"
                    (func $write (param i32 i32 i32 i32)))"#
        );
        guest(&imports, &format!("{body} (call $answer (i32.const 200) (i32.const 0) (i32.const 0))"))
    };
    let harness = Harness::start();
    let write = "(call $write (call $open) (local.get 9) (local.get 10) (i32.const 512))";

    let out = harness.load(&stream("wasi:cli/stdout@0.2.6", "get-stdout", "0.2.6", &write.repeat(2)));
    let logged = harness::logged(harness.answer(&out, b"one\ntwo, ")).await;
    let lines: Vec<&str> = logged.lines().collect();
    assert_eq!(lines.len(), 3, "{logged}");
    for (line, text) in lines.iter().zip(["one", "two, one", "two, "]) {
        assert!(line.contains("INFO plugin: ") && line.contains(text), "{line:?}");
    }

    let err = harness.load(&stream("wasi:cli/stderr@0.2.0", "get-stderr", "0.2.0", write));
    let logged = harness::logged(harness.answer(&err, b"panicked")).await;
    assert!(logged.contains("WARN plugin: panicked"), "{logged}");

    let flood = format!("(loop {write} (br 0))");
    let flooding = stream("wasi:cli/stdout@0.2.6", "get-stdout", "0.2.6", &flood);
    let plugin = harness.load(&flooding);
    // Each round takes another handle and gives none back.
    let logged = harness::logged(async {
        let fault = harness.fault(&plugin, b"again\n").await;
        assert_eq!(fault.code, Code::PluginBadOutput);
    });
    assert_eq!(logged.await.lines().count(), 101);
}
