//! The bounds of the control plane, each met and named: what waits, what an archive holds, what a tenant may keep, and what a disk takes.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, Workshop, connect, exchange, wait_until};
use crate::store::{archive, ask, configured, deploy, host, manifest, pack, plugin, put};
use crate::tenants::{self, Town, call};

fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.text().contains(words), "{words:?} is not in {answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503), "{answer:?}");
}

/// Announces a deployment, and sends nothing of it.
fn announce(server: &Server, function: &str) -> TcpStream {
    let mut stream = connect(server.control);
    let head = format!(
        "PUT /v1/functions/{function}?dry_run=true HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-tar\r\ncontent-length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

#[test]
fn deployments_that_wait_are_bounded() {
    // As many of a tenant's as it may have, and as many as the host takes.
    for (config, places, status, whose) in [
        ("", 4, 429, "the tenant has as many deployments"),
        ("deploys_max = 1\ndeploys_waiting_max = 1\n", 2, 503, "the host has as many"),
    ] {
        let shop = Workshop::new();
        let server = configured(&shop.path().join("store"), config);
        let mut waiting: Vec<_> = (0..places).map(|_| announce(&server, "other")).collect();
        let mut last = None;
        wait_until("all places are taken", || {
            // In the place of one that came while this one was there.
            waiting.push(announce(&server, "other"));
            let answer = put(&server, "/v1/functions/echo", &archive(&manifest(1)));
            let is_refused = answer.status == status;
            last = Some(answer);
            is_refused
        });
        refused(&last.expect("an answer"), status, whose);
        assert_eq!(ask(&server, "GET", "/v1/functions", "").status, 200, "who only looks does not wait");
        drop(waiting);
        wait_until("who gave up has left its place", || put(&server, "/v1/functions/echo", &archive(&manifest(2))).status < 300);
    }
}

#[test]
fn an_archive_holds_no_more_than_is_configured() {
    let shop = Workshop::new();
    let server = configured(&shop.path().join("store"), "unpacked_bytes_max = 300000\nentries_max = 4\n");
    let with = |more: &[(&str, &[u8])]| {
        let model =
            std::fs::read(crate::harness::root().join("host/engine/tests/models/passthrough.onnx")).expect("the model is there");
        let manifest = manifest(1);
        pack(&[&[("function.toml", manifest.as_bytes()), ("model.onnx", &model), ("plugin.wasm", plugin())][..], more].concat())
    };
    let put = |body: &[u8]| put(&server, "/v1/functions/echo", body);
    let large = vec![0; 300_000];
    for (more, words) in [(&[("a", &large[..])][..], "300000 bytes"), (&[("a", b"1"), ("b", b"2")], "4 entries")] {
        let body = with(more);
        refused(&put(&body), 413, words);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&body).expect("packed");
        refused(&put(&packed.finish().expect("packed")), 413, words);
    }
    assert_eq!(files(&shop.path().join("work")), Vec::<String>::new(), "nothing is left of them");
    assert_eq!(put(&with(&[("a", b"1")])).status, 201);
}

/// By their names in a release's folder.
fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()) {
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(folder, &mut found);
    let names = found.iter().filter_map(|path| path.strip_prefix(folder).ok()?.components().nth(2).map(|_| path));
    let mut names: Vec<_> = names.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_a_manifest_does_not_name_does_not_stay() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    let model =
        std::fs::read(crate::harness::root().join("host/engine/tests/models/passthrough.onnx")).expect("the model is there");
    let (manifest, junk) = (manifest(1), vec![0; 1 << 20]);
    let body = pack(&[
        ("junk", &junk),
        ("folder/more", &junk),
        ("function.toml", manifest.as_bytes()),
        ("model.onnx", &model),
        ("plugin.wasm", plugin()),
    ]);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&body).expect("packed");
    assert_eq!(put(&server, "/v1/functions/echo", &packed.finish().expect("packed")).status, 201);
    assert_eq!(files(&shop.path().join("work")), ["model.onnx"]);
    // Nor what was sent for nothing.
    let stored = || files(&shop.path().join("store")).len();
    let before = stored();
    let headers = [("content-type", "application/x-tar"), ("if-match", "\"0\"")];
    let stale = exchange(server.control, "PUT", "/v1/functions/other", &headers, &archive(&manifest.replace('1', "2")));
    assert_eq!((stale.status, stored()), (409, before), "{stale:?}");
}

