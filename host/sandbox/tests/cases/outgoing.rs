//! Plugins that send requests to other hosts: what reaches the network, what is denied, and what ends with the request.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use sandmill_domain::{Code, Deadline, InstanceBudget, InstancePolicy, Origin};
use sandmill_sandbox::{LoadError, PluginOptions, Refusal, Snapshot, WasmPlugin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::harness::{self, Harness, body_of};

/// The component that cargo makes of `tests/guests/http`.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // A folder of its own: cargo builds for another target here while the tests of this one may hold the lock of theirs.
    let target: PathBuf = root.join("target/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--target", "wasm32-wasip2", "-p", "sandmill-guest-http", "--target-dir"])
        .arg(&target)
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(built.success());
    std::fs::read(target.join("wasm32-wasip2/release/sandmill_guest_http.wasm")).expect("cargo built it")
});

/// A server of one answer, which it gives to each request; then it waits until the client closes the connection.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    /// A permit for each connection that the client closed.
    closed: Arc<Semaphore>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = Self { port, heads: Arc::default(), closed: Arc::new(Semaphore::new(0)) };
        let (heads, closed) = (Arc::clone(&server.heads), Arc::clone(&server.closed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&heads), Arc::clone(&closed)));
            }
        });
        server
    }

    fn origin(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic under the lock").clone()
    }

    async fn closed(&self, connections: u32) {
        let closed = tokio::time::timeout(Duration::from_secs(30), self.closed.acquire_many(connections));
        closed.await.expect("the client closes its connections").expect("it is never closed").forget();
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<[u8]>, heads: Arc<Mutex<Vec<String>>>, closed: Arc<Semaphore>) {
    let mut text = Vec::new();
    while !is_whole(&text) && stream.read_buf(&mut text).await.is_ok_and(|bytes| bytes > 0) {}
    heads.lock().expect("no panic under the lock").push(String::from_utf8_lossy(&text).into_owned());
    // The client may be gone, or may have seen enough.
    let _ = stream.write_all(&answer).await;
    let mut rest = [0; 1 << 16];
    while stream.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
    closed.add_permits(1);
}

