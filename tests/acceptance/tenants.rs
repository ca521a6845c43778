//! Tenants on one host: each has its keys, functions and bounds, and none can read, call, list, count or notice what another has.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Workshop, exchange, run, wait_until};
use crate::store::{archive, host, manifest};

/// A host with an operator and two tenants, each with a function `echo`.
pub(crate) struct Town {
    pub(crate) server: Server,
    pub(crate) operator: String,
    pub(crate) acme: String,
    pub(crate) other: String,
    _shop: Workshop,
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Asks the control listener.
pub(crate) fn ask(server: &Server, key: &str, method: &str, path: &str, body: &[u8], kind: &str) -> Answer {
    let authorization = bearer(key);
    let mut headers = vec![("authorization", authorization.as_str())];
    if !body.is_empty() {
        headers.push(("content-type", kind));
    }
    exchange(server.control, method, path, &headers, body)
}

pub(crate) fn call(server: &Server, key: &str, path: &str) -> Answer {
    server.call("POST", path, &[("authorization", &bearer(key))], b"")
}

pub(crate) fn key(server: &Server, operator: &str, tenant: &str, scopes: &[&str]) -> Value {
    let body = json!({ "scopes": scopes }).to_string();
    let answer = ask(server, operator, "POST", &format!("/v1/tenants/{tenant}/keys"), body.as_bytes(), "application/json");
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

pub(crate) fn secret(key: &Value) -> String {
    key["secret"].as_str().expect("it is told once").to_owned()
}

fn deploy(server: &Server, key: &str, function: &str, release: u32) -> Answer {
    ask(server, key, "PUT", &format!("/v1/functions/{function}"), &archive(&manifest(release)), "application/x-tar")
}

impl Town {
    pub(crate) fn new() -> Self {
        let shop = Workshop::new();
        let store = shop.path().join("store");
        let made = run(&["init", "--no-profile", "--json", "--store", store.to_str().expect("UTF-8")]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        let operator = secret(&made);
        let server = host(&store);
        for tenant in ["acme", "globex"] {
            let authorization = bearer(&operator);
            let headers =
                [("authorization", authorization.as_str()), ("if-none-match", "*"), ("content-type", "application/json")];
            let added = exchange(server.control, "PUT", &format!("/v1/tenants/{tenant}"), &headers, b"{}");
            assert_eq!(added.status, 201, "{added:?}");
        }
        let [acme, other] = ["acme", "globex"].map(|tenant| secret(&key(&server, &operator, tenant, &["admin"])));
        for (key, release) in [(&acme, 1), (&other, 2)] {
            let deployed = deploy(&server, key, "echo", release);
            assert_eq!(deployed.status, 201, "{deployed:?}\n{}", server.log());
        }
        Self { server, operator, acme, other, _shop: shop }
    }
}

#[test]
fn each_tenant_has_its_own_and_the_operator_names_whose() {
    let Town { server, operator, acme, other, .. } = &Town::new();
    assert_eq!(call(server, acme, "/fn/echo").text(), "1 1");
    assert_eq!(call(server, other, "/fn/echo").text(), "2 2");
    assert_eq!(call(server, operator, "/tenants/globex/fn/echo").text(), "2 2");
    assert_eq!(call(server, operator, "/fn/echo").status, 400, "whose?");
    assert_eq!(server.post("/fn/echo", "").status, 401, "no key");
    assert_eq!(server.post("/fn/echo", "").header("www-authenticate"), Some("Bearer"));
    assert_eq!(call(server, "sm_0000000000_00", "/fn/echo").status, 401);
    // Deploying is not calling, and calling is not deploying.
    let [invoke, deploys] = [&["invoke"][..], &["deploy"]].map(|scopes| key(server, operator, "acme", scopes));
    assert_eq!(call(server, &secret(&invoke), "/fn/echo").status, 200);
    assert_eq!(call(server, &secret(&deploys), "/fn/echo").status, 403);
    assert_eq!(deploy(server, &secret(&invoke), "echo", 3).status, 403);
    assert_eq!(ask(server, &secret(&deploys), "GET", "/v1/keys", b"", "").status, 403);
    // A key that is revoked is no key from then on.
    let path = format!("/v1/keys/{}", invoke["key"].as_str().expect("an id"));
    assert_eq!(ask(server, acme, "DELETE", &path, b"", "").status, 204);
    assert_eq!(call(server, &secret(&invoke), "/fn/echo").status, 401);
    let short = ask(server, acme, "POST", "/v1/keys", br#"{"scopes": ["invoke"], "expires_in_seconds": 1}"#, "application/json");
    let short = secret(&short.json());
    wait_until("it has expired", || call(server, &short, "/fn/echo").status == 401);
    // The last operator's key cannot go: then anybody would be one.
    let keys = ask(server, operator, "GET", "/v1/keys", b"", "").json();
    let path = format!("/v1/keys/{}", keys["keys"][0]["key"].as_str().expect("an id"));
    assert_eq!(ask(server, operator, "DELETE", &path, b"", "").status, 409);
}

/// Everything of an answer but when it was given.
fn told(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (answer.status, headers, answer.text())
}

#[test]
fn a_tenant_notices_nothing_of_another() {
    let Town { server, acme, other, .. } = &Town::new();
    assert_eq!(deploy(server, other, "secret", 7).status, 201);
    let there = ask(server, other, "GET", "/v1/keys", b"", "").json();
    let id = there["keys"][0]["key"].as_str().expect("an id").to_owned();
    // What is another's, beside what nobody has: `{}` stands for a tenant, `#` for a function, `%` for a key.
    let attempts: [(&str, &str, &[u8]); 40] = [
        ("GET", "/v1/tenants/{}/functions", b""),
        ("POST", "/v1/tenants/{}/functions/echo/rollback", b""),
        ("GET", "/v1/tenants/{}/functions/echo", b""),
        ("GET", "/v1/tenants/{}/functions/secret", b""),
        ("PUT", "/v1/tenants/{}/functions/secret", b"x"),
        ("PUT", "/v1/tenants/{}/functions/secret?dry_run=true", b"x"),
        ("DELETE", "/v1/tenants/{}/functions/secret", b""),
        ("POST", "/v1/tenants/{}/functions/secret/rollback", b""),
        ("POST", "/v1/tenants/{}/functions/secret/rollback", b"{\"to\":1}"),
        ("GET", "/v1/tenants/{}/functions/secret/difference?from=1&to=2", b""),
        ("GET", "/v1/tenants/{}/plugins", b""),
        ("GET", "/v1/tenants/{}/plugins/#", b""),
        ("PUT", "/v1/tenants/{}/plugins/#/versions/1", b"x"),
        ("DELETE", "/v1/tenants/{}/plugins/#/versions/1", b""),
        ("GET", "/v1/tenants/{}/models", b""),
        ("GET", "/v1/tenants/{}/models/#", b""),
        ("PUT", "/v1/tenants/{}/models/#/versions/1", b"x"),
        ("DELETE", "/v1/tenants/{}/models/#/versions/1", b""),
        ("GET", "/v1/plugins/#", b""),
        ("DELETE", "/v1/models/#/versions/1", b""),
        ("GET", "/v1/tenants/{}/keys", b""),
        ("POST", "/v1/tenants/{}/keys", b"{\"scopes\":[\"admin\"]}"),
        ("DELETE", "/v1/tenants/{}/keys/%", b""),
        ("GET", "/v1/tenants/{}/audit", b""),
        ("GET", "/v1/tenants/{}/audit?after=1", b""),
        ("GET", "/v1/tenants/{}/usage", b""),
        ("PUT", "/v1/tenants/{}", b"{\"weight\":100}"),
        ("DELETE", "/v1/tenants/{}", b""),
        ("GET", "/tenants/{}/functions/secret/models", b""),
        ("POST", "/tenants/{}/functions/secret/models/model/recycle", b""),
        ("GET", "/v1/functions/#", b""),
        ("DELETE", "/v1/functions/#", b""),
        ("POST", "/v1/functions/#/rollback", b""),
        ("GET", "/v1/functions/#/difference?from=1&to=1", b""),
        ("GET", "/functions/#/models", b""),
        ("POST", "/functions/#/models/model/recycle", b""),
        ("DELETE", "/v1/keys/%", b""),
        ("GET", "/v1/tenants", b""),
        ("GET", "/v1/tenants/{}/../{}/functions", b""),
        ("GET", "/v1/tenants/{}/functions/%2e%2e", b""),
    ];
    for (method, path, body) in attempts {
        let kind = if path.contains("/functions/secret") && method == "PUT" { "application/x-tar" } else { "application/json" };
        let at = |tenant: &str, function: &str, id: &str| {
            let path = path.replace("{}", tenant).replace('#', function).replacen('%', id, usize::from(!path.contains("%2e")));
            let answer = ask(server, acme, method, &path, body, kind);
            let (status, headers, text) = told(&answer);
            // The names that were asked for are all that may differ.
            let text = text.replace(tenant, "{}").replace(function, "#").replace(id, "%");
            let headers: Vec<_> = headers.into_iter().filter(|(name, _)| name != "content-length").collect();
            (status, headers, text)
        };
        let theirs = at("globex", "secret", &id);
        let nobodys = at("nobody", "nihil", "0123456789");
        assert_eq!(theirs, nobodys, "{method} {path}");
        assert!(matches!(theirs.0, 403 | 404) || path == "/v1/tenants", "{method} {path}: {theirs:?}");
    }
    // Over the functions' listener.
    for path in ["/fn/secret", "/v2/models/secret/infer", "/tenants/globex/fn/echo", "/tenants/globex/v2/models/secret/infer"] {
        let nobodys = path.replace("secret", "nihil").replace("globex", "nobody");
        let rename = |answer: &Answer| answer.text().replace("secret", "#").replace("nihil", "#");
        let (theirs, nobodys) = (call(server, acme, path), call(server, acme, &nobodys));
        assert_eq!((theirs.status, rename(&theirs)), (nobodys.status, rename(&nobodys)), "{path}");
        assert_eq!(theirs.status, 404, "{path}");
    }
    // Its own metrics and no other's; the same bytes are uploaded again, and nothing tells that they were there.
    let metrics = ask(server, acme, "GET", "/metrics", b"", "").text();
    assert!(metrics.contains("tenant=\"acme\"") && !metrics.contains("globex") && !metrics.contains("secret"), "{metrics}");
    assert_eq!(ask(server, acme, "GET", "/v1/functions", b"", "").json()["functions"].as_array().map(Vec::len), Some(1));
    let entries = ask(server, acme, "GET", "/v1/audit", b"", "").text();
    assert!(!entries.contains("secret"), "{entries}");
    assert_eq!(call(server, other, "/fn/secret").text(), "7 7", "nothing has happened to it");
}

#[test]
fn quotas_hold_at_once_and_are_named() {
    let Town { server, operator, acme, other, .. } = &Town::new();
    let set = |quotas: Value| {
        let body = json!({ "quotas": quotas }).to_string();
        let answer = ask(server, operator, "PUT", "/v1/tenants/acme", body.as_bytes(), "application/json");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let refused = |answer: &Answer, quota: &str| {
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(answer.text().contains(quota), "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    };
    set(json!({ "functions_max": 1 }));
    refused(&deploy(server, acme, "second", 1), "functions_max");
    assert_eq!(deploy(server, acme, "echo", 5).status, 200, "another release of what is there");
    set(json!({ "stored_bytes_max": 10 }));
    refused(&deploy(server, acme, "second", 1), "stored_bytes_max");
    set(json!({ "instances_max": 0 }));
    refused(&call(server, acme, "/fn/echo"), "instances_max");
    set(json!({ "guest_memory_bytes_max": 1 }));
    refused(&call(server, acme, "/fn/echo"), "guest_memory_bytes_max");
    set(json!({ "concurrency_max": 0 }));
    refused(&call(server, acme, "/fn/echo"), "concurrency_max");
    set(json!({ "requests_per_second_max": 2 }));
    let answers: Vec<_> = (0..5).map(|_| call(server, acme, "/fn/echo")).collect();
    refused(answers.iter().find(|answer| answer.status != 200).expect("one too many"), "requests_per_second_max");
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert_eq!(call(server, other, "/fn/echo").status, 200, "its own");
    set(json!({}));
    assert_eq!(call(server, acme, "/fn/echo").status, 200);
    // A tenant that is gone has no keys, and its name is never given again.
    assert_eq!(ask(server, operator, "DELETE", "/v1/tenants/acme", b"", "").status, 204);
    assert_eq!(call(server, acme, "/fn/echo").status, 401);
    assert_eq!(call(server, operator, "/tenants/acme/fn/echo").status, 404);
    let authorization = bearer(operator);
    let headers = [("authorization", authorization.as_str()), ("if-none-match", "*"), ("content-type", "application/json")];
    assert_eq!(exchange(server.control, "PUT", "/v1/tenants/acme", &headers, b"{}").status, 409);
}
