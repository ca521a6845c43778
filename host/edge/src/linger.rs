//! Closing a connection so that the client still sees the last answer: bytes that nobody reads would make the kernel send a
//! reset, and a reset can overtake the answer.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use sandmill_domain::Fault;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::options::EdgeLimits;
use crate::status;

/// How much of what the client still sends is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    bytes_max: usize,
    time: Duration,
}

impl Patience {
    pub(crate) fn new(limits: &EdgeLimits) -> Self {
        Self { bytes_max: limits.discard_bytes_max, time: limits.discard_time }
    }
}

/// Reads what the client still sends, then closes; the answer is written and the sending side shut.
pub(crate) async fn close(mut stream: impl AsyncRead + Unpin, patience: Patience) {
    let _closed_anyway = timeout(patience.time, discard(&mut stream, patience.bytes_max)).await;
}

/// Tells the client of `fault` on a connection from which no whole head was read, then closes it.
pub(crate) async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, fault: &Fault, patience: Patience) {
    let answer = status::closing_bytes(fault);
    let told = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    if matches!(timeout(patience.time, told).await, Ok(Ok(()))) {
        close(stream, patience).await;
    }
}

/// The same for a client that expects TLS; the handshake has as much time as the rest.
pub(crate) async fn refuse_tls(stream: TcpStream, config: Arc<ServerConfig>, fault: &Fault, patience: Patience) {
    let handshake = TlsAcceptor::from(config).accept(stream);
    if let Ok(Ok(stream)) = timeout(patience.time, handshake).await {
        refuse(stream, fault, patience).await;
    }
}

/// Closes a connection on which nothing is under way. TLS says so: a client could not tell it from one that was cut.
pub(crate) async fn part(mut stream: impl AsyncWrite + Unpin, patience: Patience) {
    let _closed_anyway = timeout(patience.time, stream.shutdown()).await;
}

async fn discard(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) {
    let mut scrap = [0; 4 << 10];
    let mut left = bytes_max;
    while left > 0 {
        match stream.read(&mut scrap).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}
