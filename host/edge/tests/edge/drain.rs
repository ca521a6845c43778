//! The end of serving: what has begun is finished, within a bound.

use std::time::Duration;

use sandmill_edge::{Drained, EdgeLimits};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::request;
use crate::server::{PATIENCE, Server, eventually};

const CLEAN: Drained = Drained { clean: true, cut: 0 };

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let mut server = Server::start(EdgeLimits::default());
    let mut idle = server.client().await;
    assert_eq!(idle.ask("POST", "/fn/echo", b"").await.status, 200);
    server.stop();
    assert!(idle.is_closed().await);
    assert_eq!(server.drained().await, CLEAN);
}

#[tokio::test]
async fn a_call_under_way_is_finished_and_nothing_new_is_accepted() {
    let mut server = Server::start(EdgeLimits::default());
    let addresses = server.addresses;
    let mut client = server.client().await;
    client.send(request("POST", "/fn/gate", b"late")).await;
    eventually("it runs", || server.fake.running() == 1).await;
    let mut control = server.control().await;
    assert_eq!(control.ask("GET", "/ready", b"").await.status, 200);
    server.stop();
    let mut refused = || std::net::TcpStream::connect(addresses.listen).is_err();
    eventually("the listener is closed", &mut refused).await;
    assert_eq!(control.ask("GET", "/ready", b"").await.status, 503);
    assert_eq!(control.ask("GET", "/live", b"").await.status, 200);
    assert_eq!(server.control().await.ask("GET", "/metrics", b"").await.status, 200);
    server.fake.gate.add_permits(1);
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.body[..], answer.closes()), (200, &b"late"[..], true));
    assert!(client.is_closed().await);
    assert_eq!(server.drained().await, CLEAN);
    assert!(TcpStream::connect(addresses.control).await.is_err());
}

#[tokio::test]
async fn a_request_is_finished_whatever_of_it_was_read() {
    let mut server = Server::start(EdgeLimits::default());
    let whole = request("POST", "/fn/echo", b"body");
    let mut clients = Vec::new();
    for bytes in [1, 3, 10, 40, whole.len() - 1] {
        for used in [false, true] {
            let mut client = server.client().await;
            if used {
                assert_eq!(client.ask("POST", "/fn/echo", b"before").await.status, 200);
            }
            client.send(&whole[..bytes]).await;
            clients.push((client, bytes));
        }
    }
    eventually("all are accepted", || server.metric("sandmill_connections") == 10.0).await;
    let addresses = server.addresses;
    server.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(addresses.listen).is_err()).await;
    for (mut client, bytes) in clients {
        client.send(&whole[bytes..]).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &answer.body[..], answer.closes()), (200, &b"body"[..], true), "after {bytes}");
    }
    assert_eq!(server.drained().await, CLEAN);
}

#[tokio::test]
async fn a_request_that_crosses_the_call_for_an_end_is_answered() {
    let mut server = Server::start(EdgeLimits { drain_idle_time: PATIENCE, ..EdgeLimits::default() });
    let mut client = server.client().await;
    assert_eq!(client.ask("POST", "/fn/echo", b"").await.status, 200);
    let addresses = server.addresses;
    server.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(addresses.listen).is_err()).await;
    let answer = client.ask("POST", "/fn/echo", b"late").await;
    assert_eq!((&answer.body[..], answer.closes()), (&b"late"[..], true));
    assert_eq!(server.drained().await, CLEAN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_survive_the_end() {
    let mut server = Server::start(EdgeLimits::default());
    let mut asking = JoinSet::new();
    for number in 0..200_u8 {
        let mut client = server.client().await;
        // Some are accepted, some lie in the backlog; of some the head is read, of some nothing yet.
        client.send(request("POST", "/fn/gate", &[number])).await;
        asking.spawn(
            async move { client.try_answer().await.map(|answer| (answer.status, answer.body)) == Some((200, vec![number])) },
        );
    }
    server.stop();
    server.fake.gate.add_permits(200);
    let answered = asking.join_all().await;
    assert_eq!(answered.iter().filter(|good| **good).count(), 200);
    assert_eq!(server.drained().await, CLEAN);
}

#[tokio::test]
async fn an_idle_scraper_is_let_go_and_not_cut() {
    let mut server = Server::start(EdgeLimits { drain_idle_time: Duration::from_millis(20), ..EdgeLimits::default() });
    let mut control = server.control().await;
    assert_eq!(control.ask("GET", "/metrics", b"").await.status, 200);
    server.stop();
    // A connection that is cut ends with a reset.
    let end = tokio::time::timeout(PATIENCE, control.stream.read(&mut [0])).await.unwrap();
    assert_eq!(end.map_err(|error| error.kind()), Ok(0));
    assert_eq!(server.drained().await, CLEAN);
}

#[tokio::test]
async fn what_does_not_finish_is_cut() {
    let mut server = Server::start(EdgeLimits { drain_time: Duration::from_millis(100), ..EdgeLimits::default() });
    let mut client = server.client().await;
    client.send(request("POST", "/fn/never", b"")).await;
    eventually("it runs", || server.fake.running() == 1).await;
    server.stop();
    assert!(client.try_answer().await.is_none());
    let fake = std::sync::Arc::clone(&server.fake);
    assert_eq!(server.drained().await, Drained { clean: false, cut: 1 });
    assert_eq!(fake.running(), 0);
}
