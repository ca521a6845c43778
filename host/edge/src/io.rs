//! A socket that tells the connection's [`Activity`] what it does, and whose first bytes can be looked at before it is
//! decided who reads them. Knows HTTP only by the preface of version 2.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::activity::Activity;

/// RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2, without an upgrade.
    Http2,
}

/// What HTTP is spoken on. Under TLS it is the socket itself that is watched: what the client sends counts before it makes a
/// whole record, and what it does not read before TLS has no room for more.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    /// Ten times as large, and made once for a connection.
    Tls(Box<TlsStream<Socket>>),
}

/// A watched socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// What was looked at and not read yet.
    ahead: Bytes,
    blocked: bool,
    activity: Arc<Activity>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, ahead: Bytes::new(), blocked: false, activity }
    }

    /// Looks at as many bytes as it takes to know how the client speaks; none if it goes before.
    pub(crate) async fn dialect(&mut self) -> io::Result<Option<Dialect>> {
        let mut seen = [0; PREFACE.len()];
        let mut length = 0;
        loop {
            let read = self.read(&mut seen[length..]).await?;
            length += read;
            match judge(&seen[..length]) {
                Some(dialect) => {
                    self.ahead = Bytes::copy_from_slice(&seen[..length]);
                    return Ok(Some(dialect));
                }
                None if read == 0 => return Ok(None),
                None => {}
            }
        }
    }

    /// Waits for the client's first byte, which is left unread; none if it goes before.
    pub(crate) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut seen = [0];
        Ok((self.stream.peek(&mut seen).await? > 0).then_some(seen[0]))
    }

    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if self.blocked != written.is_pending() {
            self.blocked = written.is_pending();
            self.activity.block_writes(self.blocked);
        }
        written
    }
}

/// How a client speaks whose first bytes are `seen`; none while they could be either.
fn judge(seen: &[u8]) -> Option<Dialect> {
    if seen == PREFACE {
        Some(Dialect::Http2)
    } else if PREFACE.starts_with(seen) {
        None
    } else {
        Some(Dialect::Http1)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.activity.is_abandoned() {
            // Otherwise the kernel would go on offering unsent bytes to a client that does not read, for minutes.
            let _closed_anyway = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_alone_is_http2() {
        assert_eq!(judge(b""), None);
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(judge(PREFACE), Some(Dialect::Http2));
        for other in [&b"G"[..], b"POST", b"PRI * HTTP/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", b"\x16\x03\x01"] {
            assert_eq!(judge(other), Some(Dialect::Http1), "{other:?}");
        }
    }
}
