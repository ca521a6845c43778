//! The examples answer what their models' own tools answer, in whatever language their plugins are written.

use serde_json::{Value, json};

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

/// Ids, pooling and both encodings, by the cosines of texts that are alike and unlike.
#[test]
fn embeddings_tell_what_texts_are_alike() {
    let server = Server::start(&[example("embed")]);
    let texts = ["How do I reset my password?", "I forgot my login credentials", "The cat sat on the mat"];
    let embed = |body: Value| {
        let answer = server.call("POST", "/fn/embed", &[("content-type", "application/json")], body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let vector = |item: &Value| -> Vec<f64> {
        item["embedding"].as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number")).collect()
    };
    let cosine = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-2, "{found}, but it should be {expected}");

    let batch = embed(json!({ "input": texts, "model": "text-embedding-3-small" }));
    assert_eq!((&batch["object"], &batch["model"]), (&json!("list"), &json!("all-MiniLM-L6-v2")));
    assert_eq!(batch["usage"], json!({ "prompt_tokens": 25, "total_tokens": 25 }));
    let vectors: Vec<_> = batch["data"].as_array().expect("a list").iter().map(vector).collect();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [384; 3]);
    near(cosine(&vectors[0], &vectors[1]), 0.6776);
    near(cosine(&vectors[0], &vectors[2]), 0.085);
    for (index, text) in texts.into_iter().enumerate() {
        assert_eq!(batch["data"][index]["index"], index);
        let alone = embed(json!({ "input": text }));
        assert_eq!(alone["data"][0]["object"], "embedding");
        near(cosine(&vector(&alone["data"][0]), &vectors[index]), 1.0);
    }
    let base64 = embed(json!({ "input": texts[0], "encoding_format": "base64" }));
    assert_eq!(base64["data"][0]["embedding"].as_str().map(str::len), Some(384 * 4 / 3 * 4));
}

#[test]
fn embed_refuses_in_words() {
    let server = Server::start(&[example("embed")]);
    let many = json!({ "input": vec!["a"; 17] });
    let cases = [
        (json!({ "input": "" }), "`input` is an empty text"),
        (json!({ "input": [] }), "`input` is an empty list"),
        (many, "`input` has 17 texts; at most 16 go at once"),
        (json!({ "input": [1, 2] }), "lists of tokens are not supported"),
        (json!({ "input": "a", "encoding_format": "hex" }), "unknown variant `hex`, expected `float` or `base64`"),
    ];
    for (body, expected) in cases {
        let answer = server.post("/fn/embed", body.to_string());
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.error().contains(expected), "{answer:?}");
    }
    assert_eq!(server.post("/fn/embed", "hello").status, 400);
}

/// Both are postprocesses alone: the request is an Open Inference Protocol body. They are there where their tools could be
/// installed.
#[test]
fn plugins_in_javascript_and_python_answer_as_the_one_in_rust_does() {
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let expected = SERVER.get().post("/fn/digits", sample).json();
    for (name, language) in [("digits-js", "javascript"), ("digits-py", "python")] {
        let folder = root().join("examples").join(name);
        if !folder.join("plugin.wasm").exists() {
            eprintln!("{name} is not built here: its tool could not be installed");
            continue;
        }
        let server = Server::start(std::slice::from_ref(&folder));
        let answer = server.post(&format!("/fn/{name}"), std::fs::read(folder.join("sample.json")).expect("its sample"));
        assert_eq!(answer.status, 200, "{answer:?}\n{}", server.log());
        let json = answer.json();
        assert_eq!((&json["label"], &json["language"]), (&expected["label"], &json!(language)));
        assert_eq!(json["p"], expected["p"]);
    }
}
