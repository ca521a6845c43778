//! The control plane's HTTP: who may ask what, what comes of it, and everything that is refused from the head.

use sandmill_domain::control::{Ask, Form, Quotas, TenantTerms};
use sandmill_domain::{Scope, TenantId};
use sandmill_edge::EdgeLimits;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::fake_keys::HOLDERS;
use crate::fake_plane::REVISION;
use crate::keys::{ask, bearer};
use crate::server::Server;

/// A request to the control plane, with these header lines besides the key's and the body's.
pub(crate) async fn send(client: &mut Client, secret: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let key = bearer(secret);
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: h\r\n{key}{headers}content-length: {length}\r\n\r\n");
    client.send([head.as_bytes(), body].concat()).await;
    if method == "HEAD" { client.answer_without_body().await } else { client.answer().await }
}

pub(crate) const JSON: &str = "content-type: application/json\r\n";
pub(crate) const TAR: &str = "content-type: application/x-tar\r\n";
pub(crate) const TOML: &str = "content-type: application/toml\r\n";
pub(crate) const WASM: &str = "content-type: application/wasm\r\n";
pub(crate) const ONNX: &str = "content-type: application/octet-stream\r\n";

impl Answer {
    /// A problem, whose parts agree with one another.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{problem}");
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("tag:sandmill,2026:problem:{code}"), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        problem
    }

    pub(crate) fn problem_code(&self) -> String {
        self.problem()["code"].as_str().unwrap().to_owned()
    }
}

/// What is needed for a path.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    Key,
    Has(Scope),
    Operator,
}