#[test]
fn who_rests_on_an_old_state_neither_reads_nor_tries() {
    let shop = Workshop::new();
    let server = host(&shop.path().join("store"));
    deploy(&server, "/v1/functions/echo", 1);
    let rest = |method: &str, path: &str, body: &[u8]| {
        let headers = [("content-type", "application/x-tar"), ("if-match", "\"0\"")];
        exchange(server.control, method, path, &headers[usize::from(body.is_empty())..], body)
    };
    for answer in [
        rest("GET", "/v1/functions", b""),
        rest("PUT", "/v1/functions/echo?dry_run=true", &archive(&manifest(2))),
        rest("PUT", "/v1/functions/echo", &archive(&manifest(1))),
    ] {
        assert_eq!((answer.status, &answer.json()["revision"]), (409, &json!(1)), "{answer:?}");
    }
}

#[test]
fn quotas_of_uploads_and_bodies_are_named() {
    let Town { server, operator, acme, other, .. } = &Town::new();
    let set = |quotas: Value| {
        let body = json!({ "quotas": quotas }).to_string();
        let answer = tenants::ask(server, operator, "PUT", "/v1/tenants/acme", body.as_bytes(), "application/json");
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let add = |kind: &str, version: u32, body: &[u8]| {
        let media = if kind == "plugins" { "application/wasm" } else { "application/octet-stream" };
        tenants::ask(server, acme, "PUT", &format!("/v1/{kind}/echo/versions/{version}"), body, media)
    };
    let model =
        std::fs::read(crate::harness::root().join("host/engine/tests/models/passthrough.onnx")).expect("the model is there");
    set(json!({ "plugins_max": 1, "models_max": 1 }));
    for (kind, body) in [("plugins", plugin()), ("models", &model)] {
        assert_eq!(add(kind, 1, body).status, 201, "{}", server.log());
        refused(&add(kind, 2, body), 429, &format!("{kind}_max"));
        assert_eq!(add(kind, 1, body).status, 200, "what is there takes no more room");
    }
    set(json!({ "upload_bytes_max": model.len() }));
    assert_eq!(add("models", 2, &model).status, 201);
    let body = [&model[..], b"x"].concat();
    refused(&add("models", 3, &body), 413, "upload_bytes_max");
    set(json!({ "buffered_bytes_max": 10 }));
    let send = |key: &str, bytes: usize| {
        let authorization = format!("Bearer {key}");
        server.call("POST", "/fn/echo", &[("authorization", &authorization)], &vec![b' '; bytes])
    };
    assert_eq!(send(acme, 10).status, 200);
    refused(&send(acme, 11), 429, "buffered_bytes_max");
    assert_eq!(send(other, 11).status, 200, "its own");
    // An answer counts as well.
    set(json!({ "buffered_bytes_max": 1 }));
    refused(&call(server, acme, "/fn/echo"), 429, "buffered_bytes_max");
}

#[test]
fn changes_have_a_pace_and_looking_has_none() {
    let shop = Workshop::new();
    let server = configured(&shop.path().join("store"), "changes_per_minute_max = 3\n");
    deploy(&server, "/v1/functions/echo", 1);
    deploy(&server, "/v1/functions/echo", 2);
    assert_eq!(ask(&server, "POST", "/v1/functions/echo/rollback", "").status, 200);
    let refused_one = ask(&server, "POST", "/v1/functions/echo/rollback", "");
    refused(&refused_one, 429, "changes_per_minute_max");
    assert_eq!(put(&server, "/v1/functions/echo?dry_run=true", &archive(&manifest(3))).status, 200);
    assert_eq!(ask(&server, "GET", "/v1/functions/echo", "").json()["release"], 1);
    let long = ask(&server, "GET", "/v1/usage?from_ms=0&to_ms=2678400000", "");
    refused(&long, 400, "744 at most");
    assert_eq!(ask(&server, "GET", "/v1/usage?from_ms=0&to_ms=2678399999", "").status, 200);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let shop = Workshop::new();
    let (store, work) = (shop.path().join("store"), shop.path().join("work"));
    let server = Server::with_files_of(4096, &format!("[store]\nlocation = {store:?}\nwork = {work:?}\n"));
    deploy(&server, "/v1/functions/echo", 1);
    let large = vec![b'x'; 5 << 20];
    let sent =
        exchange(server.control, "PUT", "/v1/models/large/versions/1", &[("content-type", "application/octet-stream")], &large);
    refused(&sent, 507, "disk is full");
    assert_eq!(sent.json()["step"], "receive", "{sent:?}");
    // A small archive of a large file: there is room for one, and not for the other.
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&pack(&[("large", &large)])).expect("packed");
    let sent = put(&server, "/v1/functions/other", &packed.finish().expect("packed"));
    refused(&sent, 507, "disk is full");
    assert_eq!(files(&work), ["model.onnx"], "nothing is left of them");
    assert_eq!(server.post("/fn/echo", "").text(), "1 1");
    deploy(&server, "/v1/functions/echo", 2);
    assert_eq!(server.post("/fn/echo", "").text(), "2 2");
}
