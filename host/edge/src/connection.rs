//! One connection from its first byte to its last: TLS, which HTTP it speaks, hyper's bounds, and its end by the client, by a
//! clock or by a drain.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sandmill_domain::{Code, Fault};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::activity::{Activity, Cause};
use crate::again::Again;
use crate::delivery::Delivery;
use crate::io::{Dialect, Socket, Stream};
use crate::linger::{self, Patience};
use crate::options::EdgeLimits;
use crate::reload::Tls;
use crate::request::{self, Entrance, Listener};
use crate::shared::Shared;
use crate::status;
use crate::tls::ALPN_HTTP2;

/// What hyper holds of one HTTP/1 connection, read or to be written. Its default of 400 KiB would be 400 MiB over 1024
/// connections, outside the account of buffered bytes.
const HTTP1_BUFFER_BYTES_MAX: usize = 128 << 10;

/// What TLS holds of an answer that the kernel does not take yet: one record, so that here, too, what is written is with the
/// kernel. Its default of 64 KiB would be a whole chunk.
const TLS_BUFFER_BYTES_MAX: usize = 16 << 10;

/// What a client may send of one HTTP/2 body, and of all of a connection's, before it is read.
const HTTP2_STREAM_WINDOW: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW: u32 = 1 << 20;

/// Streams that a client may reset before they are looked at, and mistakes it may make, before its connection is closed:
/// CVE-2023-44487 and its kin. The defaults of h2 are 20 and 1024.
const HTTP2_EARLY_RESETS_MAX: usize = 20;
const HTTP2_MISTAKES_MAX: usize = 128;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are welcome.
    Serving,
    /// What has begun is finished.
    Draining,
    /// Nothing is waited for.
    Cut,
}

/// What a connection knows of its server.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listener: Listener,
    /// None for plain text.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Serves `stream` to its end.
pub(crate) async fn serve(stream: TcpStream, mut context: Context) {
    // A connection that a drain took from the backlog sees the phase, too.
    context.phase.mark_changed();
    let peer = stream.peer_addr().ok();
    let entrance = Entrance { listener: context.listener, from: peer.map(|peer| peer.ip().to_canonical()) };
    let activity = Arc::new(Activity::new(&context.shared.limits));
    let socket = Socket::new(stream, Arc::clone(&activity));
    let opened = match context.tls.clone() {
        None => open(socket, &activity, &mut context).await,
        Some(tls) => open_tls(socket, &tls, &activity, &mut context).await,
    };
    match opened {
        Some((stream, Dialect::Http1)) => serve_http1(stream, &activity, entrance, context).await,
        Some((stream, Dialect::Http2)) => serve_http2(stream, &activity, entrance, context).await,
        None => {}
    }
}

/// Finds out how a client speaks; none if it came to nothing, of which it was told.
async fn open(mut socket: Socket, activity: &Activity, context: &mut Context) -> Option<(Stream, Dialect)> {
    let opening = step(socket.dialect(), activity, &mut context.phase).await;
    match opening {
        Opening::Ended(dialect) => dialect.ok().flatten().map(|dialect| (Stream::Plain(socket), dialect)),
        Opening::TooSlow => {
            refuse_slow(Stream::Plain(socket), &context.shared).await;
            None
        }
        Opening::Gone => None,
    }
}

/// The same under TLS, by what was agreed on in its handshake.
async fn open_tls(socket: Socket, tls: &Tls, activity: &Activity, context: &mut Context) -> Option<(Stream, Dialect)> {
    let failed = |reason| context.shared.telemetry.handshake_failed(tls.listener(), reason);
    let first = step(socket.first_byte(), activity, &mut context.phase).await;
    let Opening::Ended(Ok(Some(first))) = first else { return None };
    // A handshake begins with 22, a method with a letter. Whoever left out the `s` of `https` is told so, in text.
    if first.is_ascii_alphabetic() {
        failed("plain");
        refuse_plain(socket, &context.shared).await;
        return None;
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.identity().config));
    let handshake = acceptor.accept_with(socket, |session| session.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX)));
    match step(handshake, activity, &mut context.phase).await {
        Opening::Ended(Ok(stream)) => {
            activity.secure();
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
            let dialect = if is_http2 { Dialect::Http2 } else { Dialect::Http1 };
            return Some((Stream::Tls(Box::new(stream)), dialect));
        }
        Opening::Ended(Err(error)) => {
            failed("broken");
            tracing::debug!(%error, "a handshake failed");
        }
        Opening::TooSlow => failed("slow"),
        Opening::Gone => {}
    }
    None
}

/// What became of a step on the way to a connection's first head.
enum Opening<T> {
    Ended(T),
    TooSlow,
    Gone,
}

async fn step<W: Future>(work: W, activity: &Activity, phase: &mut watch::Receiver<Phase>) -> Opening<W::Output> {
    let mut work = pin!(work);
    loop {
        match turn(work.as_mut(), activity, phase).await {
            Turn::Ended(ended) => return Opening::Ended(ended),
            Turn::Expired(Cause::Head) => return Opening::TooSlow,
            Turn::Drain => _ = activity.close_soon(),
            Turn::Expired(_) | Turn::Cut => return Opening::Gone,
        }
    }
}

