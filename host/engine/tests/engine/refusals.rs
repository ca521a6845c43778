//! What is no model, or none that can be served: each is an error in words, never a crash.

use std::path::Path;

use bytes::Bytes;
use sandmill_engine::{Engine, EngineError, EngineOptions, LoadError, ModelOptions, ModelSource, Refusal};

use crate::harness::{ENGINE, digits_bytes, options, start, try_load};

fn refusal(name: &str, options: &ModelOptions) -> String {
    try_load(name, options).err().unwrap_or_else(|| panic!("{name} was loaded")).to_string()
}

#[test]
fn garbage_is_no_model() {
    let random = |len: u32| (0..len).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect::<Vec<_>>();
    let digits = digits_bytes();
    let flatbuffers = [&b"\x1c\0\0\0ORTM"[..], &[0; 64]].concat();
    let mut cases = vec![vec![], vec![0], vec![0xff; 100], b"a text, and no model\n".to_vec(), flatbuffers];
    cases.extend([1, 17, 4096, 100_000].map(random));
    cases.extend([1, 10, 100, 1000, digits.len() / 2, digits.len() - 1].map(|len| digits[..len].to_vec()));
    for bytes in cases {
        let start = bytes[..bytes.len().min(12)].to_vec();
        let len = bytes.len();
        let error = ENGINE.load(ModelSource { name: "garbage".into(), bytes: bytes.into() }, &options()).err();
        let text = error.unwrap_or_else(|| panic!("{len} bytes from {start:?} were loaded")).to_string();
        assert!(text.starts_with("no ONNX model that the runtime can load: "), "{text}");
    }
}

#[test]
fn a_model_in_the_runtimes_own_format_is_refused() {
    let bytes = Bytes::from_static(include_bytes!("../models/scalar.ort"));
    let error = ENGINE.load(ModelSource { name: "scalar".into(), bytes }, &options()).err().expect("it is not ONNX");
    assert!(matches!(error, LoadError::Refused(Refusal::Flatbuffers)), "{error}");
}

#[test]
fn what_has_no_counterpart_is_named() {
    let cases = [
        ("sequence", "the model's output `y` is a Sequence<"),
        ("optional", "the model's input `x` is a Option<"),
        ("float8", "the model's input `x` is a Tensor<f8_e4m3fn>"),
        ("no_rank", "the model's input `x` does not declare its axes"),
    ];
    for (name, expected) in cases {
        let text = refusal(name, &options());
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn a_bound_for_an_axis_that_is_not_there_names_those_that_are() {
    let options = ModelOptions { axes: [("sequence".to_owned(), 5)].into(), ..options() };
    let text = refusal("symbols", &options);
    assert_eq!(text, "the model has no axis `sequence` that varies; it has `batch`, `seq`, `state[2]`");
    assert_eq!(refusal("scalar", &options), "the model has no axis `sequence` that varies; it has none");
}

#[test]
fn a_model_that_fails_on_zeros_is_refused_in_the_runtimes_words() {
    let text = refusal("no_zeros", &options());
    assert!(text.starts_with("the model fails to warm up on zeros: the model's run failed: "), "{text}");
    assert!(text.contains("Reshape"), "{text}");
}

#[test]
fn weights_in_other_files_are_refused() {
    // The tests run where this file is, which the runtime would read by itself.
    assert!(Path::new("Cargo.toml").exists());
    let text = refusal("external", &options());
    assert!(text.contains("in another file, `Cargo.toml`"), "{text}");
}

#[test]
fn a_process_has_one_library() {
    let second = start(&EngineOptions::default());
    assert!(second.version().starts_with("1."), "{}", second.version());
    let error = Engine::start(Path::new("Cargo.toml"), &EngineOptions::default()).err();
    assert!(matches!(error, Some(EngineError::AnotherLibrary { .. })), "{error:?}");
}
