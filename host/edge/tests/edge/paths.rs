//! What is answered where, without a call.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use sandmill_edge::{Edge, EdgeLimits, EdgeOptions};

use crate::server::{Server, options, parts};

#[tokio::test]
async fn refusals_are_json_and_the_connection_lives_on() {
    let server = Server::start(EdgeLimits::default());
    assert_eq!(server.addresses.listen_url(), format!("http://{}", server.addresses.listen));
    let mut client = server.client().await;
    let cases = [
        ("GET", "/", 404, "not_found", None),
        ("POST", "/fn/Not-A-Name", 404, "not_found", None),
        ("POST", "/fn/missing", 404, "not_found", None),
        ("GET", "/v2/models/missing", 404, "not_found", None),
        ("GET", "/v2/models/m/versions/0", 404, "not_found", None),
        ("DELETE", "/fn/echo", 405, "method_not_allowed", Some("GET, POST")),
        ("POST", "/v2/health/live", 405, "method_not_allowed", Some("GET, HEAD")),
        ("GET", "/v2/models/m/infer", 405, "method_not_allowed", Some("POST")),
        ("POST", "/fn/busy", 503, "overloaded", None),
        ("GET", "/metrics", 404, "not_found", None),
    ];
    for (method, path, status, code, allow) in cases {
        let answer = client.ask(method, path, b"a little body").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
        assert!(!answer.closes(), "{method} {path}");
    }
    assert_eq!(server.fake.admitted(), 0);
    assert_eq!(server.caller_faults("-", "not_found"), 6.0);
}

#[tokio::test]
async fn an_unknown_path_names_those_that_there_are() {
    let server = Server::start(EdgeLimits::default());
    let answer = server.client().await.ask("GET", "/nothing", b"").await;
    let message = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(message.contains("/fn/{function}") && message.contains("/v2/health/ready"), "{message}");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_again() {
    let server = Server::start(EdgeLimits::default());
    let answer = server.client().await.ask("POST", "/fn/busy", b"").await;
    assert_eq!(answer.header("retry-after"), Some("3"));
}

#[tokio::test]
async fn the_protocol_answers_what_it_is_asked() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    let metadata = client.ask("GET", "/v2", b"").await;
    assert_eq!((metadata.status, &metadata.json()["version"]), (200, &"1.2.3".into()));
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/m", "/v2/models/m/versions/1", "/v2/models/m/ready"] {
        let answer = client.ask("GET", path, b"").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.json().is_object(), "{path}");
    }
    for path in ["/v2/models/cold/ready", "/v2/models/cold/versions/1/ready"] {
        let cold = client.ask("GET", path, b"").await;
        assert_eq!((cold.status, &cold.json()["ready"]), (503, &false.into()), "{path}");
    }
    assert_eq!(client.ask("HEAD", "/v2/models/cold/ready", b"").await.status, 503);
    assert_eq!(client.ask("GET", "/v2/models/cold", b"").await.status, 200);
    server.fake.ready.store(false, Ordering::SeqCst);
    assert_eq!(client.ask("GET", "/v2/health/ready", b"").await.status, 503);
    assert_eq!(client.ask("GET", "/v2/health/live", b"").await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    let whole = client.ask("GET", "/v2/health/live", b"").await;
    let head = client.ask("HEAD", "/v2/health/live", b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")));
    assert!(!whole.body.is_empty());
    assert_eq!(client.ask("GET", "/v2/health/live", b"").await.body, whole.body);
    assert_eq!(server.caller_faults("-", "cancelled"), 0.0);
}

#[tokio::test]
async fn the_control_listener_has_metrics_and_health() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.control().await;
    for path in ["/live", "/ready", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(client.ask("GET", path, b"").await.status, 200, "{path}");
    }
    let metrics = client.ask("GET", "/metrics", b"").await;
    assert_eq!((metrics.status, metrics.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    assert!(String::from_utf8(metrics.body).unwrap().contains("sandmill_build_info"));
    assert_eq!(client.ask("HEAD", "/metrics", b"").await.status, 200);
    assert_eq!(client.ask("POST", "/metrics", b"").await.header("allow"), Some("GET, HEAD"));
    assert_eq!(client.ask("POST", "/fn/echo", b"").await.status, 404);
    server.fake.ready.store(false, Ordering::SeqCst);
    assert_eq!(client.ask("GET", "/ready", b"").await.status, 503);
    assert_eq!(server.requests("-", "200"), 0.0, "probes and scrapes are not recorded");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = std::net::TcpListener::bind(taken).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    for (listen, control, setting) in [(taken, any, "--listen"), (any, taken, "--control")] {
        let options = EdgeOptions { listen, control, ..options(EdgeLimits::default()) };
        let error = Edge::bind(options, parts()).err().expect("taken").to_string();
        assert!(error.contains(&taken.to_string()) && error.contains("in use") && error.contains(setting), "{error}");
    }
    drop(holder);
}

#[tokio::test]
async fn an_address_of_another_machine_is_told_so() {
    // TEST-NET-1 of RFC 5737.
    let options = EdgeOptions { listen: SocketAddr::from(([192, 0, 2, 1], 0)), ..options(EdgeLimits::default()) };
    let error = Edge::bind(options, parts()).err().expect("refused").to_string();
    assert!(error.contains("no such address"), "{error}");
}
