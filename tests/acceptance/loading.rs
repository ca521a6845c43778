//! While functions are still being loaded: the server lives, says that it is not ready, and can be stopped.

use std::time::{Duration, Instant};

use crate::guest;
use crate::harness::{Server, Workshop, exchange};

/// Its sample request takes as long as the host lets a plugin run: longer than these tests wait.
const MANIFEST: &str = r#"
[preprocess]
path = "plugin.wasm"
[limits]
timeout_ms = 600000
plugin_time_ms = 60000
[sample]
"#;

/// A server that is not ready within this test's life.
fn loading() -> (Server, Workshop) {
    let shop = Workshop::new();
    let component = guest::component("preprocessor", &guest::preprocess("(loop $for_ever (br $for_ever)) (unreachable)"));
    let function = shop.function("slow", MANIFEST, Some(&component));
    (Server::loading(&[function]), shop)
}

#[test]
fn sigterm_does_not_wait_for_it() {
    let (mut server, _shop) = loading();
    let start = Instant::now();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    // Less than what a drain may take.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn health_tells_it() {
    let (server, _shop) = loading();
    let control = |path: &str| exchange(server.control, "GET", path, &[], b"").status;
    assert_eq!((control("/v2/health/live"), control("/v2/health/ready")), (200, 503));
    assert_eq!((server.get("/v2/health/live").status, server.get("/v2/health/ready").status), (200, 503));
    assert_eq!(server.metric("sandmill_ready"), Some(0.0));
    for path in ["/fn/slow", "/fn/nothing", "/v2/models/slow/infer"] {
        let answer = server.post(path, b"{}");
        assert_eq!((answer.status, &answer.json()["code"]), (503, &serde_json::json!("not_ready")), "{path}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
}