/// Whether a request is complete, with a chunked body or none.
fn is_whole(text: &[u8]) -> bool {
    let chunked = text.windows(7).any(|word| word == b"chunked");
    if chunked { text.ends_with(b"\r\n0\r\n\r\n") } else { text.ends_with(b"\r\n\r\n") }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn origins(texts: &[&str]) -> Vec<Origin> {
    texts.iter().map(|text| text.parse().expect("an origin")).collect()
}

/// A plugin that is granted these origins, on a host that lists those.
fn start(granted: &[&str], host: &[&str]) -> (Harness, WasmPlugin) {
    start_with(granted, host, |_| {})
}

fn start_with(granted: &[&str], host: &[&str], change: impl FnOnce(&mut PluginOptions)) -> (Harness, WasmPlugin) {
    let harness = Harness::start_with(|options| options.grants.http = origins(host));
    let plugin = harness.load_with(&GUEST, |options| {
        options.grants.http = origins(granted);
        change(options);
    });
    (harness, plugin)
}

async fn answers(harness: &Harness, plugin: &WasmPlugin, lines: &[String]) -> Vec<String> {
    let reply = harness.answer(plugin, lines.join("\n").as_bytes()).await;
    let text = String::from_utf8(body_of(&reply)).expect("the guest answers with text");
    text.replace("ErrorCode::", "").lines().map(Into::into).collect()
}

async fn answer(harness: &Harness, plugin: &WasmPlugin, line: &str) -> String {
    answers(harness, plugin, &[line.to_owned()]).await.join("\n")
}

#[tokio::test]
async fn a_listed_address_answers() {
    let server = Server::start(ok("hello")).await;
    let origin = server.origin();
    let (harness, plugin) = start(&[&origin], &[&origin]);
    assert!(matches!(plugin.loaded().made.snapshot, Snapshot::Taken { .. }), "{:?}", plugin.loaded());

    assert_eq!(answer(&harness, &plugin, &format!("get http://{origin}/path?a=b")).await, "200 hello");
    let head = server.heads().pop().expect("a request came");
    assert_eq!(head, format!("GET /path?a=b HTTP/1.1\r\nhost: {origin}\r\nconnection: close\r\n\r\n"));
    server.closed(1).await;

    assert_eq!(answer(&harness, &plugin, &format!("post http://{origin}/ 100000")).await, "200 hello");
    let sent = server.heads().pop().expect("a request came");
    assert_eq!(sent.bytes().filter(|byte| *byte == b'x').count(), 100_000);
    server.closed(1).await;
}

#[test]
fn what_is_not_granted_is_refused_at_load() {
    let harness = Harness::start_with(|options| options.grants.http = origins(&["a.example:80"]));
    match harness.refusal(&GUEST) {
        LoadError::Refused(Refusal::Imports { names }) => {
            assert_eq!(names.first, ["wasi:http/types@0.2.12", "wasi:http/outgoing-handler@0.2.12"]);
        }
        other => panic!("{other:?}"),
    }
    let mut options = harness::options();
    options.grants.http = origins(&["a.example:80", "b.example"]);
    match harness.0.load(&GUEST, options) {
        Err(LoadError::Grants { names }) => assert_eq!(names, ["http to b.example"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn other_hosts_are_denied() {
    let (server, other) = (Server::start(ok("hello")).await, Server::start(ok("secret")).await);
    let (origin, port) = (server.origin(), server.port);
    // The host lists both, the function is granted one of them, and every name.
    let (harness, plugin) = start(&[&origin, "*"], &["127.0.0.1", "*"]);
    let cases = [
        (format!("get http://{}/", other.origin()), "error HttpRequestDenied"),
        (format!("get http://127.0.0.2:{port}/"), "error HttpRequestDenied"),
        (format!("get http://[::ffff:127.0.0.1]:{port}/"), "error HttpRequestDenied"),
        ("get https://127.0.0.1/".to_owned(), "error HttpRequestDenied"),
        (format!("get http://0x7f000001:{port}/"), "error HttpRequestUriInvalid"),
        (format!("get http://2130706433:{port}/"), "error HttpRequestUriInvalid"),
        (format!("get http://a@127.0.0.1:{port}/"), "error HttpRequestUriInvalid"),
        (format!("connect http://{origin}/"), "error HttpRequestMethodInvalid"),
        (format!("get http://{origin}/"), "200 hello"),
    ];
    let (lines, expected): (Vec<String>, Vec<&str>) = cases.into_iter().unzip();
    let logged = harness::logged(async {
        assert_eq!(answers(&harness, &plugin, &lines).await, expected);
    });
    let logged = logged.await;
    let denied = format!("a request to {} is denied: the function is not granted it", other.origin());
    assert!(logged.contains(&denied), "{logged}");
    assert_eq!((server.heads().len(), other.heads().len()), (1, 0));
}

#[tokio::test]
async fn a_name_opens_no_private_address() {
    let server = Server::start(ok("hello")).await;
    let name = format!("localhost:{}", server.port);
    let line = format!("get http://{name}/");

    let (harness, plugin) = start(&[&name], &[&name, "*"]);
    let logged = harness::logged(async {
        assert_eq!(answer(&harness, &plugin, &line).await, "error DestinationIpProhibited");
    });
    assert!(logged.await.contains("its address is not public and the host does not list it"));
    assert_eq!(server.heads().len(), 0);

    let (harness, plugin) = start(&[&name], &[&name, &server.origin()]);
    assert_eq!(answer(&harness, &plugin, &line).await, "200 hello");
    assert!(server.heads()[0].contains(&format!("host: {name}\r\n")));
}

#[tokio::test]
async fn a_redirect_is_the_guests_own_request() {
    let target = Server::start(ok("secret")).await;
    let location = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 4\r\n\r\nmoved", target.origin());
    let server = Server::start(location).await;
    let origin = server.origin();
    let (harness, plugin) = start(&[&origin], &["127.0.0.1"]);
    assert_eq!(answer(&harness, &plugin, &format!("get http://{origin}/")).await, "302 move");
    assert_eq!(answer(&harness, &plugin, &format!("follow http://{origin}/")).await, "302 then error HttpRequestDenied");
    assert_eq!(target.heads().len(), 0);
}

#[tokio::test]
async fn bodies_and_heads_have_bounds() {
    let header = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(40_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(200));
    let chunks = |bytes: usize| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes))
    };
    // The guest's own answer has the same bound as what it reads.
    let read = format!("200 {}", "x".repeat(996));
    let cases = [
        (ok(&"x".repeat(996)), "get", read.as_str()),
        (ok(&"x".repeat(1001)), "get", "error HttpResponseBodySize(Some(1001))"),
        (chunks(996), "get", read.as_str()),
        (chunks(1001), "get", "error HttpResponseBodySize(Some(1001))"),
        (header, "get", "error HttpResponseHeaderSectionSize(None)"),
        (many, "get", "error HttpResponseHeaderSectionSize(None)"),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), "get", "error HttpProtocolError"),
        (ok("short"), "post 1000", "200 short"),
        (String::new(), "post 1001", "error HttpRequestBodySize(Some(1001))"),
    ];
    for (served, verb, expected) in cases {
        let server = Server::start(served).await;
        let origin = server.origin();
        let (harness, plugin) = start_with(&[&origin], &[&origin], |options| options.limits.output_bytes_max = 1000);
        let line = match verb.split_once(' ') {
            Some((verb, bytes)) => format!("{verb} http://{origin}/ {bytes}"),
            None => format!("{verb} http://{origin}/"),
        };
        assert_eq!(answer(&harness, &plugin, &line).await, expected);
    }
}

