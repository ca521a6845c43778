//! TLS on both listeners: everything that holds without it, and what there is besides. The clients are rustls's, and bare bytes
//! where it is too polite.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use sandmill_edge::{Drained, Edge, EdgeLimits, EdgeOptions, TlsFiles};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, request};
use crate::fake::BODY_BYTES_MAX;
use crate::server::{PATIENCE, Server, eventually, options, parts};

const SHORT: Duration = Duration::from_millis(150);
const CLEAN: Drained = Drained { clean: true, cut: 0 };

/// A certificate that vouches for itself, and its key.
pub(crate) struct Certified {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certified {
    pub(crate) fn new() -> Self {
        Self::with(|_params| {})
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes both files into a folder.
    pub(crate) fn write(&self, folder: &Path) -> TlsFiles {
        std::fs::write(folder.join("tls.crt"), &self.certificate).unwrap();
        std::fs::write(folder.join("tls.key"), &self.key).unwrap();
        TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
    }

    /// Connects as a client that trusts this certificate alone.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Client<TlsStream<TcpStream>> {
        self.connect_as(address, &[&TLS13, &TLS12], &[]).await.unwrap()
    }

    pub(crate) async fn connect_as(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        self.shake(TcpStream::connect(address).await.unwrap(), versions, alpn).await
    }

    async fn shake(
        &self,
        stream: TcpStream,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream);
        timeout(PATIENCE, handshake).await.expect("a handshake ends").map(Client::on)
    }

    async fn connect_http2(&self, address: SocketAddr) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
        let client = self.connect_as(address, &[&TLS13], &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(client.stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(client.stream)).await;
        let (sender, connection) = handshake.unwrap();
        (sender, tokio::spawn(connection))
    }
}

/// A server that shows a new certificate, which lies in a folder.
fn start(limits: EdgeLimits) -> (Server, Certified, TempDir) {
    let (certified, folder) = (Certified::new(), tempfile::tempdir().unwrap());
    (Server::start_tls(limits, &certified.write(folder.path())), certified, folder)
}

fn failures(server: &Server, reason: &str) -> f64 {
    server.metric(&format!(r#"sandmill_tls_handshake_failures_total{{listener="listen",reason="{reason}"}}"#))
}

#[tokio::test]
async fn both_listeners_speak_both_versions() {
    let certified = Certified::with(|params| params.not_after = date_time_ymd(2100, 1, 1));
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_tls(EdgeLimits::default(), &certified.write(folder.path()));
    for (version, alpn) in [(&TLS12, "http/1.1"), (&TLS13, "http/1.1"), (&TLS12, ""), (&TLS13, "")] {
        let alpn: &[&str] = if alpn.is_empty() { &[] } else { &[alpn] };
        let mut client = certified.connect_as(server.addresses.listen, &[version], alpn).await.unwrap();
        let answer = client.ask("POST", "/fn/echo", b"hi").await;
        assert_eq!((answer.status, &answer.body[..], answer.closes()), (200, &b"hi"[..], false));
        assert_eq!(client.ask("GET", "/fn/large?3000000", b"").await.body.len(), 3_000_000);
        assert_eq!(client.ask("POST", "/fn/echo", b"still there").await.body, b"still there");
        let session = client.stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(version.version));
        assert_eq!(session.alpn_protocol(), alpn.first().map(|name| name.as_bytes()));
    }
    assert_eq!(server.addresses.listen_url(), format!("https://{}", server.addresses.listen));
    assert_eq!(server.addresses.control_url(), format!("https://{}", server.addresses.control));
    let mut control = certified.connect(server.addresses.control).await;
    assert_eq!(control.ask("GET", "/ready", b"").await.status, 200);
    let text = String::from_utf8(control.ask("GET", "/metrics", b"").await.body).unwrap();
    for listener in ["listen", "control"] {
        let expiry = format!("sandmill_tls_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}} 4102444800");
        assert!(text.contains(&expiry), "{text}");
        assert!(text.contains(&format!("tls_certificate_loads_total{{listener=\"{listener}\",result=\"taken\"}} 1")));
    }
}

#[tokio::test]
async fn http2_is_agreed_on_and_spoken() {
    let (server, certified, _folder) = start(EdgeLimits::default());
    let (mut sender, _connection) = certified.connect_http2(server.addresses.listen).await;
    for (path, bytes) in [("/fn/echo", 4), ("/fn/large?3000000", 3_000_000), ("/fn/echo", 4)] {
        let request = Request::post(format!("https://localhost{path}")).body(Full::new(Bytes::from_static(b"body"))).unwrap();
        let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), bytes, "{path}");
    }
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_refused() {
    let (server, certified, _folder) = start(EdgeLimits::default());
    let refused = certified.connect_as(server.addresses.listen, &[&TLS13], &["spdy/3"]).await;
    assert!(refused.is_err());
    let stranger = Certified::new().connect_as(server.addresses.listen, &[&TLS13], &[]).await;
    assert!(stranger.is_err(), "a client that does not know the certificate");
    eventually("both are counted", || failures(&server, "broken") == 2.0).await;
    eventually("both are gone", || server.metric("sandmill_connections") == 0.0).await;
}

