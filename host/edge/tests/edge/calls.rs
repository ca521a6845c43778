//! Calls of functions: what reaches the service, what comes back, what is recorded.

use std::time::Duration;

use sandmill_domain::ports::Form;
use sandmill_edge::EdgeLimits;
use tokio::io::AsyncReadExt;

use crate::client::request;
use crate::fake::{FRAMING, headers_of};
use crate::server::{PATIENCE, Server, eventually};

#[tokio::test]
async fn a_function_gets_the_request_as_it_came() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client.send("PATCH /fn/echo/a%2Fb//?x=%20&y HTTP/1.1\r\nhost: h\r\nX-Case: Kept\r\ncontent-length: 2\r\n\r\nhi").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hi"[..]));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("content-length"), Some("2"));
    assert!(answer.header("date").is_some());
    let (target, request) = server.fake.last.lock().unwrap().take().unwrap();
    assert_eq!((target.function.as_str(), target.form), ("echo", Form::Function));
    assert_eq!(request.head.method, "PATCH");
    assert_eq!(request.head.path_rest, "/a%2Fb//");
    assert_eq!(request.head.query.as_deref(), Some("x=%20&y"));
    assert_eq!(headers_of(&request)["x-case"], "Kept");
    assert_eq!(&request.body[..], b"hi");
}

#[tokio::test]
async fn an_inference_reaches_the_release_it_names() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    assert_eq!(client.ask("POST", "/v2/models/echo/versions/7/infer", b"{}").await.status, 200);
    let (target, request) = server.fake.last.lock().unwrap().take().unwrap();
    assert_eq!(target.form, Form::OpenInference);
    assert_eq!(target.release.map(|release| release.to_string()).as_deref(), Some("7"));
    assert_eq!(request.head.path_rest, "");
}

#[tokio::test]
async fn a_request_is_refused_for_its_headers_before_its_body_is_read() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client
        .send("POST /fn/picky HTTP/1.1\r\nhost: h\r\nsandmill-priority: 9\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with(br#"{"error":"a priority of 9""#), "{answer:?}");
    eventually("it is recorded as that function's", || server.requests("picky", "400") == 1.0).await;
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    for round in 0..20_u8 {
        assert_eq!(client.ask("POST", "/fn/echo", &[round; 3]).await.body, [round; 3]);
    }
    assert_eq!(server.metric("sandmill_connections"), 1.0);
    eventually("all are recorded", || server.requests("echo", "200") == 20.0).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    let bytes: Vec<u8> = (0..50_u8).flat_map(|round| request("POST", "/fn/echo", &[round])).collect();
    client.send(bytes).await;
    for round in 0..50_u8 {
        assert_eq!(client.answer().await.body, [round]);
    }
}

#[tokio::test]
async fn a_small_answer_comes_in_one_piece() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    for _ in 0..20 {
        client.send(request("POST", "/fn/echo", b"tail")).await;
        let mut bytes = [0; 4096];
        let read = client.stream.read(&mut bytes).await.unwrap();
        assert!(bytes[..read].ends_with(b"\r\n\r\ntail"), "{:?}", String::from_utf8_lossy(&bytes[..read]));
    }
}

