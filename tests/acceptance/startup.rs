//! What is wrong at the start is said at once, in words that lead to the mend; the exit is 1, and nothing looks like a crash.

use std::net::TcpListener;
use std::process::Command;

use crate::harness::{Server, Workshop, example, root, sandmill};

/// The command fails with status 1 and says all of these on standard error.
fn fails(command: &mut Command, words: &[&str]) {
    let output = command.output().expect("the binary runs");
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
    for word in words {
        assert!(error.contains(word), "{command:?} does not say `{word}`: {error}");
    }
    for sign in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!error.contains(sign), "{error}");
    }
}

fn serve(function: &std::path::Path) -> Command {
    let mut command = sandmill();
    command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--function"]).arg(function);
    command
}

const MANIFEST: &str = "[model]\npath = \"model.onnx\"\n[plugin]\npath = \"plugin.wasm\"\n";

#[test]
fn a_broken_manifest_is_told_by_file_line_and_key() {
    let shop = Workshop::new();
    let typo = shop.function("typo", "[model]\npath = \"model.onnx\"\nbatch_maxx = 3\n", None);
    fails(&mut serve(&typo), &["typo/function.toml", "3", "batch_maxx"]);
    let kinds = shop.function("kinds", "methods = 7\n[model]\npath = \"model.onnx\"\nbatch_max = \"many\"\n", None);
    fails(&mut serve(&kinds), &["function.toml:1", "methods", "function.toml:4", "batch_max"]);
    let syntax = shop.function("syntax", "[model\n", None);
    fails(&mut serve(&syntax), &["syntax/function.toml", "1"]);
}

#[test]
fn a_folder_or_a_file_that_is_not_there() {
    let shop = Workshop::new();
    fails(&mut serve(&shop.path().join("nowhere")), &["nowhere"]);
    fails(&mut serve(shop.path()), &["function.toml"]);
    let function = shop.function("no-plugin", MANIFEST, None);
    fails(&mut serve(&function), &["no-plugin", "plugin.wasm"]);
}

#[test]
fn a_file_that_is_no_component() {
    let shop = Workshop::new();
    let text = shop.function("text", MANIFEST, Some(b"hello"));
    fails(&mut serve(&text), &["text", "plugin.wasm", "component"]);
    let core = wat::parse_str("(module)").expect("a module");
    let core = shop.function("core", MANIFEST, Some(&core));
    fails(&mut serve(&core), &["core", "plugin.wasm", "component"]);
}

#[test]
fn a_component_with_a_refused_import_is_told_which() {
    let shop = Workshop::new();
    let component = r#"(component
        (import "wasi:sockets/tcp@0.2.6" (instance))
        (import "wasi:http/outgoing-handler@0.2.6" (instance)))"#;
    let component = wat::parse_str(component).expect("a component");
    let function = shop.function("greedy", MANIFEST, Some(&component));
    fails(&mut serve(&function), &["greedy", "wasi:sockets/tcp@0.2.6", "wasi:http/outgoing-handler@0.2.6"]);
}

#[test]
fn a_model_that_is_no_onnx() {
    let shop = Workshop::new();
    let function = shop.function("no-model", "[model]\npath = \"model.onnx\"\n", None);
    for garbage in [&b"hello, I am no model"[..], b"", &[0; 4096], &[0xff; 4096]] {
        shop.write("no-model/model.onnx", garbage);
        fails(&mut serve(&function), &["no-model", "model.onnx"]);
    }
    let whole = std::fs::read(root().join("examples/digits/model.onnx")).expect("the model");
    shop.write("no-model/model.onnx", &whole[..whole.len() / 2]);
    fails(&mut serve(&function), &["no-model", "model.onnx"]);
}

