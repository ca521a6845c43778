//! Which HTTP status a fault becomes, and which an answer of the control plane, and the reply that tells the client. No other
//! place decides statuses.

use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use sandmill_domain::control::{Answer, Refused};
use sandmill_domain::{Advice, Code, Fault, Header, Reply};
use sandmill_protocol::{fault_body, problem_body};

/// What a client is told to wait when nobody knows better.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// The status that nginx writes to its log when the client has gone; no client ever sees it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The status of a code.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidInput => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::SlowRequest => StatusCode::REQUEST_TIMEOUT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Code::PluginFailed
        | Code::PluginTrapped
        | Code::PluginOutOfMemory
        | Code::PluginBadOutput
        | Code::PluginForbidden
        | Code::ModelFailed
        | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Overloaded | Code::NotReady | Code::ModelUnhealthy | Code::ModelOutOfMemory => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded | Code::PluginTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST),
    }
}

/// The status of an answer of the control plane, which does not say itself whether a tenant is new.
pub(crate) fn answered(answer: &Answer, adds_tenant: bool) -> StatusCode {
    match answer {
        Answer::Gone {} => StatusCode::NO_CONTENT,
        Answer::KeyAdded { .. } => StatusCode::CREATED,
        Answer::PluginAdded(plugin) if plugin.added => StatusCode::CREATED,
        Answer::ModelAdded(model) if model.added => StatusCode::CREATED,
        Answer::Tenant(_) if adds_tenant => StatusCode::CREATED,
        Answer::Deployed(deployment) if deployment.previous.is_none() && !deployment.dry_run => StatusCode::CREATED,
        _ => StatusCode::OK,
    }
}

/// The reply that tells the client of `fault`.
pub(crate) fn reply(fault: &Fault) -> Reply {
    Reply { status: status(fault.code), headers: headers("application/json", fault), body: fault_body(fault) }
}

/// The same on the control listener: RFC 9457.
pub(crate) fn problem(refused: &Refused) -> Reply {
    let (status, headers) = (status(refused.fault.code), headers("application/problem+json", &refused.fault));
    Reply { status, headers, body: problem_body(refused, status) }
}

fn headers(content_type: &'static str, fault: &Fault) -> Vec<Header> {
    let content_type = (CONTENT_TYPE, HeaderValue::from_static(content_type));
    [Some(content_type), retry_after(fault), allow(fault), challenge(fault)].into_iter().flatten().collect()
}

/// The reply as HTTP/1.1 bytes, for a connection on which no request was read.
pub(crate) fn closing_bytes(fault: &Fault) -> Vec<u8> {
    let reply = reply(fault);
    let mut bytes =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", reply.status, reply.body.len()).into_bytes();
    for (name, value) in &reply.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&reply.body);
    bytes
}

fn retry_after(fault: &Fault) -> Option<Header> {
    let wait = match (&fault.advice, fault.code) {
        (Some(Advice::RetryAfter(wait)), _) => *wait,
        (_, Code::TooManyRequests | Code::Overloaded | Code::NotReady | Code::ModelUnhealthy | Code::ModelOutOfMemory) => {
            RETRY_AFTER_DEFAULT
        }
        _ => return None,
    };
    // The header takes whole seconds, and 0 would invite a storm.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Some((RETRY_AFTER, HeaderValue::from(seconds.max(1))))
}

fn allow(fault: &Fault) -> Option<Header> {
    let Some(Advice::Allow(methods)) = &fault.advice else { return None };
    HeaderValue::from_str(&methods.join(", ")).ok().map(|methods| (ALLOW, methods))
}

/// RFC 9110, section 11.6.1: a 401 says how to come again.
fn challenge(fault: &Fault) -> Option<Header> {
    (fault.code == Code::Unauthorized).then(|| (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(fault: &Fault, name: &http::HeaderName) -> Option<String> {
        let value = reply(fault).headers.into_iter().find(|(given, _)| given == name)?.1;
        value.to_str().ok().map(str::to_owned)
    }

    #[test]
    fn every_code_has_its_status() {
        let cases = [
            (Code::InvalidInput, 400),
            (Code::Unauthorized, 401),
            (Code::Forbidden, 403),
            (Code::Conflict, 409),
            (Code::StorageFull, 507),
            (Code::NotFound, 404),
            (Code::MethodNotAllowed, 405),
            (Code::SlowRequest, 408),
            (Code::TooLarge, 413),
            (Code::UnsupportedMedia, 415),
            (Code::Unprocessable, 422),
            (Code::Unsupported, 501),
            (Code::TooManyRequests, 429),
            (Code::PluginFailed, 500),
            (Code::ModelFailed, 500),
            (Code::ModelUnhealthy, 503),
            (Code::Internal, 500),
            (Code::Overloaded, 503),
            (Code::NotReady, 503),
            (Code::DeadlineExceeded, 504),
            (Code::Cancelled, 499),
        ];
        for (code, expected) in cases {
            assert_eq!(status(code).as_u16(), expected, "{code:?}");
        }
    }

    #[test]
    fn advice_becomes_headers() {
        let waits = [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (5000, "5")];
        for (millis, expected) in waits {
            let fault = Fault::new(Code::TooManyRequests, "x").advising(Advice::RetryAfter(Duration::from_millis(millis)));
            assert_eq!(header(&fault, &RETRY_AFTER).as_deref(), Some(expected), "{millis} ms");
        }
        assert_eq!(header(&Fault::new(Code::Overloaded, "x"), &RETRY_AFTER).as_deref(), Some("1"));
        assert_eq!(header(&Fault::new(Code::InvalidInput, "x"), &RETRY_AFTER), None);
        let wrong = Fault::new(Code::MethodNotAllowed, "x").advising(Advice::Allow(vec!["GET".into(), "HEAD".into()]));
        assert_eq!(header(&wrong, &ALLOW).as_deref(), Some("GET, HEAD"));
    }
}
