//! What operators see: each request is one access line and one count, and the metrics name what runs.

use serde_json::{Value, json};

use crate::harness::{Server, example, exchange, wait_until};

/// A server of digits that was asked once in a good and once in a bad way.
fn asked_twice() -> Server {
    let server = Server::configured("[log]\nformat = \"json\"\n", &[example("digits")]);
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    assert_eq!(server.post("/fn/digits", sample).status, 200);
    assert_eq!(server.post("/fn/digits", b"{}").status, 400);
    server
}

#[test]
fn each_request_is_one_line() {
    let mut server = asked_twice();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let mut lines = server.access_lines();
    // A line is written when its answer has left, so the second may come before the first.
    lines.sort_by_key(|line| line["status"].to_string());
    let [good, bad] = lines.as_slice() else { panic!("not two access lines: {lines:?}") };
    for line in [good, bad] {
        assert_eq!((&line["tenant"], &line["function"]), (&json!("default"), &json!("digits")), "{line}");
        assert_eq!((&line["method"], &line["path"]), (&json!("POST"), &json!("/fn/digits")), "{line}");
    }
    assert_eq!((&good["status"], good.get("code"), good.get("blame")), (&json!("200"), None, None), "{good}");
    assert_eq!(
        (&bad["status"], &bad["code"], &bad["blame"]),
        (&json!("400"), &json!("invalid_input"), &json!("caller")),
        "{bad}"
    );
    assert!(bad["error"].as_str().is_some_and(|error| error.contains('x')), "{bad}");
    check_durations(good, &["preprocess_us", "queue_us", "inference_us", "postprocess_us"], &[]);
    check_durations(bad, &["preprocess_us"], &["queue_us", "inference_us", "postprocess_us"]);
}

/// The stages that the request went through are there, and fit into the whole; the others are not.
fn check_durations(line: &Value, passed: &[&str], skipped: &[&str]) {
    let micros = |stage: &str| line[stage].as_u64().unwrap_or_else(|| panic!("no `{stage}`: {line}"));
    let sum: u64 = passed.iter().map(|stage| micros(stage)).sum();
    assert!(sum > 0 && sum <= micros("duration_us"), "{line}");
    assert!(skipped.iter().all(|stage| line.get(stage).is_none()), "{line}");
}

#[test]
fn metrics_name_what_runs_and_what_failed() {
    let server = asked_twice();
    let faults = r#"sandmill_faults_total{blame="caller",code="invalid_input",function="digits",tenant="default"}"#;
    // The record is made when the answer has left, so it may come a moment after it.
    wait_until("the fault is counted", || server.metric(faults) == Some(1.0));
    let text = exchange(server.control, "GET", "/metrics", &[], b"").text();
    let build = text.lines().find(|line| line.starts_with("sandmill_build_info{")).expect("what runs");
    let version = format!(r#"version="{}""#, env!("CARGO_PKG_VERSION"));
    assert!(build.contains(&version) && build.contains(r#"onnxruntime="1."#) && build.ends_with("} 1"), "{build}");
}

/// Names of tensors come from anybody: they write no line of their own, nor anything that a terminal obeys.
#[test]
fn a_caller_forges_no_line() {
    let mut server = Server::start(&[example("digits")]);
    let name = "x\n2026-01-01T00:00:00Z  INFO access: FORGED \u{1b}[31m";
    let body = json!({"inputs": [{"name": name, "shape": [1, 64], "datatype": "FP32", "data": []}]});
    assert_eq!(server.post("/v2/models/digits/infer", body.to_string()).status, 400);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log();
    let forged: Vec<&str> = log.lines().filter(|line| line.contains("FORGED")).collect();
    assert!(matches!(forged[..], [line] if line.contains("invalid_input")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// The ONNX Runtime's library would write an identifier of the machine to the user's folders and send events to its makers.
#[test]
fn nothing_is_reported_to_anybody() {
    let home = tempfile::TempDir::new().expect("a temporary folder");
    let server = Server::at_home(home.path(), &[example("digits")]);
    let sample = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    assert_eq!(server.post("/fn/digits", sample).status, 200);
    let mut found = vec![];
    for folder in ["", ".cache", ".local/state"].map(|below| home.path().join(below)) {
        found.extend(std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").file_name()));
    }
    found.sort();
    assert_eq!(found, [".cache", ".local", "sandmill", "sandmill"]);
}
