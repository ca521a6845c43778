//! One tenant at another's things: whatever it tries, it is told what it would be told of a tenant that does not exist, and of
//! things that do not exist.

use sandmill_edge::EdgeLimits;

use crate::client::Answer;
use crate::plane::{JSON, TAR, send};
use crate::server::Server;

/// Attempts at things of `other`, by paths that name it; `{}` stands for the tenant.
const BY_NAME: [(&str, &str, &str, &[u8]); 35] = [
    ("GET", "/v1/tenants/{}/functions", "", b""),
    ("HEAD", "/v1/tenants/{}/functions", "", b""),
    ("GET", "/v1/tenants/{}/functions/theirs", "", b""),
    ("GET", "/v1/tenants/{}/functions/digits", "", b""),
    ("GET", "/v1/tenants/{}/functions/nothing", "", b""),
    ("GET", "/v1/tenants/{}/functions/Theirs", "", b""),
    ("PUT", "/v1/tenants/{}/functions/theirs", TAR, b"x"),
    ("PUT", "/v1/tenants/{}/functions/theirs?dry_run=true", TAR, b"x"),
    ("PUT", "/v1/tenants/{}/functions/theirs", "content-type: application/gzip\r\n", b"x"),
    ("PUT", "/v1/tenants/{}/functions/theirs", "content-type: application/zip\r\n", b"x"),
    ("PUT", "/v1/tenants/{}/functions/panics", TAR, b"x"),
    ("DELETE", "/v1/tenants/{}/functions/theirs", "", b""),
    ("DELETE", "/v1/tenants/{}/functions/theirs", "if-match: \"41\"\r\n", b""),
    ("POST", "/v1/tenants/{}/functions/theirs", "", b""),
    ("POST", "/v1/tenants/{}/functions/theirs/rollback", "", b""),
    ("POST", "/v1/tenants/{}/functions/theirs/rollback", JSON, br#"{"to":1}"#),
    ("POST", "/v1/tenants/{}/functions/theirs/rollback", JSON, b"nonsense"),
    ("GET", "/v1/tenants/{}/functions/theirs/difference?from=1&to=2", "", b""),
    ("GET", "/v1/tenants/{}/functions/theirs/difference?from=1&to=99", "", b""),
    ("GET", "/v1/tenants/{}/functions/theirs/difference", "", b""),
    ("GET", "/v1/tenants/{}/keys", "", b""),
    ("POST", "/v1/tenants/{}/keys", JSON, br#"{"scopes":["admin"]}"#),
    ("DELETE", "/v1/tenants/{}/keys/k9", "", b""),
    ("DELETE", "/v1/tenants/{}/keys/root", "", b""),
    ("GET", "/v1/tenants/{}/audit", "", b""),
    ("GET", "/v1/tenants/{}/usage", "", b""),
    ("GET", "/v1/tenants/{}/functions/theirs/logs", "", b""),
    ("GET", "/v1/tenants/{}/audit?after=1", "", b""),
    ("GET", "/v1/tenants/{}/whoami", "", b""),
    ("GET", "/v1/tenants/{}", "", b""),
    ("PUT", "/v1/tenants/{}", JSON, br#"{"weight":1}"#),
    ("PUT", "/v1/tenants/{}", "if-none-match: *\r\ncontent-type: application/json\r\n", b"{}"),
    ("DELETE", "/v1/tenants/{}", "", b""),
    ("GET", "/tenants/{}/functions/theirs/models", "", b""),
    ("POST", "/tenants/{}/functions/theirs/models/model/recycle", "", b""),
];

/// The same at the functions' listener.
const CALLS: [(&str, &str); 8] = [
    ("POST", "/tenants/{}/fn/echo"),
    ("POST", "/tenants/{}/fn/echo/x?y"),
    ("GET", "/tenants/{}/fn/missing"),
    ("POST", "/tenants/{}/v2/models/echo/infer"),
    ("POST", "/tenants/{}/v2/models/echo/versions/1/infer"),
    ("GET", "/tenants/{}/v2/models/echo"),
    ("GET", "/tenants/{}/v2/models/echo/versions/7"),
    ("GET", "/tenants/{}/v2/models/echo/ready"),
];

/// Attempts at things of `other` by names of its own, and the same with names that nobody has.
const BY_THEIR_NAMES: [(&str, &str, &str, &str, &[u8]); 7] = [
    ("GET", "/v1/functions/theirs", "/v1/functions/nobody", "", b""),
    ("POST", "/v1/functions/theirs/rollback", "/v1/functions/nobody/rollback", "", b""),
    ("POST", "/v1/functions/theirs/rollback", "/v1/functions/nobody/rollback", JSON, br#"{"to":2}"#),
    ("GET", "/v1/functions/theirs/difference?from=1&to=2", "/v1/functions/nobody/difference?from=1&to=2", "", b""),
    ("DELETE", "/v1/keys/k9", "/v1/keys/kx", "", b""),
    ("DELETE", "/v1/keys/root", "/v1/keys/toor", "", b""),
    ("DELETE", "/v1/tenants/acme/keys/k9", "/v1/tenants/acme/keys/kx", "", b""),
];

/// All of an answer but when it was made.
fn told(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (answer.status, headers, String::from_utf8(answer.body.clone()).unwrap())
}

#[tokio::test]
async fn another_tenant_is_as_good_as_none() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    for secret in ["acme-invoke", "acme-deploy", "acme-admin"] {
        for (method, path, headers, body) in BY_NAME {
            let mut answers = Vec::new();
            for tenant in ["other", "nobody", "acme-"] {
                let answer = send(&mut client, secret, method, &path.replace("{}", tenant), headers, body).await;
                assert!((400..500).contains(&answer.status), "{method} {path} by {secret}: {answer:?}");
                answers.push(told(&answer));
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {path} by {secret}: {answers:?}");
            let text = answers[0].2.as_str();
            assert!(!text.contains("other") && !text.contains("nobody"), "{method} {path}: {text}");
        }
    }
    assert_eq!(server.plane.asked(), 0, "nothing of it came as far as the control plane");
}

#[tokio::test]
async fn what_is_another_tenants_is_refused_in_the_words_for_nothing() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let nothing = told(&send(&mut client, "acme-admin", "GET", "/v1/nothing", "", b"").await);
    for path in
        ["/v1/tenants/other/functions", "/v1/tenants/other/keys", "/v1/tenants/Other/audit", "/tenants/other/functions/f/models"]
    {
        assert_eq!(told(&send(&mut client, "acme-admin", "GET", path, "", b"").await), nothing, "{path}");
    }
    let mut client = server.client().await;
    let nothing = told(&send(&mut client, "acme-invoke", "GET", "/nothing", "", b"").await);
    for (method, path) in CALLS {
        for tenant in ["other", "nobody", "Other", ""] {
            let answer = send(&mut client, "acme-invoke", method, &path.replace("{}", tenant), "", b"").await;
            assert_eq!(told(&answer), nothing, "{method} {path} of `{tenant}`");
        }
    }
    assert_eq!(server.fake.admitted(), 0);
}

#[tokio::test]
async fn names_of_another_tenants_things_lead_nowhere() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    for (method, theirs, nobodys, headers, body) in BY_THEIR_NAMES {
        let names = [("theirs", "nobody"), ("k9", "kx"), ("root", "toor")];
        let plain = |answer: &Answer| {
            let (status, headers, text) = told(answer);
            // The names are the caller's own words.
            let text = names.iter().fold(text, |text, (theirs, nobodys)| text.replace(theirs, "_").replace(nobodys, "_"));
            (status, headers.into_iter().filter(|(name, _)| name != "content-length").collect::<Vec<_>>(), text)
        };
        let theirs = send(&mut client, "acme-admin", method, theirs, headers, body).await;
        let nobodys = send(&mut client, "acme-admin", method, nobodys, headers, body).await;
        assert_eq!(theirs.status, 404, "{theirs:?}");
        assert_eq!(plain(&theirs), plain(&nobodys));
    }
    let list = send(&mut client, "acme-admin", "GET", "/v1/functions", "", b"").await;
    let keys = send(&mut client, "acme-admin", "GET", "/v1/keys", "", b"").await;
    for (answer, theirs) in [(list, "theirs"), (keys, "k9")] {
        assert!(!String::from_utf8(answer.body).unwrap().contains(theirs));
    }
}