#[tokio::test]
async fn chunked_bodies_are_put_together() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client.send("POST /fn/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.send("2\r\nde\r\n1\r\nf\r\n0\r\nx-trailer: 1\r\n\r\n").await;
    assert_eq!(client.answer().await.body, b"abcdef");
    assert_eq!(client.ask("POST", "/fn/echo", b"g").await.body, b"g");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_callers_fault() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client.send("POST /fn/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_input"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    for bytes in [1, 64 << 10, (64 << 10) + 1, 5_000_000] {
        let answer = client.ask("GET", &format!("/fn/large?{bytes}"), b"").await;
        assert_eq!(answer.body.len(), bytes);
    }
    eventually("all are recorded", || server.requests("large", "200") == 4.0).await;
    let sent = r#"sandmill_response_body_bytes_total{function="large",tenant="default"}"#;
    assert_eq!(server.metric(sent), f64::from(1 + (64 << 10) + (64 << 10) + 1 + 5_000_000));
    assert_eq!(server.caller_faults("large", "cancelled"), 0.0);
}

#[tokio::test]
async fn a_reply_cannot_break_the_framing() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    let answer = client.ask("POST", "/fn/liar", b"").await;
    assert_eq!((answer.header("content-length"), &answer.body[..]), (Some("5"), &b"truth"[..]));
    assert!(answer.header("date").is_some());
    for (name, lie) in FRAMING {
        assert!(!answer.headers.iter().any(|(given, value)| given == name && value == lie), "{name}: {answer:?}");
    }
    let kept: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "x-kept").map(|(_, value)| value.as_str()).collect();
    assert_eq!(kept, ["1", "2"]);
    let empty = client.ask("POST", "/fn/empty", b"").await;
    assert_eq!((empty.status, empty.header("content-length")), (204, None));
    let reset = client.ask("POST", "/fn/reset", b"").await;
    assert_eq!((reset.status, reset.header("content-length")), (205, Some("0")));
    assert_eq!(client.ask("POST", "/fn/echo", b"still in step").await.body, b"still in step");
}

#[tokio::test]
async fn the_client_is_told_less_than_the_log() {
    let server = Server::start(EdgeLimits::default());
    let answer = server.client().await.ask("POST", "/fn/fails", b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "model_failed"));
    assert!(!String::from_utf8(answer.body).unwrap().contains("secret"));
}

#[tokio::test]
async fn a_panic_ends_its_request_alone() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    for function in ["panics", "panics-early"] {
        let answer = client.ask("POST", &format!("/fn/{function}"), b"body").await;
        assert_eq!((answer.status, answer.code().as_str()), (500, "internal"), "{function}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("today"));
    }
    assert_eq!(client.ask("POST", "/fn/echo", b"fine").await.body, b"fine");
    eventually("it is recorded", || server.requests("panics", "500") == 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_call() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client.send(request("POST", "/fn/never", b"")).await;
    eventually("it runs", || server.fake.running() == 1).await;
    assert_eq!(server.metric(r#"sandmill_requests_in_flight{function="never",tenant="default"}"#), 1.0);
    drop(client);
    eventually("it is dropped", || server.fake.running() == 0).await;
    eventually("it is recorded", || server.requests("never", "-") == 1.0).await;
    assert_eq!(server.caller_faults("never", "cancelled"), 1.0);
    assert_eq!(server.metric(r#"sandmill_requests_in_flight{function="never",tenant="default"}"#), 0.0);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let server = Server::start(EdgeLimits::default());
    *server.fake.timeout.lock().unwrap() = Duration::from_millis(200);
    let mut client = server.client().await;
    let answer = client.ask("POST", "/fn/never", b"body").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "deadline_exceeded"));
    assert_eq!(server.fake.running(), 0);
    *server.fake.timeout.lock().unwrap() = PATIENCE;
    assert_eq!(client.ask("POST", "/fn/echo", b"fine").await.body, b"fine");
}

#[tokio::test]
async fn a_body_is_asked_for_only_after_admission() {
    let server = Server::start(EdgeLimits::default());
    let head = |function: &str, bytes: usize| {
        format!("POST /fn/{function} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n")
    };
    let mut client = server.client().await;
    client.send(head("echo", 2)).await;
    assert_eq!(client.answer_without_body().await.status, 100);
    client.send("hi").await;
    assert_eq!(client.answer().await.body, b"hi");
    for (function, bytes, status) in [("busy", 2, 503), ("missing", 2, 404), ("echo", 1001, 413)] {
        let mut client = server.client().await;
        client.send(head(function, bytes)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{function}");
        assert!(answer.closes(), "{function}");
    }
}

#[tokio::test]
async fn http_1_0_is_spoken_to_old_clients() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client.send("POST /fn/echo HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.body, b"hi");
    assert!(client.is_closed().await);
}
