//! Requests that a granted plugin sends to other hosts: `wasi:http`, with a way to the network of our own. Each request is
//! checked by its name (`target`) and again by the address that it leads to (`address`), gets a connection of its own
//! (`connect`, `tls`) that ends with the guest's own request, and is bounded in number, time and size (`exchange`, `body`).

mod address;
mod body;
mod connect;
mod exchange;
mod linking;
mod target;
mod tls;

use std::future;
use std::sync::Arc;

use http::{HeaderName, Method, Request, Response};
use sandmill_domain::{Deadline, Origin, PluginLimits};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::Level;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::lines::Lines;
pub(crate) use crate::outgoing::linking::link;

use crate::outgoing::exchange::{Exchange, Times};
use crate::outgoing::target::Target;
use crate::state::{Facts, State};
use crate::wasi::Wasi;

/// Requests of one invocation.
const REQUESTS_MAX: usize = 16;
/// Connections that it has open at once.
const CONNECTIONS_MAX: usize = 4;
/// Names that one function has resolved at once.
const LOOKUPS_MAX: usize = 4;
/// What the guest may write of a request's body before the network has taken it; twice that is kept.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Where a function's requests may go, and how much they may carry.
pub(crate) struct Outgoing(Arc<Rules>);

struct Rules {
    granted: Vec<Origin>,
    /// Of the host's list, the addresses.
    host_addresses: Vec<Origin>,
    /// Of a request's or a response's body.
    body_bytes_max: usize,
    header_bytes_max: usize,
    lookups: Arc<Semaphore>,
}

impl Outgoing {
    /// `granted` is the function's list, `host` what its host lists at most.
    pub(crate) fn new(granted: &[Origin], host: &[Origin], limits: &PluginLimits) -> Self {
        Self(Arc::new(Rules {
            granted: granted.to_vec(),
            host_addresses: host.iter().filter(|origin| origin.address().is_some()).cloned().collect(),
            body_bytes_max: limits.output_bytes_max,
            header_bytes_max: limits.header_bytes_max,
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }))
    }
}

/// The requests of one invocation. Dropping it ends its connections.
pub(crate) struct Session {
    context: WasiHttpCtx,
    sender: Sender,
    requests_left: usize,
}

struct Sender {
    /// Without, everything is denied.
    rules: Option<Arc<Rules>>,
    deadline: Instant,
    lines: Arc<Lines>,
    places: Arc<Semaphore>,
    open: watch::Sender<()>,
}

impl Session {
    fn new(facts: &Facts, deadline: Deadline, lines: &Arc<Lines>) -> Self {
        let mut context = WasiHttpCtx::new();
        // A guest holds as many of these as it has handles.
        context.set_field_size_limit(facts.limits.header_bytes_max);
        let sender = Sender {
            rules: facts.outgoing.as_ref().map(|outgoing| Arc::clone(&outgoing.0)),
            deadline: deadline.instant().into(),
            lines: Arc::clone(lines),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            open: watch::Sender::new(()),
        };
        Self { context, sender, requests_left: REQUESTS_MAX }
    }

    /// Whether there may be another request, which counts.
    fn count(&mut self) -> bool {
        let left = self.requests_left.checked_sub(1);
        self.requests_left = left.unwrap_or_default();
        left.is_some()
    }
}

impl Sender {
    fn admit(&self, request: &Request<WasiBody>, options: Option<RequestOptions>) -> Result<Exchange, Error> {
        let rules = self.rules.as_ref().ok_or(Error::HttpRequestDenied)?;
        // What it would open is a tunnel, whose end nobody checks.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let target = Target::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        if !target.is_among(&rules.granted) {
            self.lines.write(Level::WARN, &format!("a request to {target} is denied: the function is not granted it"));
            return Err(Error::HttpRequestDenied);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_none| Error::ConnectionLimitReached)?;
        Ok(Exchange {
            target,
            rules: Arc::clone(rules),
            times: Times::new(options.unwrap_or_default(), self.deadline),
            lines: Arc::clone(&self.lines),
            closed: self.open.subscribe(),
            place,
        })
    }
}

/// The rest of a connection's work, after a response's head.
type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Sender {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_processed: Rest,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Rest), Error>> + Send> {
        match self.admit(&request, options) {
            Ok(exchange) => Box::new(exchange.run(request)),
            Err(error) => Box::new(future::ready(Err(error))),
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

impl State {
    fn session(&mut self) -> &mut Session {
        let Self { http, facts, lines, deadline, .. } = self;
        http.get_or_insert_with(|| Box::new(Session::new(facts, *deadline, lines)))
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.session();
        let Self { wasi, http, facts, lines, .. } = self;
        let Session { context, sender, .. } = &mut **http.as_mut().expect("invariant: it was just made");
        WasiHttpCtxView { hooks: sender, table: &mut Wasi::of(wasi, lines, facts).table, ctx: context }
    }
}