/// Each path, what it needs, and what it answers to those who have that. Those of tenants come without their prefix, and whether
/// an operator may leave it out.
const PATHS: [(&str, &str, Need, u16, bool); 28] = [
    ("GET", "/openapi.json", Need::Key, 200, true),
    ("GET", "/whoami", Need::Key, 200, true),
    ("GET", "/functions", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/functions/digits", Need::Has(Scope::Deploy), 200, false),
    ("PUT", "/functions/digits", Need::Has(Scope::Deploy), 200, false),
    ("PUT", "/functions/new", Need::Has(Scope::Deploy), 201, false),
    ("DELETE", "/functions/digits", Need::Has(Scope::Deploy), 204, false),
    ("POST", "/functions/digits/rollback", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/functions/digits/difference?from=1&to=2", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/plugins", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/plugins/resize", Need::Has(Scope::Deploy), 200, false),
    ("PUT", "/plugins/resize/versions/1", Need::Has(Scope::Deploy), 200, false),
    ("PUT", "/plugins/resize/versions/3", Need::Has(Scope::Deploy), 201, false),
    ("DELETE", "/plugins/resize/versions/1", Need::Has(Scope::Deploy), 204, false),
    ("GET", "/models", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/models/digits", Need::Has(Scope::Deploy), 200, false),
    ("PUT", "/models/digits/versions/1", Need::Has(Scope::Deploy), 200, false),
    ("PUT", "/models/digits/versions/3", Need::Has(Scope::Deploy), 201, false),
    ("DELETE", "/models/digits/versions/1", Need::Has(Scope::Deploy), 204, false),
    ("GET", "/keys", Need::Has(Scope::Admin), 200, true),
    ("POST", "/keys", Need::Has(Scope::Admin), 201, true),
    ("DELETE", "/keys/k1", Need::Has(Scope::Admin), 204, true),
    ("GET", "/audit?after=3", Need::Has(Scope::Admin), 200, true),
    ("GET", "/usage?from_ms=0", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/functions/digits/logs?after=3", Need::Has(Scope::Deploy), 200, false),
    ("GET", "/tenants", Need::Operator, 200, true),
    ("PUT", "/tenants/acme", Need::Operator, 200, true),
    ("DELETE", "/tenants/acme", Need::Operator, 204, true),
];

fn body_of(method: &str, path: &str) -> (&'static str, &'static [u8]) {
    match (method, path) {
        ("PUT", path) if path.contains("/functions/") => (TAR, b"an archive"),
        ("PUT", path) if path.contains("/plugins/") => (WASM, b"a component"),
        ("PUT", path) if path.contains("/models/") => (ONNX, b"a model"),
        ("PUT", _) => (JSON, b"{}"),
        ("POST", path) if path.ends_with("/keys") => (JSON, br#"{"scopes":["invoke"]}"#),
        _ => ("", b""),
    }
}

fn expected(need: Need, good: u16, tenant: Option<&str>, scopes: &[Scope]) -> u16 {
    let has = |scope| scopes.contains(&scope) || scopes.contains(&Scope::Admin);
    match need {
        Need::Key => good,
        Need::Has(scope) if has(scope) => good,
        Need::Operator if has(Scope::Admin) && tenant.is_none() => good,
        Need::Has(_) | Need::Operator => 403,
    }
}

#[tokio::test]
async fn each_key_asks_what_it_may() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    for (method, path, need, good, leaves_out) in PATHS {
        let (headers, body) = body_of(method, path);
        for secret in ["", "wrong"] {
            let answer = send(&mut client, secret, method, &format!("/v1{path}"), headers, body).await;
            assert_eq!((answer.status, answer.problem_code().as_str()), (401, "unauthorized"), "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        }
        for (secret, tenant, scopes) in HOLDERS.into_iter().filter(|(_, tenant, _)| matches!(tenant, None | Some("acme"))) {
            let allowed = expected(need, good, tenant, scopes);
            let without = match tenant {
                // `k1` is a tenant's, and `root` the operators'.
                None if path == "/keys/k1" && allowed == 204 => 404,
                None if !leaves_out && allowed != 403 => 400,
                _ => allowed,
            };
            let answer = send(&mut client, secret, method, &format!("/v1{path}"), headers, body).await;
            assert_eq!(answer.status, without, "{method} {path} by {secret}: {answer:?}");
            if matches!(need, Need::Has(_)) {
                let answer = send(&mut client, secret, method, &format!("/v1/tenants/acme{path}"), headers, body).await;
                assert_eq!(answer.status, allowed, "{method} {path} of acme by {secret}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn answers_bring_their_state() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    for (method, path, ..) in PATHS.into_iter().filter(|(_, path, ..)| *path != "/openapi.json") {
        let (headers, body) = body_of(method, path);
        let path = if path.starts_with("/tenants") || path == "/whoami" {
            format!("/v1{path}")
        } else {
            format!("/v1/tenants/acme{path}")
        };
        for revision in [None, Some(REVISION), Some(REVISION - 1), Some(REVISION + 1)] {
            let condition = revision.map_or(String::new(), |revision| format!("if-match: \"{revision}\"\r\n"));
            let answer = send(&mut client, "root-admin", method, &path, &format!("{condition}{headers}"), body).await;
            assert_eq!(server.plane.last().revision, revision, "{method} {path}");
            if revision.is_none_or(|revision| revision == REVISION) {
                assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
                assert_eq!(answer.header("etag"), Some("\"41\""), "{method} {path}");
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {path}");
                assert_eq!(answer.body.is_empty(), answer.status == 204, "{method} {path}");
            } else {
                let problem = answer.problem();
                assert_eq!((answer.status, &problem["code"], &problem["revision"]), (409, &json!("conflict"), &json!(REVISION)));
            }
        }
    }
    assert_eq!(send(&mut client, "acme-deploy", "HEAD", "/v1/functions/digits", "", b"").await.status, 200);
    assert_eq!(ask(&mut client, "GET", "/v1/whoami", &bearer("acme-invoke")).await.json()["tenant"], "acme");
}

#[tokio::test]
async fn what_is_asked_is_what_was_sent() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let of = |name: &str| Some(TenantId::new(name).unwrap());
    let quotas = Quotas { concurrency_max: Some(5), ..Quotas::default() };
    let terms = TenantTerms { weight: 3, quotas };
    let body = br#"{"weight":3,"quotas":{"concurrency_max":5}}"#;

    let added = send(&mut client, "root-admin", "PUT", "/v1/tenants/new", &format!("if-none-match: *\r\n{JSON}"), body).await;
    assert_eq!((added.status, &added.json()["weight"]), (201, &json!(3)));
    let last = server.plane.last();
    assert_eq!((last.tenant, last.ask), (of("new"), Ask::AddTenant(terms)));
    assert_eq!(send(&mut client, "root-admin", "PUT", "/v1/tenants/acme", JSON, body).await.status, 200);
    assert_eq!(server.plane.last().ask, Ask::ChangeTenant(terms));
    assert_eq!(send(&mut client, "root-admin", "PUT", "/v1/tenants/nobody", JSON, body).await.status, 404);

    let body = br#"{"scopes":["invoke","deploy"],"label":"CI","expires_in_seconds":60}"#;
    let key =
        send(&mut client, "acme-admin", "POST", "/v1/keys", "content-type: Application/JSON; charset=utf-8\r\n", body).await;
    assert_eq!((key.status, key.header("location")), (201, Some("/v1/keys/k2")));
    assert_eq!((&key.json()["secret"], &key.json()["label"]), (&json!("told-once"), &json!("CI")));
    let last = server.plane.last();
    assert_eq!((last.tenant, &*last.caller.key, last.caller.from), (of("acme"), "key-2", Some([127, 0, 0, 1].into())));
    send(&mut client, "root-admin", "GET", "/v1/keys", "", b"").await;
    assert_eq!(server.plane.last().tenant, None, "the operators' own");
    send(&mut client, "root-admin", "GET", "/v1/tenants/other/keys", "", b"").await;
    assert_eq!(server.plane.last().tenant, of("other"));

    for (headers, body, to) in [("", &b""[..], None), (JSON, b"{}", None), (JSON, br#"{"to":1}"#, Some(1))] {
        let answer = send(&mut client, "acme-deploy", "POST", "/v1/functions/digits/rollback", headers, body).await;
        assert_eq!((answer.status, &answer.json()["release"]), (200, &json!(1)), "{answer:?}");
        let Ask::RollBack { to: asked, .. } = server.plane.last().ask else { panic!("to roll back") };
        assert_eq!(asked.map(|release| release.0.get()), to);
    }
    for (path, headers, form) in [
        ("/v1/functions/new", TAR, Form::Archive),
        ("/v1/functions/new", TOML, Form::File),
        ("/v1/models/m/versions/1", ONNX, Form::File),
        ("/v1/models/m/versions/1", "content-type: application/gzip\r\n", Form::Archive),
    ] {
        assert_eq!(send(&mut client, "acme-deploy", "PUT", path, headers, b"x").await.status, 201, "{path} {headers}");
        let (Ask::Deploy { form: asked, .. } | Ask::AddModel { form: asked, .. }) = server.plane.last().ask else {
            panic!("to add something")
        };
        assert_eq!(asked, form, "{path} {headers}");
    }
    let answer = send(&mut client, "acme-deploy", "PUT", "/v1/functions/new?dry_run=true", TAR, b"x").await;
    assert_eq!((answer.status, &answer.json()["dry_run"]), (200, &json!(true)), "a dry run makes nothing");
}

/// Method, path, header lines and body; the status, and a part of what is told.
type Malformed<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);

#[tokio::test]
async fn what_is_malformed_is_told_precisely() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let key = br#"{"scopes":["invoke"]}"#;
    let large = format!(r#"{{"scopes":["invoke"],"label":"{}"}}"#, "x".repeat(17 << 10)).into_bytes();
    let deep = format!(r#"{{"quotas":{}"#, r#"{"a":"#.repeat(2000)).into_bytes();
    let cases: [Malformed<'_>; 45] = [
        ("GET", "/v1", "", b"", 404, "nothing is served"),
        ("GET", "/v1/", "", b"", 404, "nothing is served"),
        ("GET", "/v1/nothing", "", b"", 404, "/v1/openapi.json"),
        ("GET", "/v1/functions/", "", b"", 404, "no valid name"),
        ("GET", "/v1/tenants/acme/functions/Digits", "", b"", 404, "no valid name"),
        ("PUT", "/v1/tenants/acme/functions/Digits", TAR, b"x", 400, "no valid name"),
        ("GET", "/v1/functions%2Fdigits", "", b"", 404, "nothing is served"),
        ("GET", "/v1/tenants/acme/plugins/Resize", "", b"", 404, "does not serve"),
        ("PUT", "/v1/tenants/acme/plugins/resize/versions/v+1", WASM, b"x", 400, "`v+1` does not serve"),
        ("PUT", "/v1/tenants/acme/plugins/resize/versions/1", TAR, b"x", 415, "this takes application/wasm"),
        ("PUT", "/v1/tenants/acme/models/m/versions/1", WASM, b"x", 415, "application/octet-stream or application/x-tar"),
        ("POST", "/v1/tenants/acme/models/m/versions/1", ONNX, b"x", 405, "PUT and DELETE, not POST"),
        ("DELETE", "/v1/tenants/acme/models/m/versions/1", "if-none-match: *\r\n", b"", 400, "not here"),
        ("POST", "/v1/whoami", "", b"", 405, "GET and HEAD, not POST"),
        ("PATCH", "/v1/tenants/acme/functions/digits", "", b"", 405, "GET and HEAD and PUT and DELETE, not PATCH"),
        ("GET", "/v1/whoami?x=1", "", b"", 400, "unknown query parameter `x`; known here: none"),
        ("PUT", "/v1/tenants/acme/functions/digits?dry=1", TAR, b"x", 400, "known here: dry_run"),
        ("PUT", "/v1/tenants/acme/functions/digits?dry_run=yes", TAR, b"x", 400, "`true` or `false`"),
        ("GET", "/v1/audit?after=-1", "", b"", 400, "whole number"),
        ("GET", "/v1/tenants/acme/functions/digits/difference?from=1", "", b"", 400, "two releases"),
        ("GET", "/v1/tenants", "if-match: 41\r\n", b"", 400, "`If-Match` has one revision"),
        ("GET", "/v1/tenants", "if-match: *\r\n", b"", 400, "`If-Match` has one revision"),
        ("GET", "/v1/tenants", "if-match: W/\"41\"\r\n", b"", 400, "`If-Match` has one revision"),
        ("GET", "/v1/tenants", "if-match: \"41\"\r\nif-match: \"41\"\r\n", b"", 400, "more than once"),
        (
            "PUT",
            "/v1/tenants/acme",
            "if-none-match: \"41\"\r\ncontent-type: application/json\r\n",
            b"{}",
            400,
            "`If-None-Match` is `*`",
        ),
        ("DELETE", "/v1/tenants/acme/functions/digits", "if-none-match: *\r\n", b"", 400, "not here"),
        ("POST", "/v1/keys", "", key, 415, "application/json"),
        ("POST", "/v1/keys", "content-type: text/plain\r\n", key, 415, "`text/plain`"),
        ("POST", "/v1/keys", "content-type: application/json\r\ncontent-encoding: gzip\r\n", key, 415, "`gzip`"),
        ("POST", "/v1/keys", "content-type: application/json\r\ncontent-type: application/json\r\n", key, 400, "more than once"),
        ("POST", "/v1/keys", JSON, b"", 400, "EOF"),
        ("POST", "/v1/keys", JSON, b"[]", 400, "the body: invalid length"),
        ("POST", "/v1/keys", JSON, br#"{"scopes":["invoke"],"scopes":["admin"]}"#, 400, "duplicate field `scopes`"),
        ("POST", "/v1/keys", JSON, br#"{"scopes":["invoke"],"tenant":"other"}"#, 400, "unknown field `tenant`"),
        ("POST", "/v1/keys", JSON, br#"{"scopes":["everything"]}"#, 400, "unknown variant `everything`"),
        ("POST", "/v1/keys", JSON, br#"{"scopes":["invoke"]}{"#, 400, "trailing characters"),
        ("POST", "/v1/keys", JSON, b"\xff\xfe", 400, "the body"),
        ("POST", "/v1/keys", JSON, &large, 413, "16384 bytes"),
        ("PUT", "/v1/tenants/acme", JSON, &deep, 400, "unknown field `a`"),
        ("PUT", "/v1/tenants/acme", JSON, br#"{"weight":0}"#, 400, "at least 1"),
        ("PUT", "/v1/tenants/acme", JSON, br#"{"quotas":[1,2]}"#, 400, "a list where an object"),
        ("PUT", "/v1/tenants/Acme", JSON, b"{}", 404, "`Acme` is no valid name"),
        ("POST", "/v1/tenants/acme/functions/digits/rollback", JSON, br#"{"to":0}"#, 400, "nonzero"),
        (
            "PUT",
            "/v1/tenants/acme/functions/digits",
            "content-type: application/zip\r\n",
            b"x",
            415,
            "application/x-tar or application/gzip or application/toml",
        ),
        ("PUT", "/v1/tenants/acme/functions/digits", "", b"x", 415, "application/x-tar or application/gzip"),
    ];
    for (method, path, headers, body, status, part) in cases {
        let answer = send(&mut client, "root-admin", method, path, headers, body).await;
        let problem = answer.problem();
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {detail}");
        assert!(detail.contains(part), "{method} {path}: {detail}");
        assert!(detail.len() < 1500, "{method} {path}: {detail}");
    }
    assert_eq!(server.plane.asked(), 0, "nothing of it was asked");
    let answer = send(&mut client, "root-admin", "POST", "/v1/tenants/acme/keys/k1", "", b"").await;
    assert_eq!(answer.header("allow"), Some("DELETE"));
}

#[tokio::test]
async fn a_host_without_a_control_plane_says_what_to_configure() {
    for server in [Server::start(EdgeLimits::default()), Server::start_without_plane()] {
        let mut client = server.control().await;
        for (method, path) in [("GET", "/v1"), ("GET", "/v1/whoami"), ("PUT", "/v1/functions/f"), ("GET", "/v1/openapi.json")] {
            let answer = send(&mut client, "root-admin", method, path, TAR, b"x").await;
            let problem = answer.problem();
            assert_eq!(answer.status, 404, "{method} {path}");
            assert!(problem["detail"].as_str().unwrap().contains("configuration"), "{problem}");
        }
        assert_eq!(client.ask("GET", "/live", b"").await.status, 200);
    }
}

#[tokio::test]
async fn a_panic_ends_its_request_alone() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let answer = send(&mut client, "acme-deploy", "PUT", "/v1/functions/panics", TAR, b"an archive").await;
    let problem = answer.problem();
    assert_eq!((answer.status, &problem["code"]), (500, &json!("internal")));
    assert!(!String::from_utf8_lossy(&answer.body).contains("today"), "what it panicked with is not told");
    assert_eq!(server.plane.running(), 0);
    assert_eq!(
        send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", TAR, b"x").await.status,
        200,
        "on the same connection"
    );
    assert_eq!(server.client().await.ask("GET", "/v2/health/ready", b"").await.status, 200);
}

#[tokio::test]
async fn what_goes_wrong_in_a_deployment_says_where() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let cases = [
        ("full", 507, "storage_full", json!("store"), None),
        ("broken", 500, "internal", json!("load"), None),
        ("slow", 503, "overloaded", json!("load"), Some("7")),
        ("refuses", 429, "too_many_requests", Value::Null, Some("1")),
    ];
    for (function, status, code, step, retry) in cases {
        let answer = send(&mut client, "acme-deploy", "PUT", &format!("/v1/functions/{function}"), TAR, b"x").await;
        let problem = answer.problem();
        assert_eq!((answer.status, &problem["code"], &problem["step"]), (status, &json!(code), &step), "{problem}");
        assert_eq!(answer.header("retry-after"), retry, "{function}");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}
