//! What the control listener answers: metrics, health, where models stand, and below `/v1` the control plane.

use std::net::IpAddr;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use sandmill_domain::control::Refused;
use sandmill_domain::{Caller, Code, Fault, Reply, Scope};
use sandmill_protocol as protocol;
use sandmill_telemetry::Telemetry;

use crate::keys;
use crate::plane;
use crate::routes::{self, hide, only_posts, only_reads};
use crate::shared::Shared;
use crate::upload::Upload;

/// The answer to a request, whose body is read where it has one.
///
/// # Errors
/// `NotFound`, `MethodNotAllowed`, `Unauthorized`, `Forbidden`; `Internal` if the metrics cannot be rendered; whatever the control
/// plane refuses.
pub(crate) async fn answer(shared: &Shared, from: Option<IpAddr>, head: &Parts, upload: &mut Upload) -> Result<Reply, Refused> {
    let path = head.uri.path();
    if path == "/v1" || path.starts_with("/v1/") {
        return plane::answer(shared, from, head, upload).await;
    }
    let health: fn(&Shared) -> Reply = match path {
        "/live" | "/v2/health/live" => |_shared| protocol::live(true),
        "/ready" => |shared| match shared.unready() {
            Some(reason) => protocol::unready(&reason),
            None => protocol::ready_with(&shared.service.remarks()),
        },
        "/v2/health/ready" => |shared| protocol::ready(shared.unready().is_none()),
        _ => {
            let caller = || keys::caller(&*shared.keys, &head.headers, from);
            return Ok(with_a_key(shared, &head.method, path, caller)?);
        }
    };
    only_reads(&head.method)?;
    Ok(health(shared))
}

/// What is not for everybody.
fn with_a_key(
    shared: &Shared,
    method: &Method,
    path: &str,
    caller: impl FnOnce() -> Result<Caller, Fault>,
) -> Result<Reply, Fault> {
    if path == "/metrics" {
        only_reads(method)?;
        return metrics(shared, &caller()?);
    }
    let (tenant, path) = routes::tenant(path, unknown)?;
    let parts: Vec<&str> = path.strip_prefix("/functions/").ok_or_else(unknown)?.splitn(5, '/').collect();
    let tenant = || {
        let caller = caller()?;
        caller.check(Scope::Deploy)?;
        caller.tenant(tenant.as_ref()).map_err(|fault| hide(fault, unknown))
    };
    match parts[..] {
        [function, "models"] => {
            only_reads(method)?;
            Ok(protocol::models(function, &shared.service.models(&tenant()?, &routes::function(function)?)?))
        }
        [function, "models", model, "recycle"] => {
            only_posts(method)?;
            shared.service.recycle(&tenant()?, &routes::function(function)?, model)?;
            Ok(protocol::recycling(model))
        }
        _ => Err(unknown()),
    }
}

/// What there is nothing at, or nothing of the caller's.
pub(crate) fn unknown() -> Fault {
    let message = "nothing is served at this path; there is /metrics, /live, /ready, /functions/{function}/models, \
        /functions/{function}/models/{model}/recycle and what /v1/openapi.json describes; functions may have /tenants/{tenant} \
        before them, or in it, behind /v1";
    Fault::new(Code::NotFound, message)
}

/// All of them for an operator; for a tenant, its own.
fn metrics(shared: &Shared, caller: &Caller) -> Result<Reply, Fault> {
    let tenant = caller.tenant.as_ref().filter(|_tenant| shared.keys.exist());
    let text = shared.telemetry.render(tenant).map_err(|error| Fault::new(Code::Internal, "no metrics").because(error))?;
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(Telemetry::content_type()))];
    Ok(Reply { status: StatusCode::OK, headers, body: text.into() })
}
