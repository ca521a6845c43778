//! From a target to an open connection: the name is resolved once, each of its addresses is checked, and it is the checked
//! address that is connected to. Knows nothing of HTTP.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::Error;

use crate::outgoing::address::may_connect;
use crate::outgoing::target::{Host, Target};
use crate::outgoing::{Rules, tls};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Names that are resolved at once for all functions. Each takes a thread, and keeps it beyond the end of whoever asked: the
/// C library cannot be interrupted. Far from the 512 threads that tokio has for such work.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects by then. Safe to cancel: what is begun is closed.
///
/// # Errors
/// In particular `DestinationIpProhibited` if the name leads to no address that may be connected to.
pub(super) async fn connect(target: &Target, rules: &Rules, by: Instant) -> Result<Box<dyn Stream>, Error> {
    let found = resolve(target, &rules.lookups);
    let found = timeout_at(by, found).await.map_err(|_late| Error::DnsTimeout)?;
    let found = found.map_err(|_error| Error::DnsError { rcode: None, info_code: None })?;
    let open = found.into_iter().filter(|address| may_connect(*address, &rules.host_addresses));
    let stream = first(&open.take(ADDRESSES_MAX).collect::<Vec<_>>(), by).await?;
    // Only slower without.
    let _ = stream.set_nodelay(true);
    if !target.tls {
        return Ok(Box::new(stream));
    }
    let stream = timeout_at(by, tls::handshake(tls::public(), target, stream)).await;
    Ok(Box::new(stream.map_err(|_late| Error::ConnectionTimeout)??))
}

async fn resolve(target: &Target, of_function: &Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
    let port = target.port;
    let name = match &target.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        Host::Name(name) => name.clone(),
    };
    let of_function = Arc::clone(of_function).acquire_owned().await.map_err(io::Error::other)?;
    let of_host = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let lookup = tokio::task::spawn_blocking(move || {
        let _places = (of_function, of_host);
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
    });
    lookup.await.map_err(io::Error::other)?
}

/// The first address that answers; each gets an equal share of the time that is left.
async fn first(addresses: &[SocketAddr], by: Instant) -> Result<TcpStream, Error> {
    let mut error = Error::DestinationIpProhibited;
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let now = Instant::now();
        let share = by.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        error = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => of_connecting(&error),
            Err(_late) => Error::ConnectionTimeout,
        };
    }
    Err(error)
}

fn of_connecting(error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        ErrorKind::TimedOut => Error::ConnectionTimeout,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}
