//! The three examples answer what their models' own tools answer.

use serde_json::Value;

use crate::harness::{Server, Shared, example, root, wait_until};

static SERVER: Shared<Server> = Shared::new(|| Server::start(&[example("digits"), example("angle"), example("file-type")]));

#[test]
fn digits_answers_as_its_peers_do() {
    let server = SERVER.get();
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let answer = server.call("POST", "/fn/digits", &[("content-type", "application/json")], &sample);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    assert_eq!(json["label"], 2);
    let probability = json["p"][2].as_f64().expect("a number");
    assert!((probability - 0.999_998_69).abs() < 1e-7, "{probability}");
    assert_eq!(json["p"].as_array().map(Vec::len), Some(10));
}

#[test]
fn angle_answers_raw_bytes() {
    let server = SERVER.get();
    let image = std::fs::read(example("angle").join("sample.bin")).expect("the image");
    let answer = server.post("/fn/angle", image);
    assert_eq!(answer.status, 200, "{answer:?}");
    // Measured with ONNX Runtime itself. The last bits depend on the CPU's vector units; such differences stay below 1e-5.
    let expected = [f32::from_bits(0x3f13_7e9d), f32::from_bits(0x3ed9_02c5)];
    let floats: Vec<f32> = answer.body.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    assert_eq!(answer.body.len(), 8);
    assert!(floats.iter().zip(expected).all(|(float, expected)| (float - expected).abs() < 1e-5), "{floats:?}");
}

/// Every file that the `magika` Python package was asked about, to four digits.
#[test]
fn file_types_agree_with_magika() {
    let server = SERVER.get();
    let folder = root().join("tests/magika");
    let golden: Value =
        serde_json::from_slice(&std::fs::read(folder.join("golden.json")).expect("the golden file")).expect("JSON");
    let cases = golden.as_array().expect("a list");
    let mut labels = std::collections::BTreeSet::new();
    for case in cases {
        let name = case["file"].as_str().expect("a name");
        let answer = server.post("/fn/file-type", std::fs::read(folder.join("files").join(name)).expect("the file"));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        let json = answer.json();
        assert_eq!(json["label"], case["label"], "{name}: {json}");
        let (given, expected) = (json["score"].as_f64().expect("a score"), case["score"].as_f64().expect("a score"));
        assert!((given - expected).abs() < 5e-5, "{name}: {given}, but magika says {expected}");
        labels.insert(case["label"].as_str().expect("a label"));
    }
    assert!(cases.len() >= 30 && labels.len() >= 15, "{} files of {} types", cases.len(), labels.len());
}

#[test]
fn stages_are_measured_and_connections_counted() {
    let server = SERVER.get();
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    assert_eq!(server.post("/fn/digits", &sample).status, 200);
    for metric in ["preprocess", "queue", "inference", "postprocess", "request"] {
        let line = format!(r#"sandmill_{metric}_duration_seconds_count{{function="digits",tenant="default"}}"#);
        // The record is made when the answer has left, so it may come a moment after it.
        wait_until(metric, || server.metric(&line).is_some_and(|count| count >= 1.0));
    }
    for function in ["digits", "angle", "file-type"] {
        let line = format!(r#"sandmill_model_load_duration_seconds{{function="{function}",tenant="default"}}"#);
        assert!(server.metric(&line).is_some_and(|seconds| seconds > 0.0), "{function}");
    }
    assert_eq!(server.metric("sandmill_ready"), Some(1.0));
}
