//! `[models]`: several models of one function.

use sandmill_catalog::Plugins;
use sandmill_domain::AxisRule;

use crate::fixture::{Fixture, refused, refused_below};

const PLUGIN: &str = "plugin.path = 'plugin.wasm'";
const NEEDS: &str = "it takes a `[plugin]` that handles whole requests to run these";

fn model(name: &str) -> String {
    format!("[models.{name}]\npath = 'model.onnx'\n")
}

#[test]
fn models_come_in_the_order_of_the_file() {
    let manifest = format!("{PLUGIN}\n{}batch_max = 4\n{}axes.seq = 8\n{}", model("zeta"), model("alpha_2"), model("0-m"));
    let function = Fixture::new(&manifest).read().expect("good");
    assert_eq!(function.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["zeta", "alpha_2", "0-m"]);
    let bounds = function.models.iter().map(|model| (model.batch_max, model.axes.get("seq").map(AxisRule::max)));
    assert_eq!(bounds.collect::<Vec<_>>(), [(4, None), (32, Some(8)), (32, None)]);
    assert!(function.models.iter().all(|model| model.file.bytes.as_deref() == Some(b"model".as_slice())));
    assert!(matches!(function.plugins, Plugins::Handler(file) if file.bytes.as_deref() == Some(b"plugin".as_slice())));
    for manifest in [
        "models.b.path = 'model.onnx'\nmodels.a.path = 'model.onnx'\nplugin.path = 'plugin.wasm'",
        "models = { b = { path = 'model.onnx' }, a = { path = 'model.onnx' } }\nplugin.path = 'plugin.wasm'",
        "[models]\nb.path = 'model.onnx'\n[plugin]\npath = 'plugin.wasm'\n[models.a]\npath = 'model.onnx'",
    ] {
        let models = Fixture::new(manifest).read().expect("good").models;
        assert_eq!(models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["b", "a"], "{manifest}");
    }
}

#[test]
fn models_go_with_a_plugin_alone() {
    let (one, several) = ("[model]\npath = 'model.onnx'\n", model("a"));
    let [plugin, pre, post] = ["plugin", "preprocess", "postprocess"].map(|side| format!("[{side}]\npath = 'plugin.wasm'\n"));
    let both = "`[model]` and `[models]` exclude each other: leave out one of them";
    let sides = "`[plugin]` already stands for both sides: leave out one of them";
    refused(&several, [format!("1: models: {NEEDS}")]);
    refused(&format!("{several}{pre}{post}"), [format!("1: models: {NEEDS}, instead of `[preprocess]` and `[postprocess]`")]);
    refused(&format!("{several}{post}"), [format!("1: models: {NEEDS}, instead of `[postprocess]`")]);
    refused(&format!("{several}{plugin}{pre}"), [format!("5: preprocess: {sides}")]);
    refused(&format!("{plugin}{one}{several}"), [format!("5: models: {both}")]);
    refused("plugin.path = 'plugin.wasm'\n[models]", ["2: models: expected at least one model"]);
}

#[test]
fn the_keys_of_a_model_are_the_same() {
    let cases = [
        ("models = 1", "models: expected a table, found an integer"),
        ("models.a = 'x'", "models.a: expected a table, found a string"),
        ("models.a = {}", "models.a.path: this key is missing"),
        ("models.a = { path = 'model.onnx', rows = 1 }", "models.a.rows: unknown key; there are path, from, sha256, batch_max, "),
        ("models.a = { path = 'model.onnx', batch_max = 0 }", "models.a.batch_max: expected an integer from 1 to 2147483647"),
        ("models.a = { path = 'gone' }", "models.a.path: `gone`: there is no such file"),
        ("models.a = { path = '../x' }", "models.a.path: expected a file of this folder, without `..`, found \"../x\""),
        ("models.a = { path = 'model.onnx', sha256 = 'x' }", "models.a.sha256: expected a SHA-256: 64 hexadecimal digits"),
    ];
    for (line, expected) in cases {
        refused_below(PLUGIN, line, expected);
    }
    let zeros = "0".repeat(64);
    let line = format!("models.a = {{ path = 'model.onnx', sha256 = '{zeros}' }}");
    refused_below(PLUGIN, &line, "models.a.sha256: the file has another SHA-256: ");
}

#[test]
fn the_names_of_models_are_plain_and_bounded() {
    let longest = "a".repeat(63);
    assert!(Fixture::new(format!("{PLUGIN}\n{}{}", model(&longest), model("a-_9"))).read().is_ok());
    for (written, shown) in [
        ("A", "A"),
        ("-a", "-a"),
        ("_a", "_a"),
        ("\"\"", "\"\""),
        ("\"a b\"", "\"a b\""),
        ("\"ä\"", "\"ä\""),
        ("\"a/../b\"", "\"a/../b\""),
        (&"a".repeat(64), &"a".repeat(64)),
    ] {
        let expected = format!("models.{shown}: expected a name of lower-case letters, digits, `-` and `_`, ");
        refused_below(PLUGIN, &format!("models.{written}.path = 'model.onnx'"), &expected);
    }
}

#[test]
fn models_are_counted() {
    let manifest = |count| (0..count).fold(format!("{PLUGIN}\n"), |text, at| text + &model(&format!("m{at}")));
    assert_eq!(Fixture::new(manifest(16)).read().expect("good").models.len(), 16);
    refused(&manifest(17), ["2: models: expected at most 16 models, found 17"]);
}

#[test]
fn each_model_tells_its_own_problems() {
    let manifest = format!("{PLUGIN}\n[models.b]\npath = 'gone'\nthreads = 0\n[models.a]\npath = 'lost'\n[models.C]\n");
    refused(
        &manifest,
        [
            "3: models.b.path: `gone`: there is no such file",
            "4: models.b.threads: expected an integer from 1 to 256, found 0",
            "6: models.a.path: `lost`: there is no such file",
            "7: models.C: expected a name of lower-case letters, digits, `-` and `_`, beginning with a letter or digit, 63 at most",
        ],
    );
}
