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
    let lines = server.access_lines();
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
