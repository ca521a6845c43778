//! SIGTERM and Ctrl-C: readiness goes first, what was begun is finished, the exit is clean.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::{Server, example, exchange, read_answer, wait_until};

#[test]
fn ctrl_c_ends_an_idle_server() {
    let mut server = Server::start(&[example("digits")]);
    server.interrupt();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn what_was_begun_is_finished() {
    let mut server = Server::start(&[example("digits")]);
    let body = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let head = format!("POST /fn/digits HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    // Each of 200 has sent its head and the first half of its body, and the server has seen all of them.
    let (first, second) = body.split_at(body.len() / 2);
    let begun: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(first)).expect("sends the first half");
            stream
        })
        .collect();
    wait_until("200 requests are in flight", || {
        server.metric(r#"sandmill_requests_in_flight{function="digits",tenant="default"}"#) == Some(200.0)
    });
    server.terminate();
    wait_until("readiness is off", || exchange(server.control, "GET", "/v2/health/ready", &[], b"").status == 503);
    for mut stream in begun {
        stream.write_all(second).expect("the connection is still open");
        let answer = read_answer(&mut stream).expect("an answer");
        assert_eq!((answer.status, &answer.json()["label"]), (200, &serde_json::json!(2)));
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(TcpStream::connect(server.address).is_err(), "the port is still open");
}

/// Load from 200 connections that goes on while the server is told to stop: every request whose head the server has read is
/// answered, with 200 and to its last byte. The log has a line for each of those, however it ended, and the clients have as
/// many answers. A request on a connection that the server closed before it read the head fails, and has no line.
#[test]
fn no_request_is_lost_under_load() {
    let mut server = Server::configured("[log]\nformat = \"json\"\n", &[example("digits")]);
    let address = server.address;
    let body = std::fs::read(example("digits").join("sample.json")).expect("the sample");
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let body = body.clone();
            std::thread::spawn(move || ask_until_closed(address, &body))
        })
        .collect();
    wait_until("the load is on", || {
        let line = r#"sandmill_requests_total{form="function",function="digits",status="200",tenant="default"}"#;
        server.metric(line).is_some_and(|count| count > 400.0)
    });
    server.terminate();
    let answered: usize = clients.into_iter().map(|client| client.join().expect("no client sees half an answer")).sum();
    assert!(answered > 400, "{answered}");
    assert_eq!(server.wait().code(), Some(0));
    let lines = server.access_lines();
    let lost: Vec<_> = lines.iter().filter(|line| line["status"] != "200").collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(lines.len(), answered);
}

/// Asks one after the other on one connection, until it is closed or reset between two answers or is said to end; gives the
/// number of answers. One that breaks off is a panic; a last request without any answer is not noticed here.
fn ask_until_closed(address: std::net::SocketAddr, body: &[u8]) -> usize {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    let head = format!("POST /fn/digits HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    let whole = [head.as_bytes(), body].concat();
    let mut answered = 0;
    loop {
        let mut one = [0];
        if stream.write_all(&whole).is_err() || stream.peek(&mut one).unwrap_or(0) == 0 {
            return answered;
        }
        let answer = read_answer(&mut stream).expect("a whole answer once it has begun");
        assert_eq!(answer.status, 200);
        answered += 1;
        if answer.header("connection") == Some("close") {
            return answered;
        }
    }
}
