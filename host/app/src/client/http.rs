//! One request to a server on a connection of its own, over TCP or TLS, and its whole answer. Knows nothing of what is asked.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ServerUrl;
use super::hearing::Hearing;

/// For a connection, TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// What is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// There is no answer.
#[derive(Debug, Error)]
#[error("cannot reach {server}: {why}")]
pub(crate) struct Unreachable {
    server: String,
    why: String,
}

/// Whose certificates are believed.
pub(crate) struct Trust(TlsConnector);

impl Trust {
    /// The public authorities, and those of a PEM file.
    ///
    /// # Errors
    /// If the file cannot be read or has no certificate in it.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = ca {
            add_authorities(&mut roots, file).with_context(|| format!("the authorities of {}", file.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.context("TLS cannot be set up")?;
        Ok(Self(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))))
    }
}

fn add_authorities(roots: &mut RootCertStore, file: &Path) -> Result<()> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        bail!("it has no certificate in it: it must be a PEM file");
    }
    certificates.into_iter().try_for_each(|certificate| Ok(roots.add(certificate)?))
}

/// What is asked for, and how long it may take.
pub(crate) struct Exchange<'a> {
    pub(crate) server: &'a ServerUrl,
    pub(crate) trust: &'a Trust,
    /// Of the answer.
    pub(crate) time: Duration,
    /// The largest answer.
    pub(crate) bytes_max: usize,
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends a request, whose URI is a path, and gives the whole answer.
///
/// # Errors
/// [`Unreachable`] if there is none.
pub(crate) async fn exchange(how: &Exchange<'_>, mut request: Request<Body>) -> Result<Answer, Unreachable> {
    let Exchange { server, .. } = how;
    let failed = |why: String| Unreachable { server: server.to_string(), why };
    let host = HeaderValue::from_str(&server.authority).map_err(|_error| failed("its name is no name".to_owned()))?;
    request.headers_mut().insert(HOST, host);
    let late = |_elapsed| failed(format!("no connection within {} s", CONNECT_TIME.as_secs()));
    let connecting = TcpStream::connect((server.host.as_str(), server.port));
    let stream = timeout(CONNECT_TIME, connecting)
        .await
        .map_err(late)?
        .map_err(|error| failed(format!("{error}; is the server running, and is this its address?")))?;
    // A request is one piece, and nothing is gained by waiting for a second one.
    let _best_effort = stream.set_nodelay(true);
    let stream = Hearing::new(stream);
    if !server.is_https {
        return within(how, talk(stream, request, how.bytes_max)).await;
    }
    let name = ServerName::try_from(server.host.clone()).map_err(|error| failed(error.to_string()))?;
    let shaking = how.trust.0.connect(name, stream);
    let stream = timeout(CONNECT_TIME, shaking).await.map_err(late)?.map_err(|error| failed(of_handshake(&error)))?;
    within(how, talk(stream, request, how.bytes_max)).await
}

async fn within(how: &Exchange<'_>, talk: impl Future<Output = Result<Answer, String>>) -> Result<Answer, Unreachable> {
    let failed = |why: String| Unreachable { server: how.server.to_string(), why };
    let late = |_elapsed| failed(format!("no answer within {} s (--timeout); it may still be at work", how.time.as_secs()));
    timeout(how.time, talk).await.map_err(late)?.map_err(failed)
}

async fn talk<S>(stream: S, request: Request<Body>, bytes_max: usize) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broke = |error: hyper::Error| format!("it broke off: {}", anyhow::Error::new(error).root_cause());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broke)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, bytes_max).collect().await.map_err(|error| format!("its answer broke off: {error}"))?;
    driving.abort();
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

fn of_handshake(error: &io::Error) -> String {
    match error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("its certificate is not believed: {why}; name the authority that issued it with --ca FILE")
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS there: try http://".to_owned(),
        _ => format!("TLS failed: {error}"),
    }
}
