//! One connection from its first byte to its last: which HTTP it speaks, hyper's bounds, and its end by the client, by a
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

use crate::activity::{Activity, Cause};
use crate::delivery::Delivery;
use crate::io::{Dialect, Socket};
use crate::linger::{self, Patience};
use crate::options::EdgeLimits;
use crate::request::{self, Listener};
use crate::shared::Shared;
use crate::status;

/// What hyper holds of one HTTP/1 connection, read or to be written. Its default of 400 KiB would be 400 MiB over 1024
/// connections, outside the account of buffered bytes.
const HTTP1_BUFFER_BYTES_MAX: usize = 128 << 10;

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
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Serves `stream` to its end.
pub(crate) async fn serve(stream: TcpStream, mut context: Context) {
    // A connection that a drain took from the backlog sees the phase, too.
    context.phase.mark_changed();
    let activity = Arc::new(Activity::new(&context.shared.limits));
    let mut socket = Socket::new(stream, Arc::clone(&activity));
    match open(&mut socket, &activity, &mut context.phase).await {
        Opening::Speaks(Dialect::Http1) => serve_http1(socket, &activity, context).await,
        Opening::Speaks(Dialect::Http2) => serve_http2(socket, &activity, context).await,
        Opening::TooSlow => refuse_slow(socket, &context.shared).await,
        Opening::Gone => {}
    }
}

/// What became of a connection's first bytes.
enum Opening {
    Speaks(Dialect),
    TooSlow,
    Gone,
}

async fn open(socket: &mut Socket, activity: &Activity, phase: &mut watch::Receiver<Phase>) -> Opening {
    let mut dialect = pin!(socket.dialect());
    loop {
        match turn(dialect.as_mut(), activity, phase).await {
            Turn::Ended(Ok(Some(dialect))) => return Opening::Speaks(dialect),
            Turn::Expired(Cause::Head) => return Opening::TooSlow,
            Turn::Drain => _ = activity.close_soon(),
            Turn::Ended(Ok(None) | Err(_)) | Turn::Expired(_) | Turn::Cut => return Opening::Gone,
        }
    }
}

async fn serve_http1(socket: Socket, activity: &Arc<Activity>, mut context: Context) {
    let service = service(activity, &context);
    let mut http = http1_builder(&context.shared.limits).serve_connection(TokioIo::new(socket), service);
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
                return refuse_slow(http.into_parts().io.into_inner(), &context.shared).await;
            }
            Turn::Expired(cause) => return give_up(activity, cause),
            Turn::Cut => return activity.abandon(),
        }
    }
    linger::close(http.into_parts().io.into_inner(), Patience::new(&context.shared.limits)).await;
}

async fn serve_http2(socket: Socket, activity: &Arc<Activity>, mut context: Context) {
    activity.multiplex();
    // A drain that began before is still to be told.
    context.phase.mark_changed();
    let service = service(activity, &context);
    let mut http = pin!(http2_builder(&context.shared.limits).serve_connection(TokioIo::new(socket), service));
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
    context: &Context,
) -> impl HttpService<Incoming, ResBody = Delivery, Error = Infallible, Future: Send + 'static> + use<> {
    let (shared, listener, activity) = (Arc::clone(&context.shared), context.listener, Arc::clone(activity));
    service_fn(move |request: Request<Incoming>| {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        async move { Ok(request::answer(&shared, listener, &activity, request).await) }
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
async fn refuse_slow(socket: Socket, shared: &Shared) {
    let fault = Fault::new(Code::SlowRequest, "the request's head took too long to arrive");
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
