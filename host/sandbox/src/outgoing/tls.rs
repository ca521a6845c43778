//! TLS to servers whose certificates the public authorities vouch for. Knows no sockets.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use crate::outgoing::connect::Stream;
use crate::outgoing::target::{Host, Target};

/// For all functions: they share no more than the authorities.
pub(super) fn public() -> &'static TlsConnector {
    static PUBLIC: LazyLock<TlsConnector> =
        LazyLock::new(|| connector(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }));
    &PUBLIC
}

fn connector(roots: RootCertStore) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("invariant: the provider has suites for the default versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets would tell the server that two tenants' requests come from one host, and save little.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// Asks for, and accepts, the target's own certificate alone. Safe to cancel.
pub(super) async fn handshake<S: Stream>(connector: &TlsConnector, target: &Target, stream: S) -> Result<TlsStream<S>, Error> {
    let name = match &target.host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_invalid| Error::HttpRequestUriInvalid)?,
        Host::Address(address) => ServerName::from(*address),
    };
    connector.connect(name, stream).await.map_err(|error| of_handshake(&error))
}

fn of_handshake(error: &io::Error) -> Error {
    match error.get_ref().and_then(|source| source.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: None }
        }
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::AsyncReadExt;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// An authority's certificate, and a server with one of it for these names.
    fn server(names: &[&str]) -> (CertificateDer<'static>, TlsAcceptor) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        (authority.der().clone(), TlsAcceptor::from(Arc::new(config)))
    }

    fn target(host: Host) -> Target {
        Target { host, port: 443, tls: true }
    }

    async fn greeting(connector: &TlsConnector, acceptor: &TlsAcceptor, host: Host) -> Result<String, Error> {
        let (client, server) = tokio::io::duplex(1 << 14);
        let serving = async {
            // A client that refuses the certificate ends it here.
            if let Ok(mut stream) = acceptor.accept(server).await {
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.unwrap();
            }
        };
        let target = target(host);
        let reading = async {
            let mut text = [0; 5];
            handshake(connector, &target, client).await?.read_exact(&mut text).await.unwrap();
            Ok(String::from_utf8(text.to_vec()).unwrap())
        };
        tokio::join!(serving, reading).1
    }

    #[tokio::test]
    async fn only_the_certificate_of_the_target_is_accepted() {
        let (authority, acceptor) = server(&["a.example", "127.0.0.1"]);
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let own = connector(roots);
        let name = |name: &str| Host::Name(name.into());
        for good in [name("a.example"), Host::Address(Ipv4Addr::LOCALHOST.into())] {
            assert_eq!(greeting(&own, &acceptor, good).await.unwrap(), "hello");
        }
        for other in [name("b.example"), Host::Address(Ipv4Addr::BROADCAST.into())] {
            assert!(matches!(greeting(&own, &acceptor, other).await, Err(Error::TlsCertificateError)));
        }
        let unknown = greeting(public(), &acceptor, name("a.example")).await;
        assert!(matches!(unknown, Err(Error::TlsCertificateError)));
    }
}
