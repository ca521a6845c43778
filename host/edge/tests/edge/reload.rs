//! Certificates that are replaced while the server serves.

use std::path::Path;

use rustls::version::TLS13;
use sandmill_edge::{EdgeLimits, TlsFiles};

use crate::client::request;
use crate::server::{Server, eventually};
use crate::tls::Certified;

/// How many certificates were taken, or refused, of those that the functions' listener found.
fn loads(server: &Server, result: &str) -> f64 {
    server.metric(&format!(r#"sandmill_tls_certificate_loads_total{{listener="listen",result="{result}"}}"#))
}

/// Whether a client that knows this certificate alone is served.
async fn shows(server: &Server, certified: &Certified) -> bool {
    match certified.connect_as(server.addresses.listen, &[&TLS13], &[]).await {
        Ok(mut client) => client.ask("POST", "/fn/echo", b"hi").await.body == b"hi",
        Err(_unknown) => false,
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_those_who_come() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Certified::new(), Certified::new());
    let server = Server::start_tls(EdgeLimits::default(), &old.write(folder.path()));
    let mut client = old.connect(server.addresses.listen).await;
    client.send(request("POST", "/fn/gate", b"late")).await;
    eventually("it runs", || server.fake.running() == 1).await;
    new.write(folder.path());
    eventually("it is taken", || loads(&server, "taken") == 2.0).await;
    assert!(shows(&server, &new).await);
    assert!(!shows(&server, &old).await);
    server.fake.gate.add_permits(1);
    assert_eq!(client.answer().await.body, b"late");
    for round in 0..10_u8 {
        assert_eq!(client.ask("POST", "/fn/echo", &[round]).await.body, [round], "the old connection goes on");
    }
    assert_eq!(loads(&server, "refused"), 0.0);
}

#[tokio::test]
async fn half_a_pair_is_not_taken_and_refused_once() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, other) = (Certified::new(), Certified::new(), Certified::new());
    let files = old.write(folder.path());
    let server = Server::start_tls(EdgeLimits::default(), &files);
    std::fs::write(&files.certificate, &new.certificate).unwrap();
    eventually("it is refused", || loads(&server, "refused") == 1.0).await;
    assert!(shows(&server, &old).await);
    // What makes it wrong changes: that is news.
    std::fs::remove_file(&files.key).unwrap();
    eventually("it is refused", || loads(&server, "refused") == 2.0).await;
    std::fs::write(&files.key, &new.key).unwrap();
    eventually("it is taken", || loads(&server, "taken") == 2.0).await;
    assert!(shows(&server, &new).await);
    assert_eq!(loads(&server, "refused"), 2.0, "once for each state, however often it is looked at");
    // Back to what it was without an interval between.
    std::fs::write(&files.certificate, "").unwrap();
    std::fs::write(&files.certificate, &new.certificate).unwrap();
    other.write(folder.path());
    eventually("it is taken", || loads(&server, "taken") == 3.0).await;
    assert!(shows(&server, &other).await);
}

/// As the kubelet does it: `tls.crt` leads through `..data`, which is set to another folder in one step.
#[tokio::test]
async fn a_link_that_is_set_to_another_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let publish = |certified: &Certified, version: &str| {
        let target = folder.path().join(version);
        std::fs::create_dir(&target).unwrap();
        certified.write(&target);
        std::os::unix::fs::symlink(version, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    let (old, new) = (Certified::new(), Certified::new());
    publish(&old, "..1");
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
    }
    let files = TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    let server = Server::start_tls(EdgeLimits::default(), &files);
    assert!(shows(&server, &old).await);
    publish(&new, "..2");
    eventually("it is taken", || loads(&server, "taken") == 2.0).await;
    assert!(shows(&server, &new).await);
    std::fs::remove_dir_all(folder.path().join("..1")).unwrap();
    publish(&old, "..3");
    eventually("it is taken", || loads(&server, "taken") == 3.0).await;
    assert!(shows(&server, &old).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_while_certificates_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let first = Certified::new();
    let server = Server::start_tls(EdgeLimits::default(), &first.write(folder.path()));
    let mut client = first.connect(server.addresses.listen).await;
    let asking = tokio::spawn(async move {
        for _ in 0..2000 {
            assert_eq!(client.ask("POST", "/fn/echo", b"hi").await.body, b"hi");
        }
    });
    for round in 2..6_u8 {
        let next = Certified::new();
        next.write(folder.path());
        eventually("it is taken", || loads(&server, "taken") == f64::from(round)).await;
        assert!(shows(&server, &next).await);
    }
    asking.await.unwrap();
}
