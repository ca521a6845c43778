//! What the log has of those who show a key: who they are, and never what they showed.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use sandmill_edge::EdgeLimits;
use tracing::subscriber::set_default;
use tracing_subscriber::fmt::MakeWriter;

use crate::keys::{ask, bearer};
use crate::plane::{JSON, TAR, send};
use crate::server::{Server, eventually};

/// A log that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_knows_who_asked_and_no_secret() {
    let kept = Kept::default();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(kept.clone());
    // The server runs on this thread as well.
    let _log = set_default(log.finish());
    let server = Server::start_guarded(EdgeLimits::default());
    let mut functions = server.client().await;
    for secret in ["acme-invoke", "acme-deploy", "wr0ng", "wr0ng two"] {
        ask(&mut functions, "POST", "/fn/echo", &bearer(secret)).await;
    }
    let mut client = server.control().await;
    let new = br#"{"scopes":["invoke"]}"#;
    assert_eq!(send(&mut client, "acme-admin", "POST", "/v1/keys", JSON, new).await.status, 201);
    assert_eq!(send(&mut client, "wr0ng", "POST", "/v1/keys", JSON, new).await.status, 401);
    assert_eq!(send(&mut client, "acme-invoke", "DELETE", "/v1/keys/k1", "", b"").await.status, 403);
    assert_eq!(send(&mut client, "acme-admin", "GET", "/v1/functions", "", b"").await.status, 200);
    for (function, status) in [("broken", 500), ("panics", 500), ("digits", 200)] {
        let path = format!("/v1/functions/{function}");
        assert_eq!(send(&mut client, "acme-deploy", "PUT", &path, TAR, b"x").await.status, status);
    }
    client
        .send(format!("PUT /v1/functions/digits HTTP/1.1\r\nhost: h\r\n{}{TAR}content-length: 9\r\n\r\nx", bearer("acme-deploy")))
        .await;
    eventually("it is being received", || server.plane.running() == 1).await;
    drop(client);
    eventually("all have their lines", || kept.lines("form=\"control\"") == 8).await;
    let text = kept.text();
    for (line, count) in [
        (
            r#"INFO access: form="control" from="127.0.0.1" key="key-2" tenant="acme" method="POST" path="/v1/keys" status="201""#,
            1,
        ),
        (
            r#"INFO access: form="control" from="127.0.0.1" method="POST" path="/v1/keys" status="401" code="unauthorized" blame="caller""#,
            1,
        ),
        (
            r#"INFO access: form="control" from="127.0.0.1" key="key-0" method="DELETE" path="/v1/keys/k1" status="403" code="forbidden""#,
            1,
        ),
        (
            r#"DEBUG access: form="control" from="127.0.0.1" key="key-2" tenant="acme" method="GET" path="/v1/functions" status="200""#,
            1,
        ),
        (
            r#"path="/v1/functions/broken" status="500" code="internal" blame="host" step="load" error="the host failed: a secret of the host""#,
            1,
        ),
        // The client that went away in the middle of its body.
        (r#"method="PUT" path="/v1/functions/panics" status="-" duration_us"#, 1),
        (r#"method="PUT" path="/v1/functions/digits" status="400" code="invalid_input" blame="caller" step="receive""#, 1),
        (r#"method="PUT" path="/v1/functions/digits" status="200""#, 1),
    ] {
        assert_eq!(kept.lines(line), count, "{line} in {text}");
    }
    for secret in ["acme-invoke", "acme-deploy", "acme-admin", "wr0ng", "told-once"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
