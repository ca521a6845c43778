//! Every bound of the edge, met and passed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sandmill_edge::EdgeLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, request};
use crate::fake::BODY_BYTES_MAX;
use crate::server::{PATIENCE, Server, eventually};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_body_may_be_as_large_as_the_bound() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    let whole = vec![b'x'; BODY_BYTES_MAX];
    assert_eq!(client.ask("POST", "/fn/echo", &whole).await.body, whole);
    let chunked = |bytes: usize| {
        let half = "y".repeat(bytes / 2);
        let rest = "y".repeat(bytes - bytes / 2);
        let head = "POST /fn/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", half.len(), rest.len())
    };
    client.send(chunked(BODY_BYTES_MAX)).await;
    assert_eq!(client.answer().await.body.len(), BODY_BYTES_MAX);
    client.send(chunked(BODY_BYTES_MAX + 1)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    assert!(answer.json()["error"].as_str().unwrap().contains("1000 bytes"));
    let answer = client.ask("POST", "/fn/echo", &vec![b'x'; BODY_BYTES_MAX + 1]).await;
    assert_eq!(answer.status, 413);
    assert_eq!(client.ask("POST", "/fn/echo", b"still in step").await.body, b"still in step");
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_not_waited_for() {
    let server = Server::start(EdgeLimits::default());
    let mut client = server.client().await;
    client.send("POST /fn/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 413);
    assert!(answer.closes());
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_is_refused_in_the_middle_of_sending_sees_why() {
    let server = Server::start(EdgeLimits::default());
    for path in ["/fn/echo", "/fn/missing", "/nothing"] {
        let client = server.client().await;
        let (mut reading, mut writing) = client.stream.into_split();
        let sending = tokio::spawn(async move {
            let head = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 50000000\r\n\r\n");
            writing.write_all(head.as_bytes()).await.unwrap();
            // It is cut off at some point; how far it gets is the kernel's affair.
            while writing.write_all(&[0; 16 << 10]).await.is_ok() {}
        });
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, reading.read_exact(&mut answer)).await.unwrap().unwrap();
        let expected: &[u8] = if path == "/fn/echo" { b"HTTP/1.1 413" } else { b"HTTP/1.1 404" };
        assert_eq!(answer, expected, "{path}");
        tokio::time::timeout(PATIENCE, sending).await.expect("the connection is closed").unwrap();
    }
}

#[tokio::test]
async fn an_endless_body_is_discarded_up_to_a_bound() {
    let limits = EdgeLimits { discard_bytes_max: 64 << 10, discard_time: PATIENCE, ..EdgeLimits::default() };
    let server = Server::start(limits);
    let mut client = server.client().await;
    client.send("POST /fn/missing HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = format!("{:x}\r\n{}\r\n", 8 << 10, "x".repeat(8 << 10));
    while client.stream.write_all(chunk.as_bytes()).await.is_ok() {}
    eventually("the connection is gone", || server.metric("sandmill_connections") == 0.0).await;
    let read = server.metric(r#"sandmill_request_body_bytes_total{function="-",tenant="-"}"#);
    assert_eq!(read, 0.0, "what is discarded is not received");
}

#[tokio::test]
async fn a_refused_client_that_does_not_send_its_body_is_answered_soon() {
    let server = Server::start(EdgeLimits { discard_time: SHORT, ..EdgeLimits::default() });
    let mut client = server.client().await;
    client.send("POST /fn/missing HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n12345").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 404);
    assert!(answer.closes());
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_of_one_byte_at_a_time_is_given_up() {
    let server = Server::start(EdgeLimits { body_time: SHORT, ..EdgeLimits::default() });
    let client = server.client().await;
    let answer = drip(client, "POST /fn/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 500\r\n\r\n", "x").await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "slow_request"));
    assert!(answer.closes());
    eventually("it is recorded", || server.requests("echo", "408") == 1.0).await;
    assert!(server.metric(r#"sandmill_request_body_bytes_total{function="echo",tenant="default"}"#) > 0.0);
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_body_comes_is_the_clients_fault() {
    let server = Server::start(EdgeLimits::default());
    *server.fake.timeout.lock().unwrap() = SHORT;
    let client = server.client().await;
    let answer = drip(client, "POST /fn/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 500\r\n\r\n", "x").await;
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn a_head_of_one_byte_at_a_time_is_given_up() {
    let server = Server::start(EdgeLimits { head_time: SHORT, ..EdgeLimits::default() });
    for first in ["", "P", "GET / HTTP/1.1\r\nx-a: "] {
        let mut client = server.client().await;
        if first.is_empty() {
            // A second request on a connection that was good so far.
            assert_eq!(client.ask("GET", "/v2/health/live", b"").await.status, 200);
            client.send("GET").await;
        }
        let answer = drip(client, first, "x").await;
        assert_eq!((answer.status, answer.code().as_str()), (408, "slow_request"), "{first:?}");
    }
    assert_eq!(server.caller_faults("-", "slow_request"), 3.0);
}

/// Sends `first` and then `drop` every 10 ms until there is an answer.
async fn drip(client: Client, first: &str, drop: &'static str) -> crate::client::Answer {
    let mut client = client;
    client.send(first).await;
    loop {
        tokio::select! {
            answer = client.stream.readable() => {
                answer.unwrap();
                return client.answer().await;
            }
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        _ = client.stream.write_all(drop.as_bytes()).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(EdgeLimits { idle_time: SHORT * 3, ..EdgeLimits::default() });
    let mut silent = server.client().await;
    let mut used = server.client().await;
    assert_eq!(used.ask("POST", "/fn/echo", b"hi").await.body, b"hi");
    assert!(silent.is_closed().await);
    assert!(used.is_closed().await);
    eventually("both are counted out", || server.metric("sandmill_connections") == 0.0).await;
}

#[tokio::test]
async fn a_slow_call_is_not_idle() {
    let limits = EdgeLimits { idle_time: SHORT, head_time: SHORT, write_time: SHORT, body_time: SHORT, ..EdgeLimits::default() };
    let server = Server::start(limits);
    let mut client = server.client().await;
    client.send(request("POST", "/fn/gate", b"late")).await;
    tokio::time::sleep(SHORT * 3).await;
    server.fake.gate.add_permits(1);
    assert_eq!(client.answer().await.body, b"late");
}

#[tokio::test]
async fn a_head_may_be_as_large_as_the_bound() {
    let server = Server::start(EdgeLimits { head_bytes_max: 16 << 10, ..EdgeLimits::default() });
    let head = |bytes: usize| {
        let frame = "GET /v2/health/live HTTP/1.1\r\nhost: h\r\nx-filler: \r\n\r\n".len();
        format!("GET /v2/health/live HTTP/1.1\r\nhost: h\r\nx-filler: {}\r\n\r\n", "x".repeat(bytes - frame))
    };
    let mut client = server.client().await;
    client.send(head(16 << 10)).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(head((16 << 10) + 1)).await;
    assert_eq!(client.answer().await.status, 431);
    assert!(client.is_closed().await);
    // Endless, and never complete.
    let mut client = server.client().await;
    client.send("GET / HTTP/1.1\r\nx-endless: ").await;
    while client.stream.write_all(&[b'x'; 1024]).await.is_ok() {
        if client.stream.try_read(&mut [0]).is_ok() {
            break;
        }
    }
    eventually("both are gone", || server.metric("sandmill_connections") == 0.0).await;
}

#[tokio::test]
async fn a_head_may_have_a_hundred_headers() {
    let server = Server::start(EdgeLimits::default());
    for (count, status) in [(100, 200), (101, 431)] {
        let headers: String = (1..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        let mut client = server.client().await;
        client.send(format!("GET /v2/health/live HTTP/1.1\r\nhost: test\r\n{headers}\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{count}");
    }
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let server = Server::start(EdgeLimits::default());
    for (hosts, status) in [("", 400), ("host: test\r\n", 200), ("host: test\r\nhost: other\r\n", 400)] {
        let mut client = server.client().await;
        client.send(format!("GET /v2/health/live HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(client.answer().await.status, status, "{hosts:?}");
    }
    let mut client = server.client().await;
    client.send("GET /v2/health/live HTTP/1.0\r\n\r\n".to_owned()).await;
    assert_eq!(client.answer().await.status, 200, "HTTP/1.0 has no such rule");
}

#[tokio::test]
async fn heads_that_are_none_are_recorded() {
    let server = Server::start(EdgeLimits::default());
    let hundred: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let hundred = format!("GET /v2/health/live HTTP/1.1\r\n{hundred}\r\n");
    let heads = [("nonsense\r\n\r\n", 400), ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400), (hundred.as_str(), 431)];
    for (head, status) in heads {
        let mut client = server.client().await;
        client.send(head).await;
        assert_eq!(client.answer().await.status, status, "{head}");
        assert!(client.is_closed().await);
    }
    eventually("all are recorded", || server.caller_faults("-", "invalid_input") == 3.0).await;
    assert_eq!((server.requests("-", "400"), server.requests("-", "431")), (2.0, 1.0));
    // A client that only leaves has done nothing wrong.
    drop(server.client().await);
    eventually("it is gone", || server.metric("sandmill_connections") == 0.0).await;
    assert_eq!(server.caller_faults("-", "invalid_input"), 3.0);
}

#[tokio::test]
async fn a_path_may_be_as_long_as_the_bound() {
    let server = Server::start(EdgeLimits { uri_bytes_max: 100, ..EdgeLimits::default() });
    let mut client = server.client().await;
    let path = |bytes: usize| format!("/fn/echo?{}", "x".repeat(bytes - "/fn/echo?".len()));
    assert_eq!(client.ask("POST", &path(100), b"").await.status, 200);
    let answer = client.ask("POST", &path(101), b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_input"));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = Server::start(EdgeLimits { connections_max: 2, ..EdgeLimits::default() });
    let mut first = server.client().await;
    let mut second = server.client().await;
    assert_eq!(first.ask("POST", "/fn/echo", b"1").await.status, 200);
    assert_eq!(second.ask("POST", "/fn/echo", b"2").await.status, 200);
    let mut third = server.client().await;
    third.send(request("POST", "/fn/echo", b"3")).await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(third.is_closed().await);
    assert_eq!(server.control().await.ask("GET", "/live", b"").await.status, 200);
    drop(first);
    eventually("its place is free", || server.metric("sandmill_connections") == 1.0).await;
    let mut fourth = server.client().await;
    assert_eq!(fourth.ask("POST", "/fn/echo", b"4").await.status, 200);
}

#[tokio::test]
async fn the_control_listener_has_a_bound_of_its_own() {
    let server = Server::start(EdgeLimits { control_connections_max: 1, ..EdgeLimits::default() });
    let mut first = server.control().await;
    assert_eq!(first.ask("GET", "/live", b"").await.status, 200);
    let mut second = server.control().await;
    assert_eq!(second.answer().await.status, 503);
    assert_eq!(server.client().await.ask("GET", "/v2/health/live", b"").await.status, 200);
}

#[tokio::test]
async fn all_bodies_together_have_a_bound() {
    let server = Server::start(EdgeLimits { buffered_bytes_max: 1000, ..EdgeLimits::default() });
    let mut holder = server.client().await;
    holder.send(request("POST", "/fn/gate", &[b'x'; 600])).await;
    eventually("it holds its body", || server.fake.running() == 1).await;
    let mut client = server.client().await;
    assert_eq!(client.ask("POST", "/fn/echo", &[b'y'; 400]).await.status, 200);
    let answer = client.ask("POST", "/fn/echo", &[b'y'; 401]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    client.send("POST /fn/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 401, "y".repeat(401))).await;
    assert_eq!(client.answer().await.status, 503);
    server.fake.gate.add_permits(1);
    assert_eq!(holder.answer().await.status, 200);
    assert_eq!(client.ask("POST", "/fn/echo", &[b'y'; 1000]).await.status, 200);
}

#[tokio::test]
async fn answers_that_are_not_read_count_until_their_clients_are_gone() {
    // More than the kernel takes of an answer that nobody reads.
    const LARGE: usize = 40_000_000;
    let server = Server::start(EdgeLimits { buffered_bytes_max: 2 * LARGE + 1000, ..EdgeLimits::default() });
    let large = format!("/fn/large?{LARGE}");
    let mut holders = [server.client().await, server.client().await];
    for holder in &mut holders {
        holder.send(request("GET", &large, b"")).await;
        assert_eq!(holder.answer_without_body().await.status, 200);
    }
    let mut client = server.client().await;
    assert_eq!(client.ask("GET", "/fn/large?1000", b"").await.status, 200);
    let answer = client.ask("GET", "/fn/large?1001", b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(client.ask("POST", "/fn/echo", &[b'y'; 1000]).await.status, 200, "an answer takes its request's place");
    assert_eq!(client.ask("GET", "/v2/models/m", b"").await.status, 200);
    drop(holders);
    eventually("they are gone", || server.caller_faults("large", "cancelled") == 2.0).await;
    for _ in 0..5 {
        let answer = client.ask("GET", &large, b"").await;
        assert_eq!((answer.status, answer.body.len()), (200, LARGE), "what was read is given back");
    }
}

#[tokio::test]
async fn a_body_that_is_only_announced_holds_nothing() {
    let server = Server::start(EdgeLimits { buffered_bytes_max: 1000, ..EdgeLimits::default() });
    let mut talker = server.client().await;
    talker.send("POST /fn/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nonly this").await;
    eventually("it is admitted", || server.fake.admitted() == 1).await;
    assert_eq!(server.client().await.ask("POST", "/fn/echo", &[b'y'; 900]).await.status, 200);
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let server = Server::start(EdgeLimits { write_time: SHORT, ..EdgeLimits::default() });
    server.fake.body_bytes_max.store(100, Ordering::SeqCst);
    let mut client = server.client().await;
    client.send(request("GET", "/fn/large?50000000", b"")).await;
    eventually("it is given up", || server.requests("large", "200") == 1.0).await;
    assert_eq!(server.caller_faults("large", "cancelled"), 1.0);
    // Unsent bytes do not linger in the kernel either: the client finds a reset behind what it has.
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_small_answers_is_closed() {
    let server = Server::start(EdgeLimits { write_time: SHORT, ..EdgeLimits::default() });
    let client = server.client().await;
    let (_reading, mut writing) = client.stream.into_split();
    let many: Vec<u8> = (0..1000).flat_map(|_| request("HEAD", "/v2/health/live", b"")).collect();
    let flood = async { while writing.write_all(&many).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the connection is cut");
}

#[tokio::test]
async fn a_slow_reader_that_keeps_reading_is_served() {
    let server = Server::start(EdgeLimits { write_time: Duration::from_secs(1), ..EdgeLimits::default() });
    let mut client = server.client().await;
    client.send(request("GET", "/fn/large?20000000", b"")).await;
    let mut left = 20_000_000_usize;
    let mut scrap = vec![0; 256 << 10];
    while left > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let read = tokio::time::timeout(PATIENCE, client.stream.read(&mut scrap)).await.unwrap().unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left = left.saturating_sub(read);
    }
}
