//! The path of one request: head → route → admission → body → call → answer. Knows no sockets and no protocol version
//! beyond what framing needs.

use std::any::Any;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::header::{AUTHORIZATION, EXPECT, HOST};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use sandmill_domain::control::Refused;
use sandmill_domain::ports::Target;
use sandmill_domain::{Code, Deadline, Fault, Reply, RequestHead, Scope};
use sandmill_protocol as protocol;
use tokio::time::{Instant, timeout_at};

use crate::activity::Activity;
use crate::control;
use crate::delivery::Delivery;
use crate::exchange::Exchange;
use crate::keys;
use crate::repository;
use crate::routes::{self, Named, Route, route};
use crate::shared::Shared;
use crate::status;
use crate::upload::{Upload, UploadBounds};

/// How long past its deadline a call may take to say itself what it was doing.
const DEADLINE_GRACE: Duration = Duration::from_millis(250);

/// Which listener a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The one for functions.
    Functions,
    /// The one for metrics, health and the control plane.
    Control,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrance {
    pub(crate) listener: Listener,
    /// The address at the other end of its connection; none if it has gone already.
    pub(crate) from: Option<IpAddr>,
}

/// Answers one request; a panic on its way ends it alone. Dropping the future ends the call.
pub(crate) async fn answer(
    shared: &Shared,
    entrance: Entrance,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> Response<Delivery> {
    let (head, body) = request.into_parts();
    let mut upload = Upload::new(body);
    let telemetry = (entrance.listener == Listener::Functions).then(|| Arc::clone(&shared.telemetry));
    let mut exchange = Exchange::begin(&head, activity, telemetry);
    let waits_for_continue = head.headers.contains_key(EXPECT);

    let walk = AssertUnwindSafe(walk(shared, entrance, head, &mut upload, &mut exchange)).catch_unwind();
    let result = walk.await.unwrap_or_else(|panic| Err(panicked(panic.as_ref()).into()));
    exchange.received(upload.received());
    let is_slow = result.as_ref().is_err_and(|refused| refused.fault.code == Code::SlowRequest);
    let reply = result.unwrap_or_else(|refused| {
        let reply = match entrance.listener {
            Listener::Functions => status::reply(&refused.fault),
            Listener::Control => status::problem(&refused),
        };
        exchange.fail(refused.fault);
        reply
    });

    // HTTP/2 can tell the client to stop. HTTP/1 cannot: it sends the rest first, or finds the connection closed.
    let ended = upload.has_ended()
        || exchange.version() == Version::HTTP_2
        || (!is_slow && !waits_for_continue && upload.discard(shared.limits.discard_bytes_max, shared.limits.discard_time).await);
    drop(upload);
    exchange.answer(reply, !ended || activity.is_closing())
}

async fn walk(
    shared: &Shared,
    entrance: Entrance,
    head: Parts,
    upload: &mut Upload,
    exchange: &mut Exchange,
) -> Result<Reply, Refused> {
    check_uri(&head, shared.limits.uri_bytes_max)?;
    check_host(&head)?;
    match entrance.listener {
        Listener::Functions => Ok(functions(shared, entrance.from, head, upload, exchange).await?),
        Listener::Control => {
            let is_read = matches!(head.method, Method::GET | Method::HEAD);
            let reply = control::answer(shared, entrance.from, &head, upload).await?;
            // Until it is written: whoever asks for much may be slow to read it. What was done is told all the same.
            let mut share = shared.bodies.share(None);
            let held = share.resize(reply.body.len());
            if is_read {
                held?;
            }
            exchange.holds(share);
            Ok(reply)
        }
    }
}

/// What the listener for functions answers.
async fn functions(
    shared: &Shared,
    from: Option<IpAddr>,
    head: Parts,
    upload: &mut Upload,
    exchange: &mut Exchange,
) -> Result<Reply, Fault> {
    let target = |named: Named, scope: Scope| {
        let caller = keys::caller(&*shared.keys, &head.headers, from)?;
        caller.check(scope)?;
        named.of(&caller)
    };
    match route(&head.method, head.uri.path())? {
        Route::Server => Ok(protocol::server_metadata(shared.version)),
        Route::Live => Ok(protocol::live(true)),
        Route::Ready => Ok(protocol::ready(shared.unready().is_none())),
        Route::Model(named) => {
            let target = target(named, Scope::Invoke)?;
            shared.service.describe(&target).map(|model| protocol::model_metadata(target.function.as_str(), &model))
        }
        Route::ModelReady(named) => {
            let target = target(named, Scope::Invoke)?;
            shared.service.describe(&target).map(|model| protocol::model_ready(target.function.as_str(), model.ready))
        }
        Route::Index { tenant } => {
            let caller = keys::caller(&*shared.keys, &head.headers, from)?;
            caller.check(Scope::Invoke)?;
            let tenant = routes::own(&caller, tenant.as_ref())?;
            repository::index(shared, &tenant, upload).await
        }
        Route::Load(named) => repository::load(shared, target(named, Scope::Deploy)?, upload).await,
        Route::Unload(named) => repository::unload(shared, target(named, Scope::Deploy)?, upload).await,
        Route::Call { named, path_rest } => {
            exchange.calls(named.form);
            let target = target(named, Scope::Invoke)?;
            call(shared, target, request_head(head, path_rest), upload, exchange).await
        }
    }
}

async fn call(
    shared: &Shared,
    target: Target,
    head: RequestHead,
    upload: &mut Upload,
    exchange: &mut Exchange,
) -> Result<Reply, Fault> {
    let ticket = match shared.service.admit(&target, &head.method, &head.headers) {
        Ok(ticket) => ticket,
        Err(fault) => {
            exchange.refused(target, &fault);
            return Err(fault);
        }
    };
    exchange.admitted(target, ticket.release());
    let deadline = ticket.deadline();

    let until = Instant::from_std(deadline.instant()).min(Instant::now() + shared.limits.body_time);
    let bounds = UploadBounds { bytes_max: ticket.body_bytes_max(), bound: "the function's limit (body_bytes_max)", until };
    let (body, mut share) = upload.read(bounds, shared.bodies.share(Some(ticket.bodies()))).await?;

    let call = ticket.call(sandmill_domain::Request { head, body });
    let outcome = timeout_at(last_moment(deadline), call).await.map_err(|_elapsed| too_late())?;
    exchange.passed(outcome.stages);
    let reply = outcome.result?;
    // The ticket's permits are given back by now: they bound the work. The share bounds the bytes, until they are written.
    share.resize(reply.body.len())?;
    exchange.holds(share);
    Ok(reply)
}

fn check_uri(head: &Parts, bytes_max: usize) -> Result<(), Fault> {
    let bytes = head.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("the path and query are longer than {bytes_max} bytes (uri_bytes_max)");
    Err(Fault::new(Code::InvalidInput, message))
}

/// RFC 9112, section 3.2.
fn check_host(head: &Parts) -> Result<(), Fault> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if head.version == Version::HTTP_11 && hosts != 1 {
        return Err(Fault::new(Code::InvalidInput, format!("an HTTP/1.1 request has one `host` header, not {hosts}")));
    }
    Ok(())
}

fn request_head(mut head: Parts, path_rest: String) -> RequestHead {
    let query = head.uri.query().map(str::to_owned);
    // A caller's secret is the host's alone: a plugin could use it to call as the caller.
    head.headers.remove(AUTHORIZATION);
    RequestHead { method: head.method, path_rest, query, headers: head.headers }
}

fn last_moment(deadline: Deadline) -> Instant {
    Instant::from_std(deadline.instant()) + DEADLINE_GRACE
}

fn too_late() -> Fault {
    Fault::new(Code::DeadlineExceeded, "no answer within the function's time (timeout_ms), or the caller's own")
}

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no text").to_owned();
    tracing::error!(panic = text, "a request's code panicked");
    Fault::new(Code::Internal, "the host failed at this request").because(text)
}
