//! Deployments' bodies: handed on as they come, and every way in which one can be too much, too slow, or not what was promised.

use std::num::NonZeroU32;
use std::time::Duration;

use sandmill_domain::Code;
use sandmill_edge::EdgeLimits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{Answer, Client, request};
use crate::http2::{PREFACE, frame, read_frame};
use crate::keys::bearer;
use crate::plane::{JSON, TAR, send};
use crate::server::{Server, eventually};

const SHORT: Duration = Duration::from_millis(150);

/// SHA-256 of `hello`.
const HELLO: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// A deployment's head, with these header lines for its body.
fn head(framing: &str) -> String {
    format!("PUT /v1/functions/digits HTTP/1.1\r\nhost: h\r\n{}{TAR}{framing}\r\n\r\n", bearer("acme-deploy"))
}

fn chunk(bytes: usize) -> Vec<u8> {
    [format!("{bytes:x}\r\n").as_bytes(), &vec![b'x'; bytes], b"\r\n"].concat()
}

/// Sends `piece` again and again until the server answers.
async fn drip(client: Client, head: &str, piece: &[u8]) -> Answer {
    let Client { stream, .. } = client;
    let (reading, mut writing) = stream.into_split();
    let (head, piece) = (head.to_owned(), piece.to_vec());
    let sending = tokio::spawn(async move {
        _ = writing.write_all(head.as_bytes()).await;
        while writing.write_all(&piece).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let answer = Client::on(tokio::io::join(reading, tokio::io::sink())).answer().await;
    sending.abort();
    answer
}

async fn ended(server: &Server, how: Result<(), Code>) {
    eventually("the body has ended", || *server.plane.body.lock().unwrap() == Some(how)).await;
    eventually("nothing is under way", || server.plane.running() == 0).await;
}

#[tokio::test]
async fn a_large_archive_takes_no_more_room_than_a_piece_of_it() {
    let server = Server::start_guarded(EdgeLimits { buffered_bytes_max: 300 << 10, ..EdgeLimits::default() });
    let mut client = server.control().await;
    let body = vec![7; 8 << 20];
    for round in 1..=2 {
        assert_eq!(send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", TAR, &body).await.status, 200);
        assert_eq!(server.plane.received(), round * (8 << 20));
    }
    // What was held for it is free again.
    server.fake.body_bytes_max.store(300 << 10, std::sync::atomic::Ordering::SeqCst);
    let whole = vec![b'x'; 300 << 10];
    let call = [format!("POST /fn/echo HTTP/1.1\r\nhost: h\r\n{}", bearer("acme-invoke")).as_bytes(), &[]].concat();
    let mut functions = server.client().await;
    functions.send([&call, format!("content-length: {}\r\n\r\n", whole.len()).as_bytes(), &whole].concat()).await;
    assert_eq!(functions.answer().await.status, 200);
}

#[tokio::test]
async fn a_host_that_holds_too_much_takes_no_archive() {
    let server = Server::start_guarded(EdgeLimits { buffered_bytes_max: 10, ..EdgeLimits::default() });
    let mut client = server.control().await;
    let answer = send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", TAR, &[0; 11]).await;
    assert_eq!((answer.status, answer.problem()["step"].as_str()), (503, Some("receive")));
    assert_eq!(send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", TAR, &[0; 10]).await.status, 200);
}

#[tokio::test]
async fn an_archive_may_be_as_large_as_the_bound() {
    let server = Server::start_guarded(EdgeLimits { upload_bytes_max: 1000, ..EdgeLimits::default() });
    let mut client = server.control().await;
    assert_eq!(send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", TAR, &[0; 1000]).await.status, 200);
    client.send([head("transfer-encoding: chunked").as_bytes(), &chunk(400), &chunk(600), b"0\r\n\r\n"].concat()).await;
    assert_eq!(client.answer().await.status, 200);
    let asked = server.plane.asked();
    let answer = send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", TAR, &[0; 1001]).await;
    assert_eq!((answer.status, answer.problem_code().as_str()), (413, "too_large"));
    assert!(answer.problem()["detail"].as_str().unwrap().contains("upload_bytes_max"));
    assert_eq!(server.plane.asked(), asked, "what announces itself as too large is not asked about");
    client.send([head("transfer-encoding: chunked").as_bytes(), &chunk(400), &chunk(601), b"0\r\n\r\n"].concat()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem()["step"].as_str()), (413, Some("receive")));
    ended(&server, Err(Code::TooLarge)).await;
}

#[tokio::test]
async fn what_is_announced_as_too_large_is_refused_before_it_is_sent() {
    let server = Server::start_guarded(EdgeLimits::default());
    for (length, secret, status) in
        [("2147483649", "acme-deploy", 413), ("9223372036854775807", "acme-deploy", 413), ("5", "wrong", 401)]
    {
        let mut client = server.control().await;
        let key = bearer(secret);
        let head = format!(
            "PUT /v1/functions/f HTTP/1.1\r\nhost: h\r\n{key}{TAR}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        client.send(head).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{length}");
        assert!(answer.closes());
        assert!(client.is_closed().await);
    }
    assert_eq!(server.plane.asked(), 0);
    let mut client = server.control().await;
    client.send(head("expect: 100-continue\r\ncontent-length: 5")).await;
    assert_eq!(client.answer_without_body().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_without_an_end_is_bounded() {
    let server = Server::start_guarded(EdgeLimits { upload_bytes_max: 1 << 20, ..EdgeLimits::default() });
    let answer = drip(server.control().await, &head("transfer-encoding: chunked"), &chunk(64 << 10)).await;
    assert_eq!((answer.status, answer.problem_code().as_str()), (413, "too_large"));
    assert!(server.plane.received() <= 1 << 20);
    ended(&server, Err(Code::TooLarge)).await;
}

#[tokio::test]
async fn a_body_of_one_byte_at_a_time_is_given_up() {
    let server = Server::start_guarded(EdgeLimits { upload_time: SHORT, ..EdgeLimits::default() });
    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let piece = if framing.starts_with('c') { b"x".to_vec() } else { chunk(1) };
        let answer = drip(server.control().await, &head(framing), &piece).await;
        assert_eq!((answer.status, answer.problem()["step"].as_str()), (408, Some("receive")), "{framing}");
        assert!(answer.closes());
        ended(&server, Err(Code::SlowRequest)).await;
    }
    assert!(server.plane.received() > 2, "it was received as it came");
}

#[tokio::test]
async fn a_pause_is_bounded_and_a_long_body_is_not() {
    let slow = NonZeroU32::MIN;
    let limits =
        EdgeLimits { upload_pause_time: SHORT, upload_bytes_per_second_min: slow, body_time: SHORT, ..EdgeLimits::default() };
    let server = Server::start_guarded(limits);
    let mut client = server.control().await;
    client.send(head("content-length: 100")).await;
    for _ in 0..50 {
        client.send("xx").await;
        tokio::time::sleep(SHORT / 20).await;
    }
    assert_eq!(client.answer().await.status, 200, "it took longer than a pause may");
    for sent in ["", "x"] {
        let mut client = server.control().await;
        client.send(head("content-length: 100")).await;
        client.send(sent).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem_code().as_str()), (408, "slow_request"), "{sent}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn a_body_that_comes_in_drops_has_one_pause_in_all() {
    let rate = NonZeroU32::new(1 << 20).expect("not zero");
    let server = Server::start_guarded(EdgeLimits {
        upload_pause_time: SHORT,
        upload_bytes_per_second_min: rate,
        ..EdgeLimits::default()
    });
    // Ten times as slow as it may be, and never silent for as long as a pause may take.
    let begun = Instant::now();
    let answer = drip(server.control().await, &head("content-length: 1000000"), &b"x".repeat(128)).await;
    assert_eq!((answer.status, answer.problem_code().as_str()), (408, "slow_request"));
    assert!(begun.elapsed() >= SHORT, "one pause is granted");
    ended(&server, Err(Code::SlowRequest)).await;
    assert!(server.plane.received() > 256, "it was received as it came");
    // As fast as it may be, it may take longer than a pause.
    let mut client = server.control().await;
    let (piece, pieces) = (vec![b'x'; 128 << 10], 10);
    client.send(head(&format!("content-length: {}", pieces * piece.len()))).await;
    for _ in 0..pieces {
        client.send(&piece).await;
        tokio::time::sleep(SHORT / 5).await;
    }
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn frames_without_bytes_do_not_prolong_a_pause() {
    let server = Server::start_guarded(EdgeLimits { upload_pause_time: SHORT, ..EdgeLimits::default() });
    let (mut reading, mut writing) = TcpStream::connect(server.addresses.control).await.unwrap().into_split();
    let head = frame(1, 4, 1, &deployment_fields());
    writing.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &head, &frame(0, 0, 1, b"x")].concat()).await.unwrap();
    tokio::spawn(async move {
        while writing.write_all(&frame(0, 0, 1, &[])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let problem = loop {
        let (kind, _, payload) = read_frame(&mut reading).await.expect("a frame");
        if kind == 0 {
            break String::from_utf8(payload).unwrap();
        }
    };
    assert!(problem.contains(r#""status":408"#), "{problem}");
    ended(&server, Err(Code::SlowRequest)).await;
    assert_eq!(server.plane.received(), 1);
}

#[tokio::test]
async fn a_frame_without_bytes_may_end_a_body() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut stream = TcpStream::connect(server.addresses.control).await.unwrap();
    let head = frame(1, 4, 1, &deployment_fields());
    stream
        .write_all(&[PREFACE, &frame(4, 0, 0, &[]), &head, &frame(0, 0, 1, b"x"), &frame(0, 1, 1, &[])].concat())
        .await
        .unwrap();
    loop {
        let (kind, _, payload) = read_frame(&mut stream).await.expect("a frame");
        if kind == 0 {
            assert!(payload.starts_with(br#"{"function":"digits""#), "{payload:?}");
            break;
        }
    }
    ended(&server, Ok(())).await;
}

/// `:method: PUT`, `:scheme: http`, `:path`, `authorization` and `content-type`, as literals without indexing.
fn deployment_fields() -> Vec<u8> {
    let literal = |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    [
        literal(&[0x02], "PUT"),
        vec![0x86],
        literal(&[0x04], "/v1/functions/digits"),
        literal(&[0x0f, 0x08], "Bearer acme-deploy"),
        literal(&[0x0f, 0x10], "application/gzip"),
    ]
    .concat()
}

#[tokio::test]
async fn while_more_is_waited_for_nothing_is_held() {
    let server = Server::start_guarded(EdgeLimits { buffered_bytes_max: 10, ..EdgeLimits::default() });
    let mut client = server.control().await;
    client.send(head("content-length: 20")).await;
    client.send("12345678").await;
    eventually("they have come", || server.plane.received() == 8).await;
    let mut functions = server.client().await;
    let call = format!("POST /fn/echo HTTP/1.1\r\nhost: h\r\n{}content-length: 10\r\n\r\n1234567890", bearer("acme-invoke"));
    functions.send(call).await;
    assert_eq!(functions.answer().await.status, 200);
    client.send("123456789012").await;
    assert_eq!(client.answer().await.status, 503, "a piece beyond all that the host may hold");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_what_it_asked() {
    let server = Server::start_guarded(EdgeLimits::default());
    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let mut client = server.control().await;
        client.send(head(framing)).await;
        client.send(chunk(1000)).await;
        eventually("it is being received", || server.plane.running() == 1 && server.plane.received() > 0).await;
        drop(client);
        eventually("it has ended", || server.plane.running() == 0).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_callers_fault() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    client.send([head("transfer-encoding: chunked").as_bytes(), &chunk(10), b"nonsense\r\n"].concat()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem_code().as_str()), (400, "invalid_input"));
    ended(&server, Err(Code::InvalidInput)).await;
}

#[tokio::test]
async fn a_promised_digest_is_kept() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let cases = [
        (format!("sha-256=:{HELLO}:"), 200, 1),
        (format!("sha-512=:YWJj:, sha-256=:{HELLO}:"), 200, 1),
        (format!("sha-256=:{}:", HELLO.replace('L', "M")), 400, 1),
        ("sha-256=:YWJj:".to_owned(), 400, 0),
        ("sha-256=hello".to_owned(), 400, 0),
        ("sha-512=:YWJj:".to_owned(), 400, 0),
        ("md5=:YWJj:".to_owned(), 400, 0),
        (String::new(), 400, 0),
    ];
    for (digest, status, asked) in cases {
        let before = server.plane.asked();
        let headers = format!("{TAR}content-digest: {digest}\r\n");
        let answer = send(&mut client, "acme-deploy", "PUT", "/v1/functions/digits", &headers, b"hello").await;
        assert_eq!(answer.status, status, "{digest}: {answer:?}");
        assert_eq!(server.plane.asked() - before, asked, "{digest}");
    }
    ended(&server, Err(Code::InvalidInput)).await;
    let headers = format!("{JSON}content-digest: sha-256=:{HELLO}:\r\n");
    let answer = send(&mut client, "acme-admin", "POST", "/v1/keys", &headers, br#"{"scopes":["invoke"]}"#).await;
    assert_eq!(answer.status, 400, "also of what is no archive");
}

#[tokio::test]
async fn an_archive_that_nobody_wants_does_not_cost_the_connection_its_place() {
    let server = Server::start_guarded(EdgeLimits::default());
    let mut client = server.control().await;
    let answer = send(&mut client, "acme-deploy", "PUT", "/v1/functions/refuses", TAR, &[0; 1000]).await;
    assert_eq!(answer.status, 429);
    assert!(!answer.closes());
    assert_eq!(server.plane.received(), 0);
    client.send(request("GET", "/live", b"")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_small_body_has_its_own_time() {
    let server = Server::start_guarded(EdgeLimits { body_time: SHORT, ..EdgeLimits::default() });
    let mut client = server.control().await;
    client.send(format!("POST /v1/keys HTTP/1.1\r\nhost: h\r\n{}{JSON}content-length: 20\r\n\r\n", bearer("acme-admin"))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.problem_code().as_str()), (408, "slow_request"));
}