#[tokio::test]
async fn a_slow_server_ends_with_the_deadline() {
    for served in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"] {
        let server = Server::start(served).await;
        let origin = server.origin();
        let (_harness, plugin) = start(&[&origin], &[&origin]);
        let start = Instant::now();
        let line = format!("get http://{origin}/");
        let fault = harness::call(&plugin, line.as_bytes(), Deadline::after(start, Duration::from_millis(300))).await;
        assert_eq!(fault.expect_err("nobody waits any longer").code, Code::DeadlineExceeded, "{served:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        server.closed(1).await;
    }
}

#[tokio::test]
async fn a_guest_can_wait_for_less() {
    for served in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"] {
        let server = Server::start(served).await;
        let origin = server.origin();
        let (harness, plugin) = start(&[&origin], &[&origin]);
        let line = format!("brief http://{origin}/ 50");
        assert_eq!(answer(&harness, &plugin, &line).await, "error ConnectionReadTimeout", "{served:?}");
        server.closed(1).await;
    }
}

#[tokio::test]
async fn requests_have_a_bound_for_each_invocation() {
    let server = Server::start(ok("hello")).await;
    let endless = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await;
    let (harness, plugin) = start(&["127.0.0.1"], &["127.0.0.1"]);
    let reached = "error ConnectionLimitReached";
    for _ in 0..2 {
        let lines = vec![format!("get http://{}/", server.origin()); 17];
        let mut expected = vec!["200 hello"; 16];
        expected.push(reached);
        assert_eq!(answers(&harness, &plugin, &lines).await, expected);

        let mut lines = vec![format!("hold http://{}/", endless.origin()); 5];
        lines.push(format!("get http://{}/", server.origin()));
        assert_eq!(answers(&harness, &plugin, &lines).await, ["200", "200", "200", "200", reached, reached]);
        server.closed(16).await;
        endless.closed(4).await;
    }
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    // One waits for the head, the other for the body.
    for served in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"] {
        let server = Server::start(served).await;
        let origin = server.origin();
        let (_harness, plugin) = start(&[&origin], &[&origin]);
        let line = format!("get http://{origin}/");
        let call = harness::call(&plugin, line.as_bytes(), harness::soon());
        let came = async {
            while server.heads().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = call => panic!("{ended:?}"),
            () = came => {}
        }
        server.closed(1).await;
    }
}

#[tokio::test]
async fn a_reused_instance_keeps_no_connection() {
    let served = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let server = Server::start(served).await;
    let origin = server.origin();
    let (harness, plugin) = start_with(&[&origin], &[&origin], |options| {
        options.instances = InstancePolicy::Reuse(InstanceBudget::default());
    });
    assert_eq!(answer(&harness, &plugin, &format!("keep http://{origin}/")).await, "200");
    server.closed(1).await;
    assert_eq!(answer(&harness, &plugin, "read").await, "error HttpResponseIncomplete");
    assert_eq!(answer(&harness, &plugin, "read").await, "error LoopDetected");
}

#[tokio::test]
async fn a_cut_response_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let origin = listener.local_addr().expect("it is bound").to_string();
    let serving = tokio::spawn(async move {
        for answer in
            ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe", ""]
        {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !is_whole(&head) && stream.read_buf(&mut head).await.expect("a head") > 0 {}
            stream.write_all(answer.as_bytes()).await.expect("the client is there");
        }
    });
    let (harness, plugin) = start(&[&origin], &[&origin]);
    for _ in 0..3 {
        assert_eq!(answer(&harness, &plugin, &format!("get http://{origin}/")).await, "error HttpResponseIncomplete");
    }
    serving.await.expect("it served");
    assert_eq!(answer(&harness, &plugin, &format!("get http://{origin}/")).await, "error ConnectionRefused");
}

#[tokio::test]
async fn a_request_holds_no_long_texts() {
    let (harness, plugin) = start(&["a.example"], &["a.example"]);
    let all = "method true scheme true authority true path true header true";
    assert_eq!(answer(&harness, &plugin, "set 64").await, all);
    let most = "method false scheme false authority false path true header true";
    assert_eq!(answer(&harness, &plugin, "set 513").await, most);
    // Headers are bounded together, and end the guest.
    assert_eq!(harness.fault(&plugin, b"set 40000").await.code, Code::PluginBadOutput);
}
