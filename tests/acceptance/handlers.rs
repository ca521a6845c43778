//! Handlers: one plugin over several real models.

use std::sync::LazyLock;

use serde_json::json;

use crate::harness::{Server, Workshop, example, root, run, wait_until};

/// The component that `sandmill build` makes of `tests/guests/cascade`.
static CASCADE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (guest, file) = (root().join("tests/guests/cascade"), folder.path().join("plugin.wasm"));
    let built = run(&["build", guest.to_str().expect("UTF-8"), "-o", file.to_str().expect("UTF-8")]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(file).expect("it was built")
});

const MODELS: &str =
    "[plugin]\npath = \"plugin.wasm\"\n[models.first]\npath = \"model.onnx\"\n[models.second]\npath = \"model.onnx\"\n";

#[test]
fn a_handler_runs_models_alone_and_side_by_side() {
    let shop = Workshop::new();
    let server = Server::start(&[shop.function("cascade", MODELS, Some(&CASCADE))]);
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let answer = server.post("/fn/cascade", sample);
    assert_eq!(answer.status, 200, "{answer:?}\n{}", server.log());
    let json = answer.json();
    assert_eq!(json["models"], json!(["first", "second"]));
    assert_eq!((&json["alone"], &json["both"]), (&json!(2), &json!([2, 2])));
    assert!(json["refused"].as_str().is_some_and(|text| text.contains("no model `third`")), "{json}");
    assert!(json["misfit"].as_str().is_some_and(|text| text.contains("`Y`") && text.contains('X')), "{json}");

    assert_eq!(server.get("/v2/models/cascade").status, 404, "a handler is no Open Inference Protocol model");
    let count = |name: &str| server.metric(&format!("{name}{{function=\"cascade\",tenant=\"default\"}}"));
    wait_until("the request is counted", || count("sandmill_plugin_inferences_total") == Some(3.0));
    assert_eq!(count("sandmill_inference_duration_seconds_count"), Some(1.0), "one request, its runs added up");
    for histogram in [
        "handle_duration_seconds",
        "plugin_instantiation_duration_seconds",
        "plugin_running_duration_seconds",
        "plugin_memory_bytes",
    ] {
        assert_eq!(count(&format!("sandmill_{histogram}_count")), Some(1.0), "{histogram}");
    }
}

#[test]
fn what_was_compiled_is_found_again_and_counted() {
    let shop = Workshop::new();
    let folder = shop.function("cascade", MODELS, Some(&CASCADE));
    let start = || Server::at_home(shop.path(), std::slice::from_ref(&folder));
    let loads = |server: &Server, cache: &str| {
        server.metric(&format!("sandmill_plugin_loads_total{{cache=\"{cache}\",function=\"cascade\",tenant=\"default\"}}"))
    };
    let gauge = |server: &Server, what: &str| {
        server.metric(&format!("sandmill_plugin_{what}_duration_seconds{{function=\"cascade\",tenant=\"default\"}}"))
    };
    let first = start();
    assert_eq!((loads(&first, "miss"), loads(&first, "hit")), (Some(1.0), None));
    let took = (gauge(&first, "compile"), gauge(&first, "snapshot"));
    assert!(took.0 > Some(0.0) && took.1 > Some(0.0), "{took:?}");
    drop(first);
    let again = start();
    assert_eq!((loads(&again, "miss"), loads(&again, "hit")), (None, Some(1.0)));
    assert_eq!((gauge(&again, "compile"), gauge(&again, "snapshot")), took, "how long it had taken is remembered");
}

#[test]
fn models_are_for_handlers_and_handlers_need_none() {
    let shop = Workshop::new();
    let plain = std::fs::read(example("digits").join("plugin.wasm")).expect("it was built");
    let folder = shop.function("plain", MODELS, Some(&plain));
    let checked = run(&["check", folder.to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && words.contains("does not export `handler`"), "{words}");
    let folder = shop.function("alone", "[plugin]\npath = \"plugin.wasm\"\n", Some(&CASCADE));
    let checked = run(&["check", folder.to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && words.contains("handled whole by the plugin"), "{words}");
}
