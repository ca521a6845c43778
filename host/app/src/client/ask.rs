//! The control plane as functions: a method, a path, a body, and a typed answer.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::terminal::warn;
use super::{Access, Body, Exchange, Refusal, exchange};
use crate::cli::{OwnerOptions, RemoteOptions};
use crate::report::{json, say};

/// The largest answer that is taken: five hundred records, a thousand functions.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What an operator forgets.
const WHOSE: &str = "an operator says whose things are meant: --tenant NAME, SANDMILL_TENANT, or `sandmill profile set`";

/// How long most answers may take.
const TIME: Duration = Duration::from_secs(60);

/// One server's control plane.
pub(crate) struct Plane {
    pub(crate) access: Access,
    time: Duration,
    json: bool,
}

/// What it answered.
pub(crate) struct Told {
    /// The state that it was true in.
    pub(crate) revision: Option<HeaderValue>,
    body: Bytes,
}

impl Told {
    /// The answer.
    ///
    /// # Errors
    /// If it is not what this client knows.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).context("the server's answer is not understood; is it as new as this client?")
    }
}

impl Plane {
    /// The one that the options lead to; nothing is asked yet.
    pub(crate) fn open(options: &RemoteOptions, json: bool) -> Result<Self> {
        let mut access = Access::find(&options.who)?;
        if let Some(control) = &options.control {
            access.control = control.clone();
        }
        if access.key.is_some() && access.control.is_open() {
            warn(&format!("the key goes to {} without TLS: others on the way can read it", access.control));
        }
        Ok(Self { access, time: options.timeout.map_or(TIME, Duration::from_secs), json })
    }

    /// The same, or the one that answers operators about themselves.
    pub(crate) fn open_for(options: &OwnerOptions, json: bool) -> Result<Self> {
        let mut plane = Self::open(&options.remote, json)?;
        if options.operators {
            plane.access.tenant = None;
        }
        Ok(plane)
    }

    /// With this time for what takes long, unless somebody says otherwise.
    pub(crate) fn patient(mut self, options: &RemoteOptions, time: Duration) -> Self {
        if options.timeout.is_none() {
            self.time = time;
        }
        self
    }

    /// A path of the tenant's, if one is named.
    pub(crate) fn path(&self, path: &str) -> String {
        match &self.access.tenant {
            Some(tenant) => format!("/v1/tenants/{tenant}/{path}"),
            None => format!("/v1/{path}"),
        }
    }

    /// Asks without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Result<Told> {
        self.send(method, path, None, Body::new(Full::default().map_err(|never| match never {}))).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Told> {
        self.ask(Method::GET, path).await
    }

    /// Asks with a small body, which is JSON.
    pub(crate) async fn tell(
        &self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
        body: &impl Serialize,
    ) -> Result<Told> {
        let body = serde_json::to_vec(body).context("what is asked makes no JSON")?;
        let body = Body::new(Full::new(Bytes::from(body)).map_err(|never| match never {}));
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(method, path, header.into_iter().chain([json]), body).await
    }

    /// Asks with whatever body.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: Body,
    ) -> Result<Told> {
        let Access { control, trust, key, .. } = &self.access;
        let mut request = Request::new(body);
        let is_plain = matches!(method, Method::GET | Method::DELETE);
        *request.method_mut() = method;
        *request.uri_mut() = control.path(path).parse().with_context(|| format!("`{path}` is no path"))?;
        let authorization = key.as_ref().map(|key| (AUTHORIZATION, key.header()));
        request.headers_mut().extend(headers.into_iter().chain(authorization));
        let how = Exchange { server: control, trust, time: self.time, bytes_max: ANSWER_BYTES_MAX };
        let answer = exchange(&how, request).await?;
        if !answer.status.is_success() {
            let refusal = Refusal::new(answer.status, answer.body);
            // Nothing else can be wrong with what has no body, and whose path was made here.
            let is_bare = self.access.tenant.is_none() && is_plain;
            return Err(if is_bare { refusal.if_invalid(WHOSE) } else { refusal }.into());
        }
        Ok(Told { revision: revision(&answer.headers), body: answer.body })
    }

    /// Tells the person: the answer as it came, or in words.
    pub(crate) fn show<T: DeserializeOwned>(&self, told: &Told, words: impl FnOnce(T) -> String) -> Result<()> {
        if self.json {
            json(&told.body);
        } else {
            say(&words(told.read()?));
        }
        Ok(())
    }

    /// Tells the person of what has no answer but that it was done.
    pub(crate) fn show_done(&self, words: &str) {
        if self.json { json(b"{}") } else { say(words) }
    }
}

fn revision(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).cloned()
}

/// Runs what is asked to its end.
pub(crate) fn block_on<T>(asking: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(asking)
}
