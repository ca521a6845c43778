//! What the control listener answers: metrics, health, and where models stand. What a caller may do there is not asked yet: it
//! listens where its operator alone is.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use sandmill_domain::{Code, Fault, FunctionName, Reply, TenantId};
use sandmill_protocol as protocol;
use sandmill_telemetry::Telemetry;

use crate::routes::{only_posts, only_reads};
use crate::shared::Shared;

/// The answer to `method` on `path`.
///
/// # Errors
/// `NotFound`, `MethodNotAllowed`; `Internal` if the metrics cannot be rendered.
pub(crate) fn answer(shared: &Shared, method: &Method, path: &str) -> Result<Reply, Fault> {
    if let Some(rest) = path.strip_prefix("/functions/") {
        return function(shared, method, rest);
    }
    let answer: fn(&Shared) -> Result<Reply, Fault> = match path {
        "/metrics" => metrics,
        "/live" | "/v2/health/live" => |_shared| Ok(protocol::live(true)),
        "/ready" => |shared| Ok(shared.unready().map_or_else(|| protocol::ready(true), |reason| protocol::unready(&reason))),
        "/v2/health/ready" => |shared| Ok(protocol::ready(shared.unready().is_none())),
        _ => return Err(unknown()),
    };
    only_reads(method)?;
    answer(shared)
}

/// `{function}/models` and `{function}/models/{model}/recycle`.
fn function(shared: &Shared, method: &Method, path: &str) -> Result<Reply, Fault> {
    let parts: Vec<&str> = path.splitn(5, '/').collect();
    let tenant = TenantId::local();
    let name = |name| FunctionName::new(name).map_err(|error| Fault::new(Code::NotFound, error.to_string()));
    match parts[..] {
        [function, "models"] => {
            only_reads(method)?;
            Ok(protocol::models(function, &shared.service.models(&tenant, &name(function)?)?))
        }
        [function, "models", model, "recycle"] => {
            only_posts(method)?;
            shared.service.recycle(&tenant, &name(function)?, model)?;
            Ok(protocol::recycling(model))
        }
        _ => Err(unknown()),
    }
}

fn unknown() -> Fault {
    let message = "nothing is served at this path; there is /metrics, /live, /ready, /functions/{function}/models and \
        /functions/{function}/models/{model}/recycle";
    Fault::new(Code::NotFound, message)
}

fn metrics(shared: &Shared) -> Result<Reply, Fault> {
    let text = shared.telemetry.render().map_err(|error| Fault::new(Code::Internal, "no metrics").because(error))?;
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(Telemetry::content_type()))];
    Ok(Reply { status: StatusCode::OK, headers, body: text.into() })
}
