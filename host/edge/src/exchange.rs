//! One request and its answer, from the complete head to the last byte written, and its record: made once, on drop, however
//! it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use sandmill_domain::ports::{Form, Stages, Target};
use sandmill_domain::{BodyShare, Code, Fault, ReleaseNumber, Reply};
use sandmill_telemetry::{Record, Telemetry, Visit};

use crate::activity::Activity;
use crate::delivery::Delivery;

/// What frames a message or speaks of one hop is the host's to say, and so is the date; a reply that brings it could break
/// the connection's framing for the requests behind it. The only place where such headers are taken from a reply.
const FRAMING: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What is kept of a request's method and path for its record, in bytes: a client chooses both, and holds them in memory for
/// as long as it does not read its answer.
const METHOD_BYTES_MAX: usize = 16;
const PATH_BYTES_MAX: usize = 1 << 10;

/// What is known of one request so far.
pub(crate) struct Exchange {
    activity: Arc<Activity>,
    /// None where requests are not recorded.
    telemetry: Option<Arc<Telemetry>>,
    started: Instant,
    method: Method,
    path: Box<str>,
    version: Version,
    form: &'static str,
    reached: Option<Reached>,
    status: Option<StatusCode>,
    fault: Option<Fault>,
    received: u64,
    stages: Stages,
    /// Of the host's buffered bytes, what its answer takes.
    share: Option<BodyShare>,
    to_send: u64,
    sent: AtomicU64,
}

/// The function that a request reached.
struct Reached {
    visit: Visit,
    /// None if it was refused there.
    release: Option<ReleaseNumber>,
}

impl Exchange {
    /// A request whose head is complete.
    pub(crate) fn begin(head: &Parts, activity: &Arc<Activity>, telemetry: Option<Arc<Telemetry>>) -> Self {
        activity.enter();
        Self {
            activity: Arc::clone(activity),
            telemetry,
            started: Instant::now(),
            method: shortened(&head.method),
            path: beginning(head.uri.path()).into(),
            version: head.version,
            form: "other",
            reached: None,
            status: None,
            fault: None,
            received: 0,
            stages: Stages::default(),
            share: None,
            to_send: 0,
            sent: AtomicU64::new(0),
        }
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// It is a call in this form.
    pub(crate) fn calls(&mut self, form: Form) {
        self.form = match form {
            Form::Function => "function",
            Form::OpenInference => "oip",
        };
    }

    /// It was admitted.
    pub(crate) fn admitted(&mut self, target: Target, release: ReleaseNumber) {
        self.reached = self.telemetry.as_ref().map(|telemetry| {
            let visit = telemetry.admitted(target.tenant, target.function);
            Reached { visit, release: Some(release) }
        });
    }

    /// It was refused before its body, by a function that there is unless the fault says otherwise: a name that a caller
    /// made up must not become a label.
    pub(crate) fn refused(&mut self, target: Target, fault: &Fault) {
        if !matches!(fault.code, Code::NotFound | Code::NotReady) {
            self.reached = self.telemetry.as_ref().map(|telemetry| {
                let visit = telemetry.refused(target.tenant, target.function);
                Reached { visit, release: None }
            });
        }
    }

    /// Its stages took so long.
    pub(crate) fn passed(&mut self, stages: Stages) {
        self.stages = stages;
    }

    /// Its answer's share of the buffered bytes, given back when the answer is written or the connection has ended.
    pub(crate) fn holds(&mut self, share: BodyShare) {
        self.share = Some(share);
    }

    /// So much of its body was read.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.received = bytes;
    }

    /// It failed.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// So much of its answer's body is with the kernel.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Its answer, which ends the connection if it says so and the protocol can.
    pub(crate) fn answer(mut self, reply: Reply, close: bool) -> Response<Delivery> {
        self.status = Some(reply.status);
        let length = reply.body.len();
        let may_have_body = status_has_body(reply.status);
        let body = if may_have_body && self.method != Method::HEAD { reply.body } else { Bytes::new() };
        self.to_send = body.len() as u64;
        let (is_head, version) = (self.method == Method::HEAD, self.version);
        let mut response = Response::new(Delivery::new(body, self));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.reserve(reply.headers.len() + 2);
        for (name, value) in reply.headers {
            if !FRAMING.contains(&name) {
                headers.append(name, value);
            }
        }
        if is_head && may_have_body {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if close && version <= Version::HTTP_11 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn record(&self, telemetry: &Telemetry) {
        let sent = self.sent.load(Ordering::Relaxed);
        let gone = (self.status.is_none() || sent < self.to_send)
            .then(|| Fault::new(Code::Cancelled, "the client went away before it had its answer"));
        telemetry.record(&Record {
            function: self.reached.as_ref().map(|reached| &reached.visit),
            release: self.reached.as_ref().and_then(|reached| reached.release),
            form: self.form,
            method: self.method.as_str(),
            path: &self.path,
            status: self.status.map(|status| status.as_u16()),
            fault: self.fault.as_ref().or(gone.as_ref()),
            duration: self.started.elapsed(),
            received: self.received,
            sent,
            stages: self.stages,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.leave();
        // Whoever reads the record finds the bytes free.
        drop(self.share.take());
        if let Some(telemetry) = &self.telemetry {
            self.record(telemetry);
        }
    }
}

/// RFC 9110, sections 9.3.2, 15.3.5, 15.3.6 and 15.4.5.
fn status_has_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

fn shortened(method: &Method) -> Method {
    let name = method.as_str().as_bytes();
    // A part of a method's name is one, too.
    if name.len() <= METHOD_BYTES_MAX {
        method.clone()
    } else {
        Method::from_bytes(&name[..METHOD_BYTES_MAX]).unwrap_or_default()
    }
}

fn beginning(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_request_for_its_record_has_a_bound() {
        for (given, kept) in
            [(METHOD_BYTES_MAX, METHOD_BYTES_MAX), (METHOD_BYTES_MAX + 1, METHOD_BYTES_MAX), (30_000, METHOD_BYTES_MAX)]
        {
            let method = Method::from_bytes("M".repeat(given).as_bytes()).expect("a method");
            assert_eq!(shortened(&method).as_str(), "M".repeat(kept));
        }
        assert_eq!(shortened(&Method::HEAD), Method::HEAD);
        for (path, kept) in [("/a".to_owned(), 2), ("a".repeat(PATH_BYTES_MAX + 1), PATH_BYTES_MAX), ("ä€".repeat(500), 1022)]
        {
            assert_eq!(beginning(&path).len(), kept, "{path}");
        }
    }
}