async fn serve_http1(stream: Stream, activity: &Arc<Activity>, entrance: Entrance, mut context: Context) {
    let service = service(activity, entrance, &context.shared);
    // hyper wakes its own task for each piece of a body that has been read.
    let mut http = Again::new(http1_builder(&context.shared.limits).serve_connection(TokioIo::new(stream), service));
    loop {
        match turn(&mut http, activity, &mut context.phase).await {
            // A request that is being read or answered is not interrupted; its answer says `connection: close`.
            Turn::Drain => _ = activity.close_soon(),
            Turn::Ended(ended) => {
                if let Err(error) = &ended {
                    record_malformed(error, &context.shared);
                }
                note(ended);
                break;
            }
            Turn::Expired(Cause::Head) => {
                return refuse_slow(http.into_inner().into_parts().io.into_inner(), &context.shared).await;
            }
            Turn::Expired(Cause::Idle) => {
                return linger::part(http.into_inner().into_parts().io.into_inner(), Patience::new(&context.shared.limits)).await;
            }
            Turn::Expired(cause) => return give_up(activity, cause),
            Turn::Cut => return activity.abandon(),
        }
    }
    linger::close(http.into_inner().into_parts().io.into_inner(), Patience::new(&context.shared.limits)).await;
}

async fn serve_http2(stream: Stream, activity: &Arc<Activity>, entrance: Entrance, mut context: Context) {
    activity.multiplex();
    // A drain that began before is still to be told.
    context.phase.mark_changed();
    let service = service(activity, entrance, &context.shared);
    let mut http = pin!(http2_builder(&context.shared.limits).serve_connection(TokioIo::new(stream), service));
    loop {
        match turn(http.as_mut(), activity, &mut context.phase).await {
            Turn::Ended(ended) => return note(ended),
            Turn::Cut => return activity.abandon(),
            Turn::Drain => {
                activity.close_soon();
                http.as_mut().graceful_shutdown();
            }
            // The client is told first: a request may be on its way.
            Turn::Expired(Cause::Idle) if activity.close_soon() => http.as_mut().graceful_shutdown(),
            Turn::Expired(cause) => return give_up(activity, cause),
        }
    }
}

fn service(
    activity: &Arc<Activity>,
    entrance: Entrance,
    shared: &Arc<Shared>,
) -> impl HttpService<Incoming, ResBody = Delivery, Error = Infallible, Future: Send + 'static> + use<> {
    let (shared, activity) = (Arc::clone(shared), Arc::clone(activity));
    service_fn(move |request: Request<Incoming>| {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        async move { Ok(request::answer(&shared, entrance, &activity, request).await) }
    })
}

/// What comes next on a connection.
enum Turn<T> {
    Ended(T),
    Drain,
    Cut,
    Expired(Cause),
}

/// Drives a connection's `work` until it ends or something else is due. Bytes that have arrived come before any clock.
async fn turn<W: Future + Unpin>(work: W, activity: &Activity, phase: &mut watch::Receiver<Phase>) -> Turn<W::Output> {
    tokio::select! {
        biased;
        ended = work => Turn::Ended(ended),
        // A server that is gone without a word has cut its connections.
        next = next_phase(phase) => if next == Phase::Draining { Turn::Drain } else { Turn::Cut },
        cause = activity.expired() => Turn::Expired(cause),
    }
}

async fn next_phase(phase: &mut watch::Receiver<Phase>) -> Phase {
    while phase.changed().await.is_ok() {
        let now = *phase.borrow_and_update();
        if now != Phase::Serving {
            return now;
        }
    }
    Phase::Cut
}

/// Tells a client whose head did not end in time, and closes.
async fn refuse_slow(stream: Stream, shared: &Shared) {
    let fault = Fault::new(Code::SlowRequest, "the request's head took too long to arrive");
    shared.record_refusal(&fault, status::status(fault.code));
    linger::refuse(stream, &fault, Patience::new(&shared.limits)).await;
}

/// Tells a client that speaks HTTP without TLS, and closes.
async fn refuse_plain(socket: Socket, shared: &Shared) {
    let fault = Fault::new(Code::InvalidInput, "this port speaks HTTP over TLS alone, and this came without it: use https://");
    shared.record_refusal(&fault, status::status(fault.code));
    linger::refuse(socket, &fault, Patience::new(&shared.limits)).await;
}

/// Records a head that is none: hyper has answered it itself, without a body.
fn record_malformed(error: &hyper::Error, shared: &Shared) {
    if error.is_parse() {
        let too_large = error.is_parse_too_large();
        let status = if too_large { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        let fault = Fault::new(Code::InvalidInput, "the request's head is malformed or too large").because(error.to_string());
        shared.record_refusal(&fault, status);
    }
}

fn give_up(activity: &Activity, cause: Cause) {
    if cause == Cause::Write {
        tracing::info!("closed a connection whose client does not read its answer");
        activity.abandon();
    }
}

/// Clients break off and send nonsense all day: nobody is woken for it.
fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
    }
}

fn http1_builder(limits: &EdgeLimits) -> http1::Builder {
    let head_bytes_max = limits.head_bytes_max as usize;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // hyper's own clock for heads also runs on an idle connection, and closes without a status.
        .header_read_timeout(None)
        .max_header_size(head_bytes_max)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX.max(head_bytes_max));
    builder
}

fn http2_builder(limits: &EdgeLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(limits.head_bytes_max)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(HTTP2_EARLY_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_MISTAKES_MAX)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_time);
    builder
}
