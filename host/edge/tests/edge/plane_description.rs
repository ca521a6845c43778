//! The description of the control plane, against what is really answered: every path is there, every answer has its schema and
//! every status is named. The schemas are read by a validator that is none of ours.

use std::collections::BTreeSet;

use boon::{Compiler, SchemaIndex, Schemas};
use sandmill_edge::EdgeLimits;
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::keys::{ask, bearer};
use crate::plane::{JSON, ONNX, TAR, TOML, WASM, send};
use crate::server::Server;

const PAGE: &str = "http://host/openapi.json";

/// The description as it is served.
struct Described {
    page: Value,
    schemas: Schemas,
    compiler: Compiler,
}

impl Described {
    async fn by(client: &mut Client) -> Self {
        let answer = ask(client, "GET", "/v1/openapi.json", &bearer("acme-invoke")).await;
        assert_eq!(answer.status, 200);
        let page = answer.json();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(boon::Draft::V2020_12);
        compiler.add_resource(PAGE, page.clone()).unwrap();
        Self { page, schemas: Schemas::new(), compiler }
    }

    /// What stands at a path in the page, references followed.
    fn at<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Some(reference) = value["$ref"].as_str() {
            value = self.page.pointer(reference.trim_start_matches('#')).expect("what it refers to");
        }
        value
    }

    fn schema(&mut self, pointer: &str) -> SchemaIndex {
        self.compiler
            .compile(&format!("{PAGE}#{pointer}"), &mut self.schemas)
            .unwrap_or_else(|error| panic!("{pointer}: {error:#}"))
    }

    /// Holds an answer against what is described for it.
    fn check(&mut self, method: &str, template: &str, answer: &Answer) {
        let responses = &self.page["paths"][template][method.to_lowercase()]["responses"];
        let response = &responses[answer.status.to_string()];
        assert!(response.is_object(), "{method} {template} has no {}: {answer:?}", answer.status);
        let response = self.at(response).clone();
        let names = response["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase());
        for name in names {
            assert!(answer.header(&name).is_some(), "{method} {template} {}: no {name}", answer.status);
        }
        let Some(content) = response["content"].as_object() else {
            return assert!(answer.body.is_empty(), "{method} {template}: {answer:?}");
        };
        let (media, body) = content.iter().next().unwrap();
        assert_eq!(answer.header("content-type"), Some(media.as_str()), "{method} {template}");
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        if let Some(reference) = body["schema"]["$ref"].as_str() {
            let schema = self.schema(reference.trim_start_matches('#'));
            let valid = self.schemas.validate(&value, schema);
            assert!(valid.is_ok(), "{method} {template}: {value}: {:#}", valid.unwrap_err());
        }
    }
}

#[tokio::test]
async fn every_path_answers_the_methods_that_are_described() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let described = Described::by(&mut client).await;
    let paths = described.page["paths"].as_object().unwrap();
    assert!(paths.len() > 15);
    for (template, item) in paths {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters").map(|method| method.to_uppercase());
        let mut methods: BTreeSet<String> = methods.collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        let names = [("tenant", "acme"), ("function", "digits"), ("key", "k1"), ("plugin", "resize"), ("model", "digits")];
        let path = template.replace("{version}", "1");
        let path = names.iter().fold(path, |path, (part, name)| path.replace(&format!("{{{part}}}"), name));
        let answer = ask(&mut client, "OPTIONS", &path, &bearer("acme-admin")).await;
        let allowed = answer.header("allow").unwrap_or_default().split(", ").map(str::to_owned);
        assert_eq!((answer.status, allowed.collect::<BTreeSet<_>>()), (405, methods), "{template}");
    }
}

#[tokio::test]
async fn every_schema_is_one() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut described = Described::by(&mut server.control().await).await;
    for kind in ["schemas", "parameters"] {
        let names: Vec<String> = described.page["components"][kind].as_object().unwrap().keys().cloned().collect();
        for name in names {
            let inner = if kind == "parameters" { "/schema" } else { "" };
            described.schema(&format!("/components/{kind}/{name}{inner}"));
        }
    }
}

/// Method, path, the name in it, header lines and body; the status.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [u8], u16);