/// More functions than are loaded at once: they are all there, or the one that is bad is named and nothing is served.
#[test]
fn many_functions_all_start_or_none() {
    let shop = Workshop::new();
    let functions: Vec<_> =
        (0..9).map(|number| shop.function(&format!("f{number}"), "model.path = 'model.onnx'\n", None)).collect();
    let server = Server::start(&functions);
    for number in 0..9 {
        assert_eq!(server.get(&format!("/v2/models/f{number}/ready")).status, 200, "f{number}");
    }
    drop(server);
    shop.write("f0/model.onnx", "no model");
    let mut all = sandmill();
    all.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    functions.iter().for_each(|function| {
        all.arg("--function").arg(function);
    });
    fails(&mut all, &["f0", "model.onnx"]);
}

/// The angle plugin makes a tensor for another model: its sample request tells before anything is served.
#[test]
fn a_plugin_whose_tensors_do_not_fit_the_model() {
    let shop = Workshop::new();
    let plugin = std::fs::read(example("angle").join("plugin.wasm")).expect("the plugin");
    let manifest = format!("{MANIFEST}[sample]\nbody = \"sample.bin\"\n");
    let function = shop.function("mismatch", &manifest, Some(&plugin));
    shop.write("mismatch/sample.bin", vec![0; 110_592]);
    fails(&mut serve(&function), &["mismatch", "sample", "`x`", "`X`"]);
}

#[test]
fn a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = sandmill();
    command.args(["serve", "--listen", &address, "--control", "127.0.0.1:0", "--function"]).arg(example("digits"));
    fails(&mut command, &[&address, "in use"]);
}

#[test]
fn an_address_that_strangers_reach() {
    let mut command = sandmill();
    command.args(["serve", "--listen", "0.0.0.0:0", "--control", "127.0.0.1:0", "--function"]).arg(example("digits"));
    fails(&mut command, &["0.0.0.0", "expose_without_keys"]);
}

#[test]
fn a_missing_runtime_library() {
    let mut command = serve(&example("digits"));
    fails(command.env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so"), &["/nowhere/libonnxruntime.so", "make setup"]);
    let shop = Workshop::new();
    let text = shop.write("libonnxruntime.so", "no library");
    fails(serve(&example("digits")).env("ORT_DYLIB_PATH", &text), &["libonnxruntime.so"]);
}

#[test]
fn a_broken_configuration_tells_all_its_mistakes() {
    let shop = Workshop::new();
    let config = shop.write("sandmill.toml", "listen = \"nowhere\"\n[edge]\nconnections_max = 0\nbody_timeout = 3\n");
    let mut command = serve(&example("digits"));
    fails(
        command.arg("--config").arg(&config),
        &["sandmill.toml:1", "listen", "sandmill.toml:3", "connections_max", "body_timeout"],
    );
    let mut command = serve(&example("digits"));
    fails(command.args(["--config", "/nowhere/sandmill.toml"]), &["/nowhere/sandmill.toml"]);
}

/// Connections must not use up what the control listener and the models need.
#[test]
fn file_descriptors_are_taken_up_to_the_hard_limit() {
    let server = Server::with_descriptors(256, &[example("digits")]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("reads");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let [soft, hard]: [&str; 2] = line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().try_into().expect("two limits");
    assert_eq!(soft, hard, "{line}");
    assert_ne!(soft, "256", "the test's hard limit is no higher than the soft one that it sets");
}

#[test]
fn nothing_to_serve() {
    let mut command = sandmill();
    fails(command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]), &["--function"]);
}

#[test]
fn a_function_that_could_never_answer() {
    let shop = Workshop::new();
    let greedy = shop.function("greedy", "[model]\npath = \"model.onnx\"\n[limits]\nbody_bytes_max = \"1GiB\"\n", None);
    fails(&mut serve(&greedy), &["greedy", "body_bytes_max", "buffered_bytes_max"]);
    let text = crate::guest::postprocess("(call $reply (i32.const 200) (i32.const 0) (i32.const 0))");
    let plugin = crate::guest::component("postprocessor", &text);
    let mute = shop.function("mute", "[plugin]\npath = \"plugin.wasm\"\n", Some(&plugin));
    fails(&mut serve(&mute), &["mute", "preprocess"]);
}
