//! What the control listener answers: metrics and health. It asks the service for nothing but readiness.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use sandmill_domain::{Code, Fault, Reply};
use sandmill_protocol as protocol;
use sandmill_telemetry::Telemetry;

use crate::routes::only_reads;
use crate::shared::Shared;

/// The answer to `method` on `path`.
///
/// # Errors
/// `NotFound`, `MethodNotAllowed`; `Internal` if the metrics cannot be rendered.
pub(crate) fn answer(shared: &Shared, method: &Method, path: &str) -> Result<Reply, Fault> {
    let answer: fn(&Shared) -> Result<Reply, Fault> = match path {
        "/metrics" => metrics,
        "/live" | "/v2/health/live" => |_shared| Ok(protocol::live(true)),
        "/ready" | "/v2/health/ready" => |shared| Ok(protocol::ready(shared.is_ready())),
        _ => return Err(Fault::new(Code::NotFound, "nothing is served at this path; there is /metrics, /live and /ready")),
    };
    only_reads(method)?;
    answer(shared)
}

fn metrics(shared: &Shared) -> Result<Reply, Fault> {
    let text = shared.telemetry.render().map_err(|error| Fault::new(Code::Internal, "no metrics").because(error))?;
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(Telemetry::content_type()))];
    Ok(Reply { status: StatusCode::OK, headers, body: text.into() })
}
