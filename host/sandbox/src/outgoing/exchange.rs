//! One request and its response over a connection of their own. Knows nothing of guests.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};
use tracing::Level;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::lines::Lines;
use crate::outgoing::body::{Download, Upload};
use crate::outgoing::connect::{Stream, connect};
use crate::outgoing::target::Target;
use crate::outgoing::{Rest, Rules};

const CONNECT_TIME: Duration = Duration::from_secs(5);
const FIRST_BYTE_TIME: Duration = Duration::from_secs(10);
const BETWEEN_BYTES_TIME: Duration = Duration::from_secs(10);
/// The least that hyper reads a head into.
const BUFFER_BYTES_MIN: usize = 8 << 10;
const RESPONSE_HEADERS_MAX: usize = 100;

/// How long each part may take. The guest can have less than the defaults, and nothing beyond the deadline.
#[derive(Clone, Copy)]
pub(super) struct Times {
    connect: Duration,
    first_byte: Duration,
    pub(super) between_bytes: Duration,
    pub(super) deadline: Instant,
}

impl Times {
    pub(super) fn new(asked: RequestOptions, deadline: Instant) -> Self {
        let least = |asked: Option<Duration>, max: Duration| asked.map_or(max, |asked| asked.min(max));
        Self {
            connect: least(asked.connect_timeout, CONNECT_TIME),
            first_byte: least(asked.first_byte_timeout, FIRST_BYTE_TIME),
            between_bytes: least(asked.between_bytes_timeout, BETWEEN_BYTES_TIME),
            deadline,
        }
    }

    pub(super) fn until(&self, time: Duration) -> Instant {
        (Instant::now() + time).min(self.deadline)
    }
}

/// A request that may be sent.
pub(super) struct Exchange {
    pub(super) target: Target,
    pub(super) rules: Arc<Rules>,
    pub(super) times: Times,
    pub(super) lines: Arc<Lines>,
    /// Closed when the guest's own request has ended.
    pub(super) closed: watch::Receiver<()>,
    /// Held for as long as the connection.
    pub(super) place: OwnedSemaphorePermit,
}

impl Exchange {
    /// Gives the response's head with a body that is still to come, and the work that brings it. Safe to cancel: dropping
    /// either of them closes the connection.
    ///
    /// # Errors
    /// Whatever comes before the head is complete.
    pub(super) async fn run(self, request: Request<WasiBody>) -> Result<(Response<WasiBody>, Rest), Error> {
        let mut closed = self.closed.clone();
        // Nobody ever sends: it changes when the sender is gone.
        let exchanged = tokio::select! {
            exchanged = self.exchange(request) => exchanged,
            _gone = closed.changed() => Err(Error::ConnectionTerminated),
        };
        let (response, connection) = exchanged.inspect_err(|error| self.log(error))?;
        let response = response.map(|body| Download::new(body, self.rules.body_bytes_max, self.times).boxed_unsync());
        let Self { mut closed, place, .. } = self;
        let rest = Box::new(async move {
            if let Some(connection) = connection {
                // Its failures reach the guest through the body.
                tokio::select! {
                    _done = connection => {}
                    _gone = closed.changed() => {}
                }
            }
            drop(place);
            Ok(())
        });
        Ok((response, rest))
    }

    async fn exchange(&self, request: Request<WasiBody>) -> Result<(Response<Incoming>, Option<Connection>), Error> {
        let stream = connect(&self.target, &self.rules, self.times.until(self.times.connect)).await?;
        let first_byte_by = self.times.until(self.times.first_byte);
        let request = self.rewrite(request);
        let exchanged = timeout_at(first_byte_by, self.first_byte(stream, request)).await;
        let exchanged = exchanged.map_err(|_late| Error::ConnectionReadTimeout)??;
        // Hyper looks at its bound only when it has read and the head is not yet whole.
        let bytes: usize = exchanged.0.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > self.rules.header_bytes_max {
            return Err(Error::HttpResponseHeaderSectionSize(None));
        }
        Ok(exchanged)
    }

    /// What goes over the wire: the path alone, and headers about the connection that are ours.
    fn rewrite(&self, request: Request<WasiBody>) -> Request<Upload> {
        let mut request = request.map(|body| Upload::new(body, self.rules.body_bytes_max));
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = self.target.header();
        // Both are parts of a valid URI.
        *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
        let host = HeaderValue::try_from(host).unwrap_or_else(|_invalid| HeaderValue::from_static(""));
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        request
    }

    async fn first_byte(
        &self,
        stream: Box<dyn Stream>,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Option<Connection>), Error> {
        let mut client = http1::Builder::new();
        client.max_buf_size(self.rules.header_bytes_max.max(BUFFER_BYTES_MIN)).max_headers(RESPONSE_HEADERS_MAX);
        let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(|error| of_hyper(&error))?;
        let answer = pin!(sender.send_request(request));
        match select(answer, Box::pin(connection)).await {
            Either::Left((response, connection)) => Ok((response.map_err(|error| of_hyper(&error))?, Some(connection))),
            Either::Right((Ok(()), response)) => Ok((response.await.map_err(|error| of_hyper(&error))?, None)),
            Either::Right((Err(error), _)) => Err(of_hyper(&error)),
        }
    }

    fn log(&self, error: &Error) {
        if matches!(error, Error::DestinationIpProhibited) {
            let text = format!("a request to {} is denied: its address is not public and the host does not list it", self.target);
            self.lines.write(Level::WARN, &text);
        }
    }
}

type Connection = Pin<Box<http1::Connection<TokioIo<Box<dyn Stream>>, Upload>>>;

/// What the guest is told of hyper's errors: the details are the server's doing, and nobody's here.
pub(super) fn of_hyper(error: &hyper::Error) -> Error {
    let source = error.source();
    if let Some(Error::HttpRequestBodySize(bytes)) = source.and_then(|source| source.downcast_ref()) {
        return Error::HttpRequestBodySize(*bytes);
    }
    let io = source.and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_incomplete_message() || io == Some(ErrorKind::UnexpectedEof) {
        Error::HttpResponseIncomplete
    } else if error.is_closed() || error.is_canceled() || io.is_some() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_can_only_have_less_time() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let asked = RequestOptions {
            connect_timeout: Some(Duration::from_secs(1)),
            first_byte_timeout: Some(Duration::MAX),
            between_bytes_timeout: None,
        };
        let times = Times::new(asked, deadline);
        assert_eq!((times.connect, times.first_byte), (Duration::from_secs(1), FIRST_BYTE_TIME));
        assert_eq!(times.between_bytes, BETWEEN_BYTES_TIME);
        assert_eq!(Times::new(RequestOptions::default(), Instant::now()).until(CONNECT_TIME).elapsed().as_secs(), 0);
        assert_eq!(times.until(Duration::from_secs(120)), deadline);
    }
}
