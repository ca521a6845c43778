//! The line that the log has of one request to the control plane: written once, however it ends. No secret is in it, as none is
//! in a path.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, StatusCode};
use sandmill_domain::control::{Refused, Step};
use sandmill_domain::{Blame, Caller, TenantId};

use crate::status;

/// What is kept of a path, in bytes.
const PATH_BYTES_MAX: usize = 1 << 10;

/// What is known of one request so far.
pub(crate) struct Line<'a> {
    head: &'a Parts,
    from: Option<IpAddr>,
    key: Option<Arc<str>>,
    tenant: Option<TenantId>,
    started: Instant,
    is_written: bool,
}

impl<'a> Line<'a> {
    pub(crate) fn begin(head: &'a Parts, from: Option<IpAddr>) -> Self {
        Self { head, from, key: None, tenant: None, started: Instant::now(), is_written: false }
    }

    /// Where it came from.
    pub(crate) fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// The caller's key is known.
    pub(crate) fn is_asked_by(&mut self, caller: &Caller) {
        self.key = Some(Arc::clone(&caller.key));
    }

    /// It is about this tenant's things, or about no tenant's.
    pub(crate) fn is_about(&mut self, tenant: Option<&TenantId>) {
        self.tenant = tenant.cloned();
    }

    /// It has come to this.
    pub(crate) fn end(mut self, result: Result<StatusCode, &Refused>) {
        self.write(Some(result));
        self.is_written = true;
    }

    /// At `warn` if we or a tenant's code failed, at `debug` if somebody has looked at something, at `info` otherwise.
    fn write(&self, result: Option<Result<StatusCode, &Refused>>) {
        let refused = result.and_then(Result::err);
        // As texts, which are quoted: much of them comes from strangers.
        let error = refused.map(|refused| refused.fault.report().to_string());
        let from = self.from.map(|from| from.to_string());
        let path = self.head.uri.path();
        let told = |result: Result<StatusCode, &Refused>| result.unwrap_or_else(|refused| status::status(refused.fault.code));
        let status = result.map_or_else(|| "-".to_owned(), |result| told(result).as_u16().to_string());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    form = "control",
                    from = from.as_deref(),
                    key = self.key.as_deref(),
                    tenant = self.tenant.as_ref().map(TenantId::as_str),
                    method = self.head.method.as_str(),
                    path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)],
                    status = status.as_str(),
                    code = refused.map(|refused| refused.fault.code.name()),
                    blame = refused.map(|refused| refused.fault.blame.name()),
                    step = refused.and_then(|refused| refused.step).map(Step::as_str),
                    error = error.as_deref(),
                    duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
                )
            };
        }
        match result {
            Some(Err(refused)) if refused.fault.blame != Blame::Caller => line!(warn),
            Some(Ok(_)) if matches!(self.head.method, Method::GET | Method::HEAD) => line!(debug),
            _ => line!(info),
        }
    }
}

impl Drop for Line<'_> {
    /// The client went away, or the request's code panicked, which is in the log besides: there is no status.
    fn drop(&mut self) {
        if !self.is_written {
            self.write(None);
        }
    }
}