#[tokio::test]
async fn plain_http_is_told_to_use_tls() {
    let (server, _certified, _folder) = start(EdgeLimits::default());
    for bytes in [&b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"P"] {
        let mut client = server.client().await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str(), answer.closes()), (400, "invalid_input", true));
        assert!(answer.json()["error"].as_str().unwrap().contains("https://"));
        assert!(client.is_closed().await);
    }
    assert_eq!((failures(&server, "plain"), server.requests("-", "400")), (3.0, 3.0));
    eventually("they are gone", || server.metric("sandmill_connections") == 0.0).await;
}

#[tokio::test]
async fn garbage_is_closed() {
    let (server, certified, _folder) = start(EdgeLimits::default());
    // No record; a record of no version; a handshake that is none; a record that is too long.
    let garbage: [&[u8]; 4] = [&[0; 64], &[22, 9, 9, 0, 1, 1], &[22, 3, 1, 0, 4, 9, 0, 0, 0], &[22, 3, 3, 0xff, 0xff, 1]];
    for bytes in garbage {
        let mut client = server.client().await;
        client.send(bytes).await;
        let mut rest = Vec::new();
        // An alert, and then the end, which may be a reset.
        _ = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(rest.is_empty() || rest[0] == 21, "{bytes:?}: {rest:?}");
    }
    // A client that leaves in the middle.
    server.client().await.send([22, 3, 1]).await;
    eventually("all are counted", || failures(&server, "broken") == 5.0).await;
    eventually("all are gone", || server.metric("sandmill_connections") == 0.0).await;
    // Garbage within TLS is HTTP's affair.
    let mut client = certified.connect(server.addresses.listen).await;
    client.send("nonsense\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    assert!(client.is_closed().await);
    // And after TLS's records it is nobody's.
    let mut client = certified.connect(server.addresses.listen).await;
    client.stream.get_mut().0.write_all(&[0; 64]).await.unwrap();
    assert!(client.try_answer().await.is_none());
}

#[tokio::test]
async fn a_silent_client_is_closed_as_without_tls() {
    let (server, certified, _folder) = start(EdgeLimits { idle_time: SHORT * 3, ..EdgeLimits::default() });
    let mut silent = server.client().await;
    let mut shaken = certified.connect(server.addresses.listen).await;
    let mut used = certified.connect(server.addresses.listen).await;
    assert_eq!(used.ask("POST", "/fn/echo", b"hi").await.body, b"hi");
    assert!(silent.is_closed().await);
    for client in [&mut shaken, &mut used] {
        // Without TLS's own farewell this were an error.
        assert_eq!(timeout(PATIENCE, client.stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }
    eventually("all are counted out", || server.metric("sandmill_connections") == 0.0).await;
    assert_eq!(server.metric("sandmill_tls_handshake_failures_total"), 0.0);
}

#[tokio::test]
async fn a_handshake_has_the_time_of_a_head() {
    let (server, certified, _folder) = start(EdgeLimits { head_time: SHORT, ..EdgeLimits::default() });
    let mut slow = server.client().await;
    let dripping = async {
        // A record of 16 KiB that never ends.
        slow.send([22, 3, 1, 0x40, 0, 1]).await;
        while slow.stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("it is closed");
    eventually("it is counted", || failures(&server, "slow") == 1.0).await;
    // A head has its own time, which begins with its own first byte.
    let mut client = certified.connect(server.addresses.listen).await;
    tokio::time::sleep(SHORT * 2).await;
    client.send("GET / HT").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "slow_request"));
    assert!(client.is_closed().await);
    // A part of a record is the beginning of a head, too.
    let mut client = certified.connect(server.addresses.listen).await;
    client.stream.get_mut().0.write_all(&[23, 3, 3]).await.unwrap();
    assert_eq!(client.answer().await.status, 408);
}

#[tokio::test]
async fn handshakes_that_stall_hold_up_no_other() {
    let (server, certified, _folder) = start(EdgeLimits { connections_max: 101, ..EdgeLimits::default() });
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut client = server.client().await;
        client.send([22, 3, 1]).await;
        stalled.push(client);
    }
    let mut client = certified.connect(server.addresses.listen).await;
    assert_eq!(client.ask("POST", "/fn/echo", b"hi").await.body, b"hi");
    assert_eq!(server.metric("sandmill_connections"), 101.0);
    // They have permits, as all connections: the next one is told so over TLS, in the one protocol that is certain.
    let mut refused = certified.connect_as(server.addresses.listen, &[&TLS13], &["h2", "http/1.1"]).await.unwrap();
    let answer = refused.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert!(refused.is_closed().await);
    drop(stalled);
    eventually("their places are free", || server.metric("sandmill_connections") == 1.0).await;
}

#[tokio::test]
async fn bodies_have_their_bounds() {
    let (server, certified, _folder) = start(EdgeLimits { body_time: SHORT * 4, discard_time: SHORT, ..EdgeLimits::default() });
    let mut client = certified.connect(server.addresses.listen).await;
    let whole = vec![b'x'; BODY_BYTES_MAX];
    assert_eq!(client.ask("POST", "/fn/echo", &whole).await.body, whole);
    let answer = client.ask("POST", "/fn/echo", &vec![b'x'; BODY_BYTES_MAX + 1]).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    assert_eq!(client.ask("POST", "/fn/echo", b"still in step").await.body, b"still in step");
    client.send("POST /fn/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n12345").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str(), answer.closes()), (408, "slow_request", true));
    assert!(client.is_closed().await);
    // Refused in the middle of sending; the answer is not overtaken by a reset.
    let client = certified.connect(server.addresses.listen).await;
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let sending = tokio::spawn(async move {
        writing.write_all(b"POST /fn/missing HTTP/1.1\r\nhost: h\r\ncontent-length: 50000000\r\n\r\n").await.unwrap();
        while writing.write_all(&[0; 16 << 10]).await.is_ok() {}
    });
    let mut answer = [0; 12];
    timeout(PATIENCE, reading.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    timeout(PATIENCE, sending).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_client_that_goes_ends_its_call() {
    let (server, certified, _folder) = start(EdgeLimits::default());
    for farewell in [false, true] {
        let mut client = certified.connect(server.addresses.listen).await;
        client.send(request("POST", "/fn/never", b"")).await;
        eventually("it runs", || server.fake.running() == 1).await;
        if farewell {
            client.stream.shutdown().await.unwrap();
        }
        drop(client);
        eventually("it has ended", || server.fake.running() == 0).await;
    }
    eventually("both are recorded", || server.caller_faults("never", "cancelled") == 2.0).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let (server, certified, _folder) = start(EdgeLimits { write_time: SHORT, ..EdgeLimits::default() });
    let mut client = certified.connect(server.addresses.listen).await;
    client.send(request("GET", "/fn/large?50000000", b"")).await;
    eventually("it is given up", || server.requests("large", "200") == 1.0).await;
    assert_eq!(server.caller_faults("large", "cancelled"), 1.0);
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun() {
    let (mut server, certified, _folder) = start(EdgeLimits::default());
    let address = server.addresses.listen;
    let mut idle = certified.connect(address).await;
    assert_eq!(idle.ask("POST", "/fn/echo", b"").await.status, 200);
    let mut client = certified.connect(address).await;
    client.send(request("POST", "/fn/gate", b"late")).await;
    let (mut sender, connection) = certified.connect_http2(address).await;
    let post = Request::post("https://localhost/fn/gate").body(Full::new(Bytes::from_static(b"later"))).unwrap();
    let call = tokio::spawn(sender.send_request(post));
    eventually("they run", || server.fake.running() == 2).await;
    // A connection whose handshake is still to come.
    let silent = server.client().await;
    eventually("all are accepted", || server.metric("sandmill_connections") == 4.0).await;
    server.stop();
    eventually("the listener is closed", || std::net::TcpStream::connect(address).is_err()).await;
    let mut control = certified.connect(server.addresses.control).await;
    assert_eq!(control.ask("GET", "/ready", b"").await.status, 503);
    server.fake.gate.add_permits(2);
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.body[..], answer.closes()), (200, &b"late"[..], true));
    for client in [&mut client, &mut idle] {
        assert_eq!(timeout(PATIENCE, client.stream.read(&mut [0])).await.unwrap().unwrap(), 0, "it ends with a farewell");
    }
    let answer = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "later");
    timeout(PATIENCE, connection).await.expect("it is closed").unwrap().expect("with a farewell");
    drop(silent);
    assert_eq!(server.drained().await, CLEAN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_handshakes_survive_the_end() {
    let (mut server, certified, _folder) = start(EdgeLimits { drain_idle_time: PATIENCE, ..EdgeLimits::default() });
    let certified = Arc::new(certified);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..100_u8 {
        // Some are accepted, some lie in the backlog; of none the handshake has begun.
        let (certified, stream) = (Arc::clone(&certified), server.client().await.stream);
        asking.spawn(async move {
            let mut client = certified.shake(stream, &[&TLS13], &[]).await.unwrap();
            client.send(request("POST", "/fn/gate", &[number])).await;
            client.try_answer().await.map(|answer| (answer.status, answer.body)) == Some((200, vec![number]))
        });
    }
    server.stop();
    server.fake.gate.add_permits(100);
    assert_eq!(asking.join_all().await.into_iter().filter(|good| *good).count(), 100);
    assert_eq!(server.drained().await, CLEAN);
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let good = Certified::new();
    let expired = Certified::with(|params| params.not_after = date_time_ymd(2020, 2, 1));
    let early = Certified::with(|params| params.not_before = date_time_ymd(4000, 1, 1));
    let broken = good.certificate.replace("-----END CERTIFICATE-----", "");
    let short = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned();
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned();
    for (name, text) in [
        ("good.crt", &good.certificate),
        ("good.key", &good.key),
        ("other.key", &Certified::new().key),
        ("expired.crt", &expired.certificate),
        ("expired.key", &expired.key),
        ("early.crt", &early.certificate),
        ("early.key", &early.key),
        ("broken.crt", &broken),
        ("short.crt", &short),
        ("empty.key", &empty),
        ("locked.key", &locked),
        ("large.key", &"x".repeat((1 << 20) + 1)),
        ("both.pem", &format!("{}{}", good.key, good.certificate)),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    let bind = |certificate: &str, key: &str| {
        let files = TlsFiles { certificate: path(certificate), key: path(key) };
        let options = EdgeOptions { control_tls: Some(files), ..options(EdgeLimits::default()) };
        Edge::bind(options, parts()).map(|_edge| ()).map_err(|error| error.to_string())
    };
    assert_eq!(bind("good.crt", "good.key"), Ok(()));
    assert_eq!(bind("both.pem", "both.pem"), Ok(()));
    for (certificate, key, setting, expected) in [
        ("gone.crt", "good.key", "certificate", ["cannot read", "gone.crt", "No such file", "put it there"]),
        ("", "good.key", "certificate", ["cannot read", "", "it is no file", "name the file"]),
        ("good.crt", "gone.key", "key", ["cannot read", "gone.key", "No such file", "put it there"]),
        ("good.crt", "large.key", "key", ["more than 1048576 bytes", "large.key", "", "name the right file"]),
        ("good.key", "good.key", "certificate", ["no certificate", "good.key", "BEGIN CERTIFICATE", "first"]),
        ("good.crt", "good.crt", "key", ["no private key", "good.crt", "BEGIN PRIVATE KEY", ""]),
        ("good.crt", "locked.key", "key", ["no private key", "locked.key", "encrypted", "decrypted before"]),
        ("good.crt", "empty.key", "key", ["cannot be used", "empty.key", "", "ECDSA"]),
        ("broken.crt", "good.key", "certificate", ["no whole PEM", "broken.crt", "", "write it anew"]),
        ("short.crt", "good.key", "certificate", ["cannot be used", "short.crt", "", "have another one issued"]),
        ("good.crt", "other.key", "key", ["is not the key of", "other.key", "good.crt", "replace both together"]),
        ("expired.crt", "expired.key", "certificate", ["has expired", "expired.crt", "days ago", "renew it"]),
        ("early.crt", "early.key", "certificate", ["not valid before", "early.crt", "days have passed", "clock"]),
    ] {
        let message = bind(certificate, key).expect_err(certificate);
        assert!(message.contains(&format!("(`[tls.control] {setting}`)")), "{message}");
        assert!(expected.iter().all(|words| message.contains(words)), "{certificate}, {key}: {message}");
    }
}
