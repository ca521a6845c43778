//! The bare model behind a function, over the Open Inference Protocol: JSON, binary tensors, metadata, health.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Shared, example};

static SERVER: Shared<Server> = Shared::new(|| Server::start(&[example("digits")]));

const INFER: &str = "/v2/models/digits/infer";

fn pixels() -> Vec<f32> {
    let sample: Value =
        serde_json::from_slice(&std::fs::read(example("digits").join("sample.json")).expect("the sample")).expect("JSON");
    let numbers = sample["x"].as_array().expect("a list");
    #[allow(clippy::cast_possible_truncation, reason = "sixteenths: exact in an f32")]
    numbers.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn check_digits(outputs: &Value) {
    assert_eq!(outputs["outputs"][0]["name"], "label");
    assert_eq!(outputs["outputs"][0]["datatype"], "INT64");
    assert_eq!(outputs["outputs"][0]["data"], json!([2]));
    let probability = outputs["outputs"][1]["data"][2].as_f64().expect("a number");
    assert!((probability - 0.999_998_69).abs() < 1e-7, "{probability}");
}

#[test]
fn json_in_and_out() {
    let server = SERVER.get();
    let body = json!({"id": "7", "inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": pixels()}]});
    let answer = server.post(INFER, body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!((&json["model_name"], &json["model_version"], &json["id"]), (&json!("digits"), &json!("1"), &json!("7")));
    check_digits(&json);
    let versioned = server.post("/v2/models/digits/versions/1/infer", body.to_string());
    assert_eq!(versioned.status, 200, "{versioned:?}");
}

#[test]
fn nested_json_is_the_same() {
    let server = SERVER.get();
    let body = json!({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": [pixels()]}]});
    check_digits(&server.post(INFER, body.to_string()).json());
}

/// JSON and then the input's bytes; gives the answer's JSON and its binary tail.
fn binary(server: &Server, outputs: &Value) -> (Answer, Value, Vec<u8>) {
    let bytes: Vec<u8> = pixels().iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let input = json!({"name": "X", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": bytes.len()}});
    let head = json!({"inputs": [input], "outputs": outputs}).to_string();
    let length = head.len().to_string();
    let answer = server.call("POST", INFER, &[("inference-header-content-length", &length)], &[head.as_bytes(), &bytes].concat());
    assert_eq!(answer.status, 200, "{answer:?}");
    let split =
        answer.header("inference-header-content-length").map_or(answer.body.len(), |length| length.parse().expect("a length"));
    let json = serde_json::from_slice(&answer.body[..split]).expect("JSON");
    let tail = answer.body[split..].to_vec();
    (answer, json, tail)
}

#[test]
fn binary_tensors_in_and_out() {
    let server = SERVER.get();
    let (answer, json, tail) = binary(&server, &json!([{"name": "probabilities", "parameters": {"binary_data": true}}]));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 40);
    let third = f32::from_le_bytes(tail[8..12].try_into().expect("four bytes"));
    assert!((third - 0.999_998_7).abs() < 1e-6, "{third}");
}

#[test]
fn binary_in_and_json_out() {
    let server = SERVER.get();
    let (_, json, tail) = binary(&server, &json!([{"name": "label"}, {"name": "probabilities"}]));
    check_digits(&json);
    assert!(tail.is_empty());
}

#[test]
fn metadata_and_health() {
    let server = SERVER.get();
    let metadata = server.get("/v2").json();
    assert_eq!(metadata["name"], "sandmill");
    assert_eq!(metadata["extensions"], json!(["binary_tensor_data", "model_repository"]));
    let model = server.get("/v2/models/digits").json();
    assert_eq!(model["name"], "digits");
    assert_eq!(model["versions"], json!(["1"]));
    assert_eq!(model["inputs"], json!([{"name": "X", "datatype": "FP32", "shape": [-1, 64]}]));
    assert_eq!(model["outputs"][1], json!({"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}));
    for (path, expected) in [
        ("/v2/health/live", json!({"live": true})),
        ("/v2/health/ready", json!({"ready": true})),
        ("/v2/models/digits/ready", json!({"name": "digits", "ready": true})),
        ("/v2/models/digits/versions/1/ready", json!({"name": "digits", "ready": true})),
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
    }
}
