//! Where mutation begins: small components that together use all of the contract, and the examples' plugins if they are built.

use std::fs;
use std::path::Path;

use crate::guest::{component, handle, init, pass_through, postprocess, preprocess};

const EXAMPLES: [&str; 4] = ["bench/loops", "examples/angle", "examples/digits", "examples/file-type"];
/// Larger ones are compiled too slowly to be tried often.
const EXAMPLE_BYTES_MAX: usize = 64 << 10;

/// Keeps the first setting's value.
const GROW_AND_READ: &str = "(drop (memory.grow (i32.const 3)))
    (i32.store (i32.const 520) (i32.load (i32.load (i32.add (local.get 0) (i32.const 8)))))";
const TABLE: &str = "(table $t 8 funcref) (elem (table $t) (i32.const 0) func $one $two)
    (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))";
const CHANGE_TABLE: &str = "(table.set $t (i32.const 1) (ref.func $two)) (global.set $heap (i32.const 70000))";
const FILL: &str = "(memory.fill (i32.const 1024) (i32.const 7) (i32.const 1000))";
const MODELS: &str = r#"
    (import "sandmill:plugin/models@0.1.0" "infer" (func $infer (param i32 i32 i32 i32 i32)))
    (import "sandmill:plugin/models@0.1.0" "infer-many" (func $many (param i32 i32 i32)))
    (data (i32.const 560) "echo")"#;

/// All of them, the smallest first.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = own().into_iter().chain(EXAMPLES.iter().filter_map(|folder| example(folder))).collect();
    seeds.sort_by_key(Vec::len);
    seeds
}

fn example(folder: &str) -> Option<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    fs::read(root.join(folder).join("plugin.wasm")).ok().filter(|bytes| bytes.len() <= EXAMPLE_BYTES_MAX)
}

fn own() -> Vec<Vec<u8>> {
    let answer = preprocess("(call $answer (i32.const 200) (i32.const 520) (i32.const 8))");
    vec![
        component("processor", &pass_through()),
        component("processor", &talking()),
        component("preprocessor", &recursing()),
        component("preprocessor-with-init", &(init(GROW_AND_READ) + &answer)),
        component("processor-with-init", &(TABLE.to_owned() + &init(CHANGE_TABLE) + &pass_through())),
        component("request-handler", &(MODELS.to_owned() + &handler())),
        component("request-handler-with-init", &(MODELS.to_owned() + &init(FILL) + &handler())),
        component("with-wasi", &wasi()),
        component("with-init-and-wasi", &seeded_init()),
        component("preprocessor", &refusing()),
        component("postprocessor", &postprocess("(call $reply (i32.const 404) (local.get 9) (i32.const 28))")),
    ]
}

/// Asks for settings, the model's description, and logs.
fn talking() -> String {
    let imports = r#"
        (import "sandmill:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32)))
        (import "sandmill:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32)))
        (import "sandmill:plugin/model-info@0.1.0" "signature" (func $signature (param i32 i32 i32)))
        (data (i32.const 560) "mode") (data (i32.const 570) "echo")"#;
    let body = "
        (call $log (i32.const 3) (i32.const 560) (i32.const 14))
        (call $get (i32.const 560) (i32.const 4) (i32.const 600))
        (call $signature (i32.const 570) (i32.const 4) (i32.const 620))
        (call $tensor (i32.load (i32.const 604)) (i32.load (i32.const 608)))";
    format!("{imports} {} {}", preprocess(body), postprocess("(call $reply (i32.const 200) (i32.const 600) (i32.const 60))"))
}

/// Recursion, loops, growth, indirect calls.
fn recursing() -> String {
    let functions = "
        (type $unary (func (param i32) (result i32)))
        (table 4 100 funcref)
        (elem (i32.const 0) $down $up)
        (func $down (type $unary) (if (result i32) (local.get 0)
            (then (call_indirect (type $unary) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))
            (else (i32.const 1))))
        (func $up (type $unary) (loop (br_if 0 (i32.lt_s (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000)))) (local.get 0))";
    let body = "
        (drop (call $down (i32.const 50)))
        (drop (call $up (i32.const 5)))
        (drop (memory.grow (i32.const 1)))
        (drop (table.grow 0 (ref.null func) (i32.const 10)))
        (memory.copy (i32.const 1024) (local.get 9) (local.get 10))
        (call $tensor (i32.const 1024) (local.get 10))";
    format!("{functions} {}", preprocess(body))
}

/// Runs the model on the body, alone and as a batch.
fn handler() -> String {
    let body = "
        (i32.store (i32.const 600) (i32.const 104)) (i32.store (i32.const 604) (i32.const 1))
        (i32.store8 (i32.const 608) (i32.const 1))
        (i32.store (i32.const 612) (i32.const 640)) (i32.store (i32.const 616) (i32.const 1))
        (i32.store (i32.const 620) (local.get 9)) (i32.store (i32.const 624) (local.get 10))
        (i64.store (i32.const 640) (i64.extend_i32_u (local.get 10)))
        (call $infer (i32.const 560) (i32.const 4) (i32.const 600) (i32.const 1) (i32.const 700))
        (i32.store (i32.const 800) (i32.const 560)) (i32.store (i32.const 804) (i32.const 4))
        (i32.store (i32.const 808) (i32.const 600)) (i32.store (i32.const 812) (i32.const 1))
        (call $many (i32.const 800) (i32.const 1) (i32.const 720))
        (if (result i32) (i32.load8_u (i32.const 700))
            (then (call $reply (i32.const 500) (i32.const 704) (i32.const 1)))
            (else (call $reply (i32.const 200)
                (i32.load offset=20 (i32.load (i32.const 704))) (i32.load offset=24 (i32.load (i32.const 704))))))";
    handle(body)
}

fn wasi() -> String {
    let imports = r#"
        (import "wasi:cli/environment@0.2.6" "get-environment" (func $environment (param i32)))
        (import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
        (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))
        (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
        (import "wasi:filesystem/preopens@0.2.6" "get-directories" (func $folders (param i32)))
        (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))
        (import "wasi:random/insecure@0.2.6" "get-insecure-random-u64" (func $insecure (result i64)))"#;
    let body = "
        (call $environment (i32.const 512))
        (call $write (call $stdout) (local.get 9) (local.get 10) (i32.const 528))
        (call $folders (i32.const 544))
        (i64.store (i32.const 560) (call $insecure))
        (i64.store (i32.const 568) (call $now))
        (i64.store (i32.const 576) (call $random))
        (call $answer (i32.const 200) (i32.const 512) (i32.const 80))";
    format!("{imports} {} {}", preprocess(body), postprocess("unreachable"))
}

fn seeded_init() -> String {
    let import = r#"(import "wasi:random/insecure-seed@0.2.6" "insecure-seed" (func $get (param i32)))"#;
    format!(
        "{import} {} {}",
        init("(call $get (i32.const 520))"),
        preprocess("(call $answer (i32.const 200) (i32.const 520) (i32.const 16))")
    )
}

fn refusing() -> String {
    preprocess(
        "(if (result i32) (i32.eqz (local.get 10))
            (then (call $tensors (i32.const 64) (i32.const 2)))
            (else (call $refuse (i32.const 1) (local.get 9) (local.get 10))))",
    )
}
