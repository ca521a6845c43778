//! Models that are loaded and unloaded by hand, as the protocol's extension for model repositories has it.

use serde_json::{Value, json};

use crate::harness::{Server, example, wait_until};
use crate::tenants::{Town, key, secret};

const MEMORY: &str = r#"sandmill_model_memory_bytes{function="digits",model="model",tenant="default"}"#;
const UNLOADS: &str = r#"sandmill_model_unloads_total{function="digits",model="model",reason="request",tenant="default"}"#;

fn index(server: &Server, body: &str) -> Value {
    let answer = server.post("/v2/repository/index", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn a_model_goes_and_comes_when_somebody_asks() {
    let server = Server::start(&[example("digits"), example("file-type")]);
    let entry = |name: &str, state: &str, reason: &str| json!({ "name": name, "version": "1", "state": state, "reason": reason });
    let both = json!([entry("digits", "READY", ""), entry("file-type", "READY", "")]);
    assert_eq!(index(&server, ""), both);
    let before = server.metric(MEMORY).expect("it is measured");
    // Also one that is always warm otherwise.
    let unload = r#"{"parameters":{"unload_dependents":false}}"#;
    let answer = server.post("/v2/repository/models/digits/unload", unload);
    assert_eq!((answer.status, answer.text()), (200, String::new()), "{}", server.log());
    let gone = entry("digits", "UNAVAILABLE", "unloaded until its next call");
    assert_eq!(index(&server, "{}"), json!([gone, entry("file-type", "READY", "")]));
    assert_eq!(index(&server, r#"{"ready":true}"#), json!([entry("file-type", "READY", "")]));
    assert!(before > 0.0);
    // Told when its memory is given back, a little after it is gone.
    wait_until("its memory is given back", || server.metric(MEMORY) == Some(0.0) && server.metric(UNLOADS) == Some(1.0));
    // It would be there for its next call, which is what ready means; and the host misses nothing.
    assert_eq!(server.get("/v2/models/digits/ready").status, 200);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let sample = std::fs::read(example("digits").join("sample.json")).expect("it is there");
    assert_eq!(server.post("/fn/digits", &sample).status, 200, "{}", server.log());
    assert_eq!(index(&server, ""), both);
    // Twice, and back by hand.
    for _ in 0..2 {
        assert_eq!(server.post("/v2/repository/models/digits/unload", "").status, 200);
    }
    for _ in 0..2 {
        assert_eq!(server.post("/v2/repository/models/digits/load", "{}").status, 200);
    }
    assert_eq!(index(&server, ""), both);
    assert_eq!(server.post("/fn/digits", &sample).status, 200);
}

#[test]
fn what_a_repository_does_not_do_it_says() {
    let server = Server::start(&[example("digits")]);
    let load = |body: &str| server.post("/v2/repository/models/digits/load", body);
    let refused = load(r#"{"parameters":{"config":"{}","file:1/../../model.onnx":"AAAA"}}"#);
    assert_eq!(refused.status, 501, "{refused:?}");
    assert!(refused.error().contains("another release"), "{refused:?}");
    for body in [r#"{"parameters":{"x":1}}"#, "[]", "{", r#"{"ready":true}"#] {
        assert_eq!(load(body).status, 400, "{body}");
    }
    assert_eq!(server.post("/v2/repository/models/nothing/load", "").status, 404);
    assert_eq!(server.post("/v2/repository/models/nothing/unload", "").status, 404);
    assert_eq!(server.get("/v2/repository/index").status, 405);
    assert_eq!(load(&" ".repeat(17 << 10)).status, 413);
    assert_eq!(index(&server, "")[0]["state"], "READY");
}

/// A tenant has its own, and moves nothing without the scope for it.
#[test]
fn each_tenant_has_its_own_repository() {
    let Town { server, operator, acme, other, .. } = &Town::new();
    let post = |key: &str, path: &str| {
        let authorization = format!("Bearer {key}");
        server.call("POST", path, &[("authorization", &authorization)], b"")
    };
    for (key, path) in [(acme, "/v2/repository/index"), (operator, "/tenants/globex/v2/repository/index")] {
        let told = post(key, path).json();
        assert_eq!((told.as_array().map(Vec::len), &told[0]["name"]), (Some(1), &json!("echo")), "{told}");
    }
    assert_eq!(post(operator, "/v2/repository/index").status, 400, "whose?");
    assert_eq!(post(acme, "/tenants/globex/v2/repository/index").status, 404);
    assert_eq!(post(acme, "/tenants/globex/v2/repository/models/echo/unload").status, 404);
    assert_eq!(post("sm_0000000000_0", "/v2/repository/index").status, 401);
    let invoker = secret(&key(server, operator, "acme", &["invoke"]));
    assert_eq!(post(&invoker, "/v2/repository/index").status, 200);
    assert_eq!(post(&invoker, "/v2/repository/models/echo/unload").status, 403);
    assert_eq!(post(acme, "/v2/repository/models/echo/unload").status, 200);
    let state = |key: &str| post(key, "/v2/repository/index").json()[0]["state"].clone();
    assert_eq!((state(acme), state(other)), (json!("UNAVAILABLE"), json!("READY")));
}
