//! A model that only fails is left alone for a while: its function is refused quickly, and comes back by itself.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Workshop, read_answer, root, wait_until};

/// A function of one of the engine's models.
fn function(workshop: &Workshop, model: &str, rest: &str) -> PathBuf {
    let bytes = std::fs::read(root().join(format!("host/engine/tests/models/{model}.onnx"))).expect("the model is there");
    workshop.write(&format!("{model}/model.onnx"), bytes);
    let manifest = workshop.write(&format!("{model}/function.toml"), format!("model.path = 'model.onnx'\n{rest}"));
    manifest.parent().expect("a folder").to_owned()
}

/// A model that adds up one by one, as often as it is told; it does not answer in time if that is too often.
fn slow(workshop: &Workshop, breaker: &str) -> PathBuf {
    function(workshop, "loop", &format!("[limits]\ntimeout_ms = 300\n[breaker]\n{breaker}"))
}

fn ask(server: &Server, turns: i64) -> Answer {
    let turns = json!({"name": "turns", "shape": [], "datatype": "INT64", "data": [turns]});
    let x = json!({"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]});
    server.post("/fn/loop", json!({"inputs": [turns, x]}).to_string())
}

fn code(answer: &Answer) -> Value {
    answer.json()["code"].clone()
}

fn metric(server: &Server, name: &str, to: &str) -> Option<f64> {
    server.metric(&format!(r#"sandmill_breaker_{name}{{function="loop",tenant="default"{to}}}"#))
}

#[test]
fn a_model_that_only_fails_is_refused_from_the_head() {
    let workshop = Workshop::new();
    let server = Server::start(&[slow(&workshop, "failures_max = 2\nopen_ms = 3600000")]);
    assert_eq!((metric(&server, "state", ""), metric(&server, "transitions_total", r#",to="open""#)), (Some(0.0), Some(0.0)));
    for _ in 0..2 {
        let answer = ask(&server, i64::MAX);
        assert_eq!((answer.status, code(&answer)), (504, json!("deadline_exceeded")));
    }
    // Its body never comes: it is not waited for.
    let mut stream = server.connect();
    let head = "POST /fn/loop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("writes");
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!((answer.status, code(&answer)), (503, json!("model_unhealthy")), "{answer:?}");
    let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number of seconds");
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_eq!((metric(&server, "state", ""), metric(&server, "transitions_total", r#",to="open""#)), (Some(2.0), Some(1.0)));
    wait_until("it is logged", || server.log().contains("breaker open"));
    let refused = r#"sandmill_faults_total{blame="model",code="model_unhealthy",function="loop",tenant="default"}"#;
    wait_until("the refusal is counted", || server.metric(refused) == Some(1.0));
}

#[test]
fn a_model_that_works_again_is_served_again() {
    let workshop = Workshop::new();
    let server = Server::start(&[slow(&workshop, "failures_max = 2\nopen_ms = 1")]);
    for _ in 0..2 {
        assert_eq!(code(&ask(&server, i64::MAX)), json!("deadline_exceeded"));
    }
    wait_until("it is tried again", || ask(&server, 3).status == 200);
    assert_eq!(ask(&server, 2).json()["outputs"][0]["data"], json!([3.0]));
    let transitions = |to: &str| metric(&server, "transitions_total", &format!(r#",to="{to}""#));
    assert_eq!(metric(&server, "state", ""), Some(0.0));
    assert_eq!(["open", "half_open", "closed"].map(transitions), [Some(1.0); 3]);
}

#[test]
fn inputs_that_a_model_fails_on_are_their_senders_fault_and_open_nothing() {
    let workshop = Workshop::new();
    let server = Server::start(&[function(&workshop, "gather", "[breaker]\nfailures_max = 2")]);
    let ask = |index: i64| {
        let body = json!({"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [index]}]});
        server.post("/fn/gather", body.to_string())
    };
    for _ in 0..100 {
        let answer = ask(9);
        assert_eq!((answer.status, code(&answer)), (400, json!("invalid_input")));
    }
    assert_eq!(ask(0).json()["outputs"][0]["data"], json!([1.0]));
    assert_eq!(server.metric(r#"sandmill_breaker_state{function="gather",tenant="default"}"#), Some(0.0));
}