#[tokio::test]
async fn every_answer_is_as_described() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let mut described = Described::by(&mut client).await;
    let key = br#"{"scopes":["invoke","admin"],"expires_in_seconds":60}"#;
    let terms = br#"{"weight":2,"quotas":{"functions_max":3}}"#;
    let added = format!("if-none-match: *\r\n{JSON}");
    // One for each kind of answer, and problems of all kinds.
    let cases: [Case<'_>; 49] = [
        ("GET", "/v1/whoami", "", "", b"", 200),
        ("GET", "/v1/functions", "", "", b"", 200),
        ("GET", "/v1/functions/{function}", "digits", "", b"", 200),
        ("PUT", "/v1/functions/{function}", "new", TAR, b"x", 201),
        ("PUT", "/v1/functions/{function}", "digits", TAR, b"x", 200),
        ("PUT", "/v1/functions/{function}?dry_run=true", "new", TAR, b"x", 200),
        ("DELETE", "/v1/functions/{function}", "digits", "", b"", 204),
        ("POST", "/v1/functions/{function}/rollback", "digits", "", b"", 200),
        ("GET", "/v1/functions/{function}/difference?from=1&to=2", "digits", "", b"", 200),
        ("PUT", "/v1/functions/{function}", "new", TOML, b"x", 201),
        ("GET", "/v1/plugins", "", "", b"", 200),
        ("GET", "/v1/plugins/{plugin}", "resize", "", b"", 200),
        ("GET", "/v1/plugins/{plugin}", "nothing", "", b"", 404),
        ("PUT", "/v1/plugins/{plugin}/versions/{version}", "resize", WASM, b"x", 200),
        ("PUT", "/v1/plugins/{plugin}/versions/{version}", "new", WASM, b"x", 201),
        ("PUT", "/v1/plugins/{plugin}/versions/{version}", "new", ONNX, b"x", 415),
        ("DELETE", "/v1/plugins/{plugin}/versions/{version}", "resize", "", b"", 204),
        ("DELETE", "/v1/plugins/{plugin}/versions/{version}", "nothing", "", b"", 404),
        ("GET", "/v1/models", "", "", b"", 200),
        ("GET", "/v1/models/{model}", "digits", "", b"", 200),
        ("PUT", "/v1/models/{model}/versions/{version}", "digits", ONNX, b"x", 200),
        ("PUT", "/v1/models/{model}/versions/{version}", "new", TAR, b"x", 201),
        ("DELETE", "/v1/models/{model}/versions/{version}", "digits", "", b"", 204),
        ("DELETE", "/v1/models/{model}/versions/{version}", "nothing", "", b"", 404),
        ("GET", "/v1/keys", "", "", b"", 200),
        ("POST", "/v1/keys", "", JSON, key, 201),
        ("DELETE", "/v1/keys/{key}", "k1", "", b"", 204),
        ("GET", "/v1/audit", "", "", b"", 200),
        ("GET", "/v1/usage", "", "", b"", 200),
        ("GET", "/v1/functions/{function}/logs", "digits", "", b"", 200),
        ("GET", "/v1/tenants", "", "", b"", 200),
        ("PUT", "/v1/tenants/{tenant}", "new", &added, terms, 201),
        ("PUT", "/v1/tenants/{tenant}", "acme", JSON, b"{}", 200),
        ("DELETE", "/v1/tenants/{tenant}", "acme", "", b"", 204),
        ("GET", "/v1/functions/{function}", "nothing", "", b"", 404),
        ("GET", "/v1/functions/{function}/difference", "digits", "", b"", 400),
        ("GET", "/v1/functions", "", "if-match: \"1\"\r\n", b"", 409),
        ("DELETE", "/v1/functions/{function}", "digits", "if-match: \"1\"\r\n", b"", 409),
        ("PUT", "/v1/functions/{function}", "digits", JSON, b"x", 415),
        ("PUT", "/v1/functions/{function}", "full", TAR, b"x", 507),
        ("PUT", "/v1/functions/{function}", "broken", TAR, b"x", 500),
        ("PUT", "/v1/functions/{function}", "panics", TAR, b"x", 500),
        ("PUT", "/v1/functions/{function}", "slow", TAR, b"x", 503),
        ("PUT", "/v1/functions/{function}", "refuses", TAR, b"x", 429),
        ("POST", "/v1/functions/{function}/rollback", "digits", JSON, br#"{"to":9}"#, 404),
        ("POST", "/v1/keys", "", JSON, b"{}", 400),
        ("POST", "/v1/keys", "", JSON, &[b' '; 20_000], 413),
        ("PUT", "/v1/tenants/{tenant}", "nobody", JSON, b"{}", 404),
        ("DELETE", "/v1/keys/{key}", "k9", "", b"", 404),
    ];
    let operator = ask(&mut client, "GET", "/v1/whoami", &bearer("root-admin")).await;
    assert_eq!(operator.json()["tenant"], Value::Null);
    described.check("GET", "/v1/whoami", &operator);
    for (method, template, name, headers, body, status) in cases {
        let parts = ["{function}", "{key}", "{tenant}", "{plugin}", "{model}"];
        let path = parts.iter().fold(template.replace("{version}", "1"), |path, part| path.replace(part, name));
        let template = template.split('?').next().unwrap();
        let is_operators = template.starts_with("/v1/tenants");
        let secret = if is_operators { "root-admin" } else { "acme-admin" };
        let answer = send(&mut client, secret, method, &path, headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        described.check(method, template, &answer);
        if !is_operators && template != "/v1/whoami" {
            let (path, template) = (path.replace("/v1", "/v1/tenants/acme"), template.replace("/v1", "/v1/tenants/{tenant}"));
            let answer = send(&mut client, "root-admin", method, &path, headers, body).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            described.check(method, &template, &answer);
        }
        for (secret, status) in [("", 401), ("acme-invoke", 403)] {
            let answer = send(&mut client, secret, method, &path, headers, body).await;
            if answer.status == status || status == 401 {
                assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
                described.check(method, template, &answer);
            }
        }
    }
}
