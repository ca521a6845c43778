//! The commands besides `serve`, as a person types them.

use std::process::Output;

use crate::guest;
use crate::harness::{Server, Workshop, example, root, run, sandmill};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn fails(output: &Output, words: &[&str]) {
    let error = text(&output.stderr);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    for word in words {
        assert!(error.contains(word), "`{word}` is not said: {error}");
    }
    assert!(!error.contains("panicked") && !error.contains("backtrace"), "{error}");
}

#[test]
fn version_names_what_runs() {
    let said = succeeds(&run(&["version"]));
    assert!(said.contains(env!("CARGO_PKG_VERSION")) && said.contains("sandmill:plugin@0.1.0"), "{said}");
}

#[test]
fn check_says_what_a_function_is() {
    let folder = example("digits");
    let said = succeeds(&run(&["check", folder.to_str().expect("text")]));
    for word in ["digits", "`X` FP32", "`probabilities` FP32", "preprocess", "postprocess"] {
        assert!(said.contains(word), "`{word}` is not said: {said}");
    }
}

#[test]
fn check_says_what_is_wrong_with_it() {
    let shop = Workshop::new();
    let function = shop.function("bad", "[model]\npath = \"model.onnx\"\n[plugin]\npath = \"plugin.wasm\"\n", Some(b"hello"));
    fails(&run(&["check", function.to_str().expect("text")]), &["bad", "plugin.wasm", "component"]);
    fails(&run(&["check", "/nowhere"]), &["/nowhere"]);
}

#[test]
fn build_makes_a_component_that_serves() {
    let shop = Workshop::new();
    let function = shop.function("built", "[model]\npath = \"model.onnx\"\n[plugin]\npath = \"plugin.wasm\"\n", None);
    let output = function.join("plugin.wasm");
    let arguments = ["build", "plugins/digits", "-o", output.to_str().expect("text")];
    let said = succeeds(&run(&arguments));
    assert!(said.contains("plugin.wasm"), "{said}");
    let server = Server::start(&[function]);
    let sample = std::fs::read(root().join("examples/digits/sample.json")).expect("the sample");
    assert_eq!(server.post("/fn/built", sample).json()["label"], 2);
}

#[test]
fn build_says_what_is_wrong() {
    let shop = Workshop::new();
    fails(&run(&["build", shop.path().to_str().expect("text")]), &["Cargo.toml"]);
    fails(&run(&["build", "/nowhere"]), &["/nowhere"]);
}

#[test]
fn invoke_calls_a_running_server() {
    let server = Server::start(&[example("digits")]);
    let url = format!("http://{}", server.address);
    let sample = root().join("examples/digits/sample.json");
    let sample = sample.to_str().expect("text");
    let said = succeeds(&run(&["invoke", "digits", sample, "--server", &url]));
    assert!(said.contains("\"label\":2"), "{said}");
    let piped =
        sandmill().args(["invoke", "digits", "--server", &url]).stdin(std::fs::File::open(sample).expect("opens")).output();
    assert!(succeeds(&piped.expect("runs")).contains("\"label\":2"));
    fails(&run(&["invoke", "nothing", sample, "--server", &url]), &["404", "nothing"]);
    fails(&run(&["invoke", "digits", "/nowhere.json", "--server", &url]), &["/nowhere.json"]);
    fails(&run(&["invoke", "digits", sample, "--server", "http://127.0.0.1:1"]), &["http://127.0.0.1:1", "running"]);
    fails(&run(&["invoke", "digits", sample, "--server", "nonsense"]), &["nonsense"]);
}

/// The example's own text of a slow start: why, and that it runs all the same.
#[test]
fn check_says_why_a_start_is_slow() {
    let shop = Workshop::new();
    let answer = guest::preprocess("(call $answer (i32.const 200) (i32.const 104) (i32.const 1))");
    let vector = format!("(global $v (mut v128) (v128.const i64x2 0 0)) {} {answer}", guest::init(""));
    let cases = [
        ("quick", "preprocessor-with-init", format!("{} {answer}", guest::init("")), "starts from the memory that its init left"),
        ("none", "preprocessor", answer.clone(), "it exports no `init`, so no snapshot is taken"),
        ("vector", "preprocessor-with-init", vector, "no snapshot can be taken"),
    ];
    for (name, world, text, words) in cases {
        let component = guest::component(world, &text);
        let folder = shop.function(name, "[plugin]\npath = \"plugin.wasm\"\n[sample]\n", Some(&component));
        let said = succeeds(&run(&["check", folder.to_str().expect("UTF-8")]));
        assert!(said.contains(words) && said.contains("sample: 200"), "{name}: {said}");
    }
}
