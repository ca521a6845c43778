//! HTTP/2 without TLS on the same port, and its own bounds. The clients are hyper's, and bare frames where it is too polite.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sandmill_edge::{Drained, EdgeLimits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::{PATIENCE, Server, eventually};

const SHORT: Duration = Duration::from_millis(150);
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client, and the task that ends with its connection.
async fn connect(server: &Server, window: u32) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn post(path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post(format!("http://test{path}")).body(Full::new(Bytes::from_static(body))).unwrap()
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, path: &str, body: &'static [u8]) -> Response<Incoming> {
    timeout(PATIENCE, sender.send_request(post(path, body))).await.unwrap().unwrap()
}

async fn whole(answer: Response<Incoming>) -> Bytes {
    timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap().to_bytes()
}

#[tokio::test]
async fn it_is_spoken_on_the_same_port() {
    let server = Server::start(EdgeLimits::default());
    let (mut sender, _connection) = connect(&server, 1 << 20).await;
    let answer = ask(&mut sender, "/fn/echo", b"hi").await;
    assert_eq!((answer.status().as_u16(), answer.headers()["content-length"].to_str().unwrap()), (200, "2"));
    assert_eq!(whole(answer).await, "hi");
    assert_eq!(whole(ask(&mut sender, "/fn/large?3000000", b"").await).await.len(), 3_000_000);
    for (path, status) in [("/fn/missing", 404), ("/fn/busy", 503), ("/v2/health/live", 405), ("/fn/panics", 500)] {
        assert_eq!(ask(&mut sender, path, b"body").await.status().as_u16(), status, "{path}");
    }
    assert_eq!(whole(ask(&mut sender, "/fn/echo", b"still there").await).await, "still there");
    eventually("all are recorded", || server.requests("echo", "200") == 2.0 && server.requests("large", "200") == 1.0).await;
    assert_eq!(server.metric("sandmill_connections"), 1.0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = Server::start(EdgeLimits::default());
    let (mut sender, _connection) = connect(&server, 1 << 20).await;
    let body: &'static [u8] = &[0; 1001];
    assert_eq!(ask(&mut sender, "/fn/echo", body).await.status(), 413);
    assert_eq!(ask(&mut sender, "/fn/echo", &body[1..]).await.status(), 200);
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_its_call() {
    let server = Server::start(EdgeLimits::default());
    let (mut sender, _connection) = connect(&server, 1 << 20).await;
    let call = tokio::spawn(sender.send_request(post("/fn/never", b"")));
    eventually("it runs", || server.fake.running() == 1).await;
    call.abort();
    eventually("it is recorded", || server.requests("never", "-") == 1.0).await;
    assert_eq!(server.fake.running(), 0);
    assert_eq!(ask(&mut sender, "/fn/echo", b"").await.status(), 200);
}

#[tokio::test]
async fn requests_at_once_have_a_bound() {
    let server = Server::start(EdgeLimits { streams_max: 2, ..EdgeLimits::default() });
    let (mut sender, _connection) = connect(&server, 1 << 20).await;
    // After this the client knows the bound and waits of itself.
    assert_eq!(ask(&mut sender, "/fn/echo", b"").await.status(), 200);
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(sender.send_request(post("/fn/gate", b"")))).collect();
    eventually("two run", || server.fake.running() == 2).await;
    server.fake.gate.add_permits(3);
    for call in calls {
        assert_eq!(timeout(PATIENCE, call).await.unwrap().unwrap().unwrap().status(), 200);
    }
    // One that does not wait is refused by the stream: RST_STREAM with REFUSED_STREAM, 7.
    let mut stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    let heads: Vec<u8> = [1, 3, 5].into_iter().flat_map(|id| head(id, "/fn/gate")).collect();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &heads].concat()).await.unwrap();
    loop {
        let (kind, id, payload) = read_frame(&mut stream).await.expect("a frame");
        if kind == 3 {
            assert_eq!((id, payload), (5, vec![0, 0, 0, 7]));
            break;
        }
    }
    assert_eq!(server.fake.running(), 2);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(EdgeLimits { head_bytes_max: 8 << 10, ..EdgeLimits::default() });
    let mut stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    let mut fields = fields("/fn/echo");
    for number in 0..9_u8 {
        // A literal header without indexing, `x<digit>`: 1000 times `a`, its length in the prefixed form of RFC 7541, 5.1.
        fields.extend_from_slice(&[0x00, 2, b'x', b'0' + number, 0x7f, 0xe9, 0x06]);
        fields.extend_from_slice(&[b'a'; 1000]);
    }
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &fields)].concat()).await.unwrap();
    loop {
        let (kind, id, payload) = read_frame(&mut stream).await.expect("a frame");
        if kind == 1 {
            // `:status: 431`, its value in Huffman's code: RFC 7541, appendix B.
            assert_eq!((id, payload), (1, vec![0x48, 0x83, 0x69, 0x90, 0xff]));
            break;
        }
    }
    assert_eq!(server.fake.admitted(), 0);
}

#[tokio::test]
async fn a_client_that_never_opens_its_window_is_closed() {
    for window in [0, 10] {
        let server = Server::start(EdgeLimits { write_time: SHORT, ..EdgeLimits::default() });
        let (mut sender, connection) = connect(&server, window).await;
        let answer = ask(&mut sender, "/fn/large?1000", b"").await;
        assert_eq!(answer.status(), 200);
        _ = timeout(PATIENCE, connection).await.expect("the connection is cut");
        eventually("it is recorded", || server.requests("large", "200") == 1.0).await;
        assert_eq!(server.caller_faults("large", "cancelled"), 1.0, "window {window}");
        eventually("it is counted out", || server.metric("sandmill_connections") == 0.0).await;
    }
}

