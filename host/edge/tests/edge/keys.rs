//! Who may call what: each key at the functions' listener and at what the control listener has besides the control plane.

use std::sync::atomic::Ordering;

use sandmill_domain::{FunctionName, TenantId};
use sandmill_edge::EdgeLimits;
use tokio::io::AsyncWriteExt;

use crate::client::{Answer, Client};
use crate::fake::headers_of;
use crate::server::{Server, eventually};

/// A request with these header lines.
pub(crate) async fn ask(client: &mut Client, method: &str, path: &str, headers: &str) -> Answer {
    client.send(format!("{method} {path} HTTP/1.1\r\nhost: h\r\n{headers}content-length: 0\r\n\r\n")).await;
    if method == "HEAD" { client.answer_without_body().await } else { client.answer().await }
}

/// The header that shows a secret; nothing for none.
pub(crate) fn bearer(secret: &str) -> String {
    if secret.is_empty() { String::new() } else { format!("authorization: Bearer {secret}\r\n") }
}

const KEYS: [&str; 7] = ["", "acme-invoke", "acme-deploy", "acme-admin", "other-admin", "root-invoke", "root-admin"];

#[tokio::test]
async fn each_key_calls_what_it_may() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.client().await;
    // What is answered to each of KEYS.
    let cases = [
        ("GET", "/v2", [200; 7]),
        ("GET", "/v2/health/live", [200; 7]),
        ("GET", "/v2/health/ready", [200; 7]),
        ("POST", "/fn/echo", [401, 200, 403, 200, 200, 400, 400]),
        ("POST", "/v2/models/echo/infer", [401, 200, 403, 200, 200, 400, 400]),
        ("GET", "/v2/models/echo", [401, 200, 403, 200, 200, 400, 400]),
        ("GET", "/v2/models/echo/versions/3/ready", [401, 200, 403, 200, 200, 400, 400]),
        ("POST", "/tenants/acme/fn/echo", [401, 200, 403, 200, 404, 200, 200]),
        ("POST", "/tenants/acme/v2/models/echo/infer", [401, 200, 403, 200, 404, 200, 200]),
        ("GET", "/tenants/acme/v2/models/echo/versions/2", [401, 200, 403, 200, 404, 200, 200]),
        ("POST", "/tenants/other/fn/echo", [401, 404, 403, 404, 200, 200, 200]),
        ("GET", "/tenants/other/v2/models/echo/ready", [401, 404, 403, 404, 200, 200, 200]),
        ("POST", "/fn/missing", [401, 404, 403, 404, 404, 400, 400]),
        ("POST", "/nothing", [404; 7]),
        ("POST", "/v2/health/live", [405; 7]),
        ("GET", "/v2/models/echo/infer", [405; 7]),
    ];
    for (method, path, statuses) in cases {
        for (secret, status) in KEYS.into_iter().zip(statuses) {
            let answer = ask(&mut client, method, path, &bearer(secret)).await;
            assert_eq!(answer.status, status, "{method} {path} by `{secret}`");
            assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Bearer"), "{method} {path} by `{secret}`");
            assert!(!answer.closes(), "{method} {path} by `{secret}`");
        }
    }
}

#[tokio::test]
async fn a_call_reaches_the_tenant_of_its_key_or_the_one_that_an_operator_names() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.client().await;
    let cases = [
        ("acme-invoke", "/fn/echo/x?y", "acme"),
        ("acme-invoke", "/tenants/acme/fn/echo/x?y", "acme"),
        ("other-admin", "/fn/echo/x?y", "other"),
        ("root-admin", "/tenants/acme/fn/echo/x?y", "acme"),
        ("root-invoke", "/tenants/nobody/fn/echo/x?y", "nobody"),
    ];
    for (secret, path, tenant) in cases {
        let headers = format!("x-kept: 1\r\n{}", bearer(secret));
        assert_eq!(ask(&mut client, "POST", path, &headers).await.status, 200, "{path}");
        let (target, request) = server.fake.last.lock().unwrap().take().unwrap();
        assert_eq!((target.tenant.as_str(), target.function.as_str()), (tenant, "echo"), "{path}");
        assert_eq!((request.head.path_rest.as_str(), request.head.query.as_deref()), ("/x", Some("y")), "{path}");
        let headers = headers_of(&request);
        assert!(headers.contains_key("x-kept") && !headers.contains_key("authorization"), "{headers:?}");
    }
    let of = |tenant: &str| {
        let labels = format!(r#"form="function",function="echo",status="200",tenant="{tenant}""#);
        server.metric(&format!("sandmill_requests_total{{{labels}}}"))
    };
    eventually("they are recorded as their tenants'", || of("acme") == 3.0 && of("other") == 1.0).await;
}

