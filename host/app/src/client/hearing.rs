//! A connection on which the answer is heard although the server no longer takes what is sent: one that refuses a large body answers
//! and closes, and the next write then fails before the answer was read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads as its stream does. The first write that fails is the last: it and all later ones wait, so that whoever has this connection
/// reads on, to the answer or to the end of the stream. He needs a deadline, and must be reading while he writes.
pub(super) struct Hearing<S> {
    stream: S,
    is_refused: bool,
}

impl<S> Hearing<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, is_refused: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hearing<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> Hearing<S> {
    /// What `poll` gives, and nothing any more once that was an error.
    fn until_refused<T>(&mut self, poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.is_refused {
            return Poll::Pending;
        }
        let polled = poll(Pin::new(&mut self.stream));
        self.is_refused = matches!(polled, Poll::Ready(Err(_)));
        if self.is_refused { Poll::Pending } else { polled }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hearing<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.until_refused(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.until_refused(|stream| stream.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.until_refused(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use hyper::{Request, StatusCode};

    use super::super::{Body, Exchange, ServerUrl, Trust, Unreachable, exchange};

    /// Answers a request's head with `answer` and closes at once, which resets the connection since the body is not read.
    fn server(answer: &'static str) -> (ServerUrl, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = std::thread::spawn(move || {
            let (mut stream, _client) = listener.accept().expect("a client");
            let mut byte = [0];
            while byte != *b"x" {
                stream.read_exact(&mut byte).expect("a head, and a first piece");
            }
            stream.write_all(answer.as_bytes()).expect("written");
        });
        (ServerUrl::parse(&url).expect("a URL"), serving)
    }

    /// Sends a body whose second piece comes only when the server has gone, on the one thread that could have heard of it before.
    async fn send(answer: &'static str) -> Result<super::super::http::Answer, Unreachable> {
        let (server, serving) = server(answer);
        let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(&[b'x'; 64]))) });
        let rest = futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))).take(64);
        let gone = async {
            // What is there by now is sent.
            tokio::task::yield_now().await;
            serving.join().expect("it served");
            Ok(Frame::data(Bytes::from_static(b"x")))
        };
        let body: Body = StreamBody::new(first.chain(futures_util::stream::once(gone)).chain(rest)).boxed_unsync();
        let request = Request::post("/").body(body).expect("a request");
        let trust = Trust::new(None).expect("authorities");
        let how = Exchange { server: &server, trust: &trust, time: Duration::from_secs(20), bytes_max: 1 << 10 };
        exchange(&how, request).await
    }

    #[tokio::test]
    async fn an_answer_is_heard_after_a_write_that_failed() {
        let answer = send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge").await;
        let answer = answer.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::PAYLOAD_TOO_LARGE, &b"large"[..]));
    }

    #[tokio::test]
    async fn a_server_that_goes_without_a_word_is_told_of() {
        let error = send("").await.err().expect("no answer").to_string();
        assert!(error.contains("it broke off"), "{error}");
    }
}