#[tokio::test]
async fn streams_that_are_not_read_share_one_bound() {
    let server = Server::start(EdgeLimits { buffered_bytes_max: 1000, ..EdgeLimits::default() });
    let (mut sender, _connection) = connect(&server, 10).await;
    let unread = [ask(&mut sender, "/fn/large?500", b"").await, ask(&mut sender, "/fn/large?500", b"").await];
    assert!(unread.iter().all(|answer| answer.status() == 200));
    assert_eq!(ask(&mut sender, "/fn/large?1", b"").await.status(), 503);
    drop(unread);
    eventually("they are reset", || server.caller_faults("large", "cancelled") == 2.0).await;
    assert_eq!(whole(ask(&mut sender, "/fn/large?1000", b"").await).await.len(), 1000);
}

#[tokio::test]
async fn an_idle_connection_is_told_and_closed() {
    let server = Server::start(EdgeLimits { idle_time: SHORT * 3, ..EdgeLimits::default() });
    let (mut sender, connection) = connect(&server, 1 << 20).await;
    assert_eq!(ask(&mut sender, "/fn/echo", b"").await.status(), 200);
    timeout(PATIENCE, connection).await.expect("it is closed").unwrap().expect("with a farewell");
}

#[tokio::test]
async fn frames_do_not_keep_an_idle_connection_alive() {
    let server = Server::start(EdgeLimits { idle_time: SHORT, drain_idle_time: SHORT, ..EdgeLimits::default() });
    let mut stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let pings = async {
        while stream.write_all(&frame(6, 0, 0, &[0; 8])).await.is_ok() {
            tokio::time::sleep(SHORT / 10).await
        }
    };
    timeout(PATIENCE, pings).await.expect("it is closed");
}

#[tokio::test]
async fn a_preface_of_one_byte_at_a_time_is_given_up() {
    let server = Server::start(EdgeLimits { head_time: SHORT, ..EdgeLimits::default() });
    let mut stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    stream.write_all(&PREFACE[..10]).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{answer:?}");
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let server = Server::start(EdgeLimits::default());
    let mut stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let flood: Vec<u8> = (0..500)
        .flat_map(|number| [head(2 * number + 1, "/fn/never"), frame(3, 0, 2 * number + 1, &[0, 0, 0, 8])].concat())
        .collect();
    stream.write_all(&flood).await.unwrap();
    let mut farewell = None;
    while let Some((kind, _, payload)) = read_frame(&mut stream).await {
        if kind == 7 {
            farewell = Some(payload[7]);
        }
    }
    // ENHANCE_YOUR_CALM.
    assert_eq!(farewell, Some(11));
    eventually("nothing is left of it", || server.metric("sandmill_connections") == 0.0 && server.fake.running() == 0).await;
}

#[tokio::test]
async fn a_drain_finishes_its_streams() {
    let mut server = Server::start(EdgeLimits::default());
    let (mut sender, connection) = connect(&server, 1 << 20).await;
    let call = tokio::spawn(sender.send_request(post("/fn/gate", b"late")));
    eventually("it runs", || server.fake.running() == 1).await;
    server.stop();
    let addresses = server.addresses;
    eventually("the listener is closed", || std::net::TcpStream::connect(addresses.listen).is_err()).await;
    server.fake.gate.add_permits(1);
    assert_eq!(whole(call.await.unwrap().unwrap()).await, "late");
    timeout(PATIENCE, connection).await.expect("it is closed").unwrap().expect("with a farewell");
    assert_eq!(server.drained().await, Drained { clean: true, cut: 0 });
}

#[tokio::test]
async fn a_drain_that_comes_before_the_preface_is_told() {
    let mut server = Server::start(EdgeLimits { drain_idle_time: PATIENCE, ..EdgeLimits::default() });
    let mut stream = TcpStream::connect(server.addresses.listen).await.unwrap();
    stream.write_all(&PREFACE[..10]).await.unwrap();
    eventually("it is accepted", || server.metric("sandmill_connections") == 1.0).await;
    let addresses = server.addresses;
    server.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(addresses.listen).is_err()).await;
    stream.write_all(&[&PREFACE[10..], &frame(4, 0, 0, &[]), &head(1, "/fn/echo")].concat()).await.unwrap();
    let (mut answered, mut told) = (false, false);
    while !(answered && told) {
        let (kind, id, payload) = read_frame(&mut stream).await.expect("a frame");
        answered |= (kind, id) == (1, 1);
        told |= kind == 7;
        if kind == 6 {
            // The end is settled when the client has seen that it is near.
            stream.write_all(&frame(6, 1, 0, &payload)).await.unwrap();
        }
    }
    drop(stream);
    assert_eq!(server.drained().await, Drained { clean: true, cut: 0 });
}

/// A frame of RFC 9113, section 4.1.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS with END_HEADERS and END_STREAM.
fn head(stream: u32, path: &str) -> Vec<u8> {
    frame(1, 5, stream, &fields(path))
}

/// `:method: POST`, `:scheme: http`, `:path` as a literal without indexing.
fn fields(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[0x83, 0x86, 0x04, length], path.as_bytes()].concat()
}

pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("the server says something").ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut payload)).await.expect("a whole frame").ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}