#[tokio::test]
async fn what_is_refused_for_its_key_is_not_recorded_as_any_tenants() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.client().await;
    for secret in ["", "wrong", "acme-deploy", "other-admin"] {
        ask(&mut client, "POST", "/tenants/acme/fn/echo", &bearer(secret)).await;
    }
    eventually("all are recorded", || server.requests("-", "401") == 2.0 && server.requests("-", "404") == 1.0).await;
    assert_eq!(server.requests("-", "403"), 1.0);
    let text = String::from_utf8(server.telemetry.render(None).unwrap()).unwrap();
    assert!(!text.contains("acme"), "{text}");
    assert_eq!(server.fake.admitted(), 0);
}

#[tokio::test]
async fn a_header_that_is_no_key_is_refused_before_the_body() {
    let server = Server::start_guarded(EdgeLimits::default());
    let long = format!("authorization: Bearer {}\r\n", "a".repeat(20_000));
    let cases = [
        "authorization: \r\n",
        "authorization: Bearer\r\n",
        "authorization: Bearer \r\n",
        "authorization: Basic YWNtZTppbnZva2U=\r\n",
        "authorization: acme-invoke\r\n",
        "authorization: Bearer acme-invoke acme-invoke\r\n",
        "authorization: Bearer acme-invoke, Bearer acme-invoke\r\n",
        "authorization: Bearer \"acme-invoke\"\r\n",
        "authorization: Bearer acme-invoke\r\nauthorization: Bearer acme-invoke\r\n",
        "authorization: Bearer wrong\r\nauthorization: Bearer acme-invoke\r\n",
        "authorization: Bearer Acme-Invoke\r\n",
        "authorization: Bearer acme-invok\u{e9}\r\n",
        "authorization: Bearer \u{1f511}\r\n",
        "authorization: Bearer acme-invoke\u{a0}\r\n",
        "x-api-key: acme-invoke\r\n",
        "proxy-authorization: Bearer acme-invoke\r\n",
        "cookie: authorization=acme-invoke\r\n",
        long.as_str(),
    ];
    for headers in cases {
        let mut client = server.client().await;
        client
            .send(format!("POST /fn/echo HTTP/1.1\r\nhost: h\r\n{headers}expect: 100-continue\r\ncontent-length: 9\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        let shown = &headers[..headers.len().min(60)];
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{shown}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{shown}");
        let body = String::from_utf8(answer.body.clone()).unwrap().to_lowercase();
        assert!(!body.contains("acme") && body.len() < 200, "{shown}: {body}");
    }
    // A scheme's name has no case, and may have more than one space behind it.
    let mut client = server.client().await;
    for headers in ["Authorization: bearer acme-invoke\r\n", "AUTHORIZATION: BEARER  acme-invoke\r\n"] {
        assert_eq!(ask(&mut client, "POST", "/fn/echo", headers).await.status, 200, "{headers}");
    }
}

#[tokio::test]
async fn a_secret_of_ten_megabytes_is_not_read_to_its_end() {
    let server = Server::start_guarded(EdgeLimits::default());
    let client = server.client().await;
    let (mut reading, mut writing) = client.stream.into_split();
    let sending = tokio::spawn(async move {
        _ = writing.write_all(b"POST /fn/echo HTTP/1.1\r\nhost: h\r\nauthorization: Bearer ").await;
        for _ in 0..160 {
            if writing.write_all(&[b'a'; 64 << 10]).await.is_err() {
                return;
            }
        }
        _ = writing.write_all(b"\r\n\r\n").await;
    });
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    drop(reading);
    sending.await.unwrap();
    assert_eq!(server.fake.admitted(), 0);
}

#[tokio::test]
async fn without_keys_nobody_looks_at_what_is_shown() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    for headers in ["", "authorization: Basic x\r\n", "authorization: Bearer a\r\nauthorization: Bearer b\r\n"] {
        assert_eq!(ask(&mut client, "POST", "/fn/echo", headers).await.status, 200, "{headers}");
        let (target, request) = server.fake.last.lock().unwrap().take().unwrap();
        assert_eq!(target.tenant, TenantId::local());
        assert!(!headers_of(&request).contains_key("authorization"));
    }
    assert_eq!(ask(&mut client, "POST", "/tenants/default/fn/echo", "").await.status, 200);
    assert_eq!(ask(&mut client, "POST", "/tenants/acme/fn/echo", "").await.status, 404);
    let mut control = server.control().await;
    let metrics = ask(&mut control, "GET", "/metrics", "").await;
    assert!(String::from_utf8(metrics.body).unwrap().contains("sandmill_build_info"));
    assert_eq!(ask(&mut control, "GET", "/functions/echo/models", "").await.status, 200);
}

#[tokio::test]
async fn each_key_sees_what_it_may_on_the_control_listener() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let cases = [
        ("GET", "/live", [200; 7]),
        ("GET", "/ready", [200; 7]),
        ("GET", "/v2/health/live", [200; 7]),
        ("GET", "/v2/health/ready", [200; 7]),
        ("GET", "/metrics", [401, 200, 200, 200, 200, 200, 200]),
        ("HEAD", "/metrics", [401, 200, 200, 200, 200, 200, 200]),
        ("GET", "/functions/echo/models", [401, 403, 200, 200, 200, 403, 400]),
        ("POST", "/functions/echo/models/model/recycle", [401, 403, 202, 202, 202, 403, 400]),
        ("GET", "/functions/missing/models", [401, 403, 404, 404, 404, 403, 400]),
        ("GET", "/tenants/acme/functions/echo/models", [401, 403, 200, 200, 404, 403, 200]),
        ("POST", "/tenants/other/functions/echo/models/model/recycle", [401, 403, 404, 404, 202, 403, 202]),
        ("POST", "/metrics", [405; 7]),
        ("GET", "/tenants/acme/metrics", [404; 7]),
        ("GET", "/fn/echo", [404; 7]),
    ];
    for (method, path, statuses) in cases {
        for (secret, status) in KEYS.into_iter().zip(statuses) {
            let answer = ask(&mut client, method, path, &bearer(secret)).await;
            assert_eq!(answer.status, status, "{method} {path} by `{secret}`");
            if status >= 400 && method != "HEAD" {
                assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path} by `{secret}`");
            }
        }
    }
    server.fake.ready.store(false, Ordering::SeqCst);
    assert_eq!(ask(&mut client, "GET", "/ready", "").await.status, 503);
}

#[tokio::test]
async fn a_tenant_sees_its_own_metrics_and_an_operator_all() {
    let server = Server::start_guarded(EdgeLimits::default());
    for tenant in ["acme", "other"] {
        server.telemetry.placed(&TenantId::new(tenant).unwrap(), &FunctionName::new("digits").unwrap(), "cpu");
    }
    let mut client = server.control().await;
    for (secret, others) in [("acme-invoke", false), ("acme-admin", false), ("root-invoke", true), ("root-admin", true)] {
        let answer = ask(&mut client, "GET", "/metrics", &bearer(secret)).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains(r#"tenant="acme""#), "{secret}: {text}");
        for line in [r#"tenant="other""#, "sandmill_build_info", "sandmill_connections", "process_"] {
            assert_eq!(text.contains(line), others, "{secret}: {line}");
        }
    }
    let answer = ask(&mut client, "GET", "/metrics", &bearer("local-admin")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}
